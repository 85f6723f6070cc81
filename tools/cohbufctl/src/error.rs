// SPDX-License-Identifier: GPL-2.0

//! What can stop a command.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use cohbuf::Errno;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Cohbuf(#[from] cohbuf::Error),
    #[error(transparent)]
    Share(#[from] cohbuf::share::ShareError),
    #[error("{with}: {error}")]
    Importer { with: String, error: cohbuf::Error },
    #[error("the importer has {wrong} of {bytes} bytes wrong")]
    Wrong { wrong: u64, bytes: u64 },
    #[error("cannot write to standard output: {0}")]
    Stdout(io::Error),
    #[error("{program}: {status}")]
    Ended { program: String, status: ExitStatus },
    #[error("cannot run {program}: {error}")]
    Exec { program: String, error: io::Error },
    #[error(
        "cannot get file descriptor {fd} of process {pid}: {errno} (run as root, and while the process lives)"
    )]
    OtherProcess { pid: i32, fd: i32, errno: Errno },
    #[error("file descriptor {0} is not open in this process: hand it on, or use --pid")]
    NotOpen(i32),
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} is not a demo's result: {error}", path.display())]
    Parse {
        path: PathBuf,
        error: serde_json::Error,
    },
    #[error("no bytes are in the region")]
    Empty,
    #[error("rows of {length} bytes overlap, as they are {stride} apart")]
    Overlap { length: u64, stride: u64 },
    #[error("the region is past the end of the buffer, which has {size} bytes")]
    PastTheEnd { size: u64 },
    #[error("{different} of {bytes} bytes differ, the first at offset {first}")]
    Differs {
        different: u64,
        bytes: u64,
        first: u64,
    },
    #[error("watch needs a terminal for its output: use `cohbufctl watch --json` in scripts ({0})")]
    NoTerminal(&'static str),
    #[error("cannot use the terminal: {0}")]
    Terminal(io::Error),
    #[error("cannot draw {}: {error}", path.display())]
    Plot { path: PathBuf, error: String },
    #[error("there is nothing to measure: {0}")]
    NothingToMeasure(String),
    #[error("cannot trace: {0} (needs root, tracefs at {mount}, and cohbuf.ko loaded)", mount = cohbuf_trace::MOUNT)]
    Trace(io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error("{} is not a recording: {error}", path.display())]
    Recording {
        path: PathBuf,
        error: serde_json::Error,
    },
    #[error("cannot {what}: {errno}")]
    Demo { what: String, errno: Errno },
    #[error("the demo did not go as the contract says:\n  {}", .0.join("\n  "))]
    Deviates(Vec<String>),
}

pub(crate) type Result<T> = core::result::Result<T, Error>;
