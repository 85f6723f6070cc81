// SPDX-License-Identifier: GPL-2.0

//! `cohbufctl`: create, look at, share, watch and measure dma-bufs.

#![deny(unsafe_code)]
// They panic where nothing can be written.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod buffers;
mod cli;
mod demo;
mod errno;
mod error;
mod exit;
mod fds;
mod fill;
mod list;
mod man;
mod pattern;
mod progress;
mod share;
mod show;
mod signals;
mod size;
mod system;
mod trace;
mod transfer;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::show::Look;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let look = Look::new(cli.json, cli.bytes);
    let result = match cli.command {
        Command::Caps => buffers::caps(look),
        Command::Create(args) => buffers::create(&args, look),
        Command::Info(args) => buffers::info(&args, look),
        Command::List(args) => list::list(&args, look),
        Command::Share(args) => share::share(&args, look),
        Command::Sync(args) => transfer::sync(&args, look),
        Command::Copy(args) => transfer::copy(&args, look),
        Command::Fill(args) => fill::fill(&args, look),
        Command::Check(args) => fill::check(&args, look),
        Command::Watch(args) => watch::watch(&args, look),
        Command::Bench(args) => bench::bench(&args, look),
        Command::Trace(args) => trace::trace(&args, look),
        Command::Demo(args) => demo::run(&args, look),
        Command::DemoPoison(args) => demo::poison(&args),
        Command::DemoReport(args) => demo::report(&args, look),
        Command::Completions(args) => man::completions(&args, look),
        Command::Copier => system::copy_input(),
        Command::Man(args) => man::man(&args, look),
    };
    match result {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            show::note(&error.to_string());
            exit::code(&error)
        }
    }
}
