// SPDX-License-Identifier: GPL-2.0

//! `cohbufctl`: create, look at, share and demonstrate cohbuf's dma-bufs.

#![deny(unsafe_code)]

mod buffers;
mod cli;
mod demo;
mod errno;
mod error;
mod fds;
mod share;
mod show;
mod size;
mod transfer;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Caps(args) => buffers::caps(&args),
        Command::Create(args) => buffers::create(&args),
        Command::Info(args) => buffers::info(&args),
        Command::Share(args) => share::share(&args),
        Command::Sync(args) => transfer::sync(&args),
        Command::Copy(args) => transfer::copy(&args),
        Command::Demo(args) => demo::run(&args),
        Command::DemoPoison(args) => demo::poison(&args),
        Command::DemoReport(args) => demo::report(&args),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "cohbufctl", &mut script);
            std::io::stdout()
                .write_all(&script)
                .map_err(error::Error::Stdout)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cohbufctl: {error}");
            ExitCode::FAILURE
        }
    }
}
