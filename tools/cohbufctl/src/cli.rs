// SPDX-License-Identifier: GPL-2.0

//! What can be asked of the command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::size;

/// Create, look at and demonstrate dma-bufs that know which device can see what.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the driver can do
    Caps(CapsArgs),
    /// Create a buffer, show it, and keep it or hand it to a program
    Create(CreateArgs),
    /// Show what is known of a buffer: its flags, who is attached, what was refused
    Info(InfoArgs),
    /// Run the demonstration (needs the test importer; meant for a virtual machine)
    Demo(DemoArgs),
    /// Print the results of one or more demonstrations as a table
    DemoReport(ReportArgs),
    /// Print a script that completes this command's arguments
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CapsArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Bytes, rounded up to whole pages; KiB, MiB and GiB are understood
    #[arg(long, default_value = "16MiB", value_parser = size::parse)]
    pub(crate) size: u64,
    /// Refuse every importer that is not DMA-coherent
    #[arg(long)]
    pub(crate) coherent: bool,
    /// Let the CPU see the memory past its caches
    #[arg(long, conflicts_with = "coherent")]
    pub(crate) write_combine: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep the buffer until interrupted (Ctrl-C)
    #[arg(long, conflicts_with = "exec")]
    pub(crate) hold: bool,
    /// Run a program that inherits the buffer; it finds the number of the file
    /// descriptor in COHBUF_FD
    #[arg(long, num_args = 1.., value_name = "CMD", allow_hyphen_values = true)]
    pub(crate) exec: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// File descriptor of the buffer
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) fd: i32,
    /// Process that has it open; without this it is one that was inherited
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: Option<i32>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How the guest was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Boot {
    /// Devices reach all memory themselves
    Plain,
    /// With swiotlb=force: every streaming mapping is bounced
    Swiotlb,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for demo.json and picture.png; made where it is not there
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// How the guest was started
    #[arg(long)]
    pub(crate) boot: Boot,
    /// Stop moving pages through the device after this many seconds
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folders that `demo --out` wrote
    #[arg(required = true)]
    pub(crate) dirs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exec_takes_the_rest() {
        let cli = Cli::try_parse_from(["cohbufctl", "create", "--exec", "ls", "-l", "/"]).unwrap();
        let Command::Create(args) = cli.command else {
            panic!("not create");
        };
        assert_eq!(args.exec, ["ls", "-l", "/"]);
    }

    #[test]
    fn hold_and_exec_exclude_each_other() {
        assert!(Cli::try_parse_from(["cohbufctl", "create", "--hold", "--exec", "ls"]).is_err());
    }
}
