// SPDX-License-Identifier: GPL-2.0

//! What the command does where its output goes nowhere.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

const COMMANDS: [&[&str]; 4] = [
    &["list"],
    &["list", "--json"],
    &["completions", "bash"],
    // It fails before that, and says so where it can.
    &["info", "--fd", "999"],
];

fn run(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohbufctl"));
    command.args(words).stdin(Stdio::null());
    command
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn check(words: &[&str], output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    if words[0] == "info" {
        assert_eq!(output.status.code(), Some(7), "{words:?}: {said}");
    } else {
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        let must = "cohbufctl: cannot write to standard output: ";
        assert!(said.starts_with(must), "{words:?}: {said}");
    }
    assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
}

#[test]
fn standard_output_is_full() {
    for words in COMMANDS {
        check(words, &run(words).stdout(full()).output().unwrap());
    }
}

#[test]
fn nobody_reads_standard_output() {
    for words in COMMANDS {
        let (ours, other) = UnixStream::pair().unwrap();
        drop(ours);
        let output = run(words).stdout(OwnedFd::from(other)).output().unwrap();
        check(words, &output);
    }
}

#[test]
fn standard_error_is_full() {
    for (words, status) in COMMANDS.iter().zip([0, 0, 0, 7]) {
        let output = run(words).stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{words:?}");
    }
}
