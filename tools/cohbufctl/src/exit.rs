// SPDX-License-Identifier: GPL-2.0

//! What the command exits with. The help, the man pages and the tests go by this list.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitCode;

use cohbuf::share::ShareError;
use cohbuf::{Errno, Operation};

use crate::error::Error;

/// Why it ended. The numbers are an interface: they do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NoDevice = 3,
    NotPermitted = 4,
    Refused = 5,
    Differs = 6,
    NotABuffer = 7,
}

impl Exit {
    pub(crate) const ALL: [(Self, &'static str); 8] = [
        (Self::Done, "done"),
        (
            Self::Failed,
            "failed; the message on standard error says why, and what to do",
        ),
        (Self::Usage, "the arguments are not understood"),
        (
            Self::NoDevice,
            "a device file is not there: is the module loaded?",
        ),
        (
            Self::NotPermitted,
            "not permitted: run as root, or let your group have the device file",
        ),
        (
            Self::Refused,
            "the importer refused the buffer, and no other way worked",
        ),
        (
            Self::Differs,
            "the bytes differ from what they must be (check, share --verify, demo)",
        ),
        (
            Self::NotABuffer,
            "the file descriptor is not open, is no dma-buf, or is not one of cohbuf",
        ),
    ];

    /// Of an error.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::Cohbuf(error) => of_library(error),
            Error::Share(ShareError::Buffer(error)) => of_library(error),
            Error::Share(ShareError::Importer(failure)) => of_errno(failure.errno),
            Error::Share(_) => Self::Refused,
            Error::Wrong { .. } | Error::Deviates(_) | Error::Differs { .. } => Self::Differs,
            Error::Importer { error, .. } => of_library(error),
            Error::Demo { errno, .. } => of_errno(*errno),
            Error::Trace(error) => {
                let errno = Errno::from_io_error(error);
                errno.map_or(Self::Failed, of_errno)
            }
            Error::NotOpen(_) => Self::NotABuffer,
            Error::OtherProcess { errno, .. } => match *errno {
                Errno::BADF | Errno::SRCH => Self::NotABuffer,
                errno => of_errno(errno),
            },
            _ => Self::Failed,
        }
    }
}

fn of_library(error: &cohbuf::Error) -> Exit {
    match (error.operation(), error.errno()) {
        (Operation::Open | Operation::Udmabuf | Operation::Drm, errno) => of_errno(errno),
        (_, Errno::MEDIUMTYPE | Errno::BADF | Errno::NOTTY | Errno::SPIPE) => Exit::NotABuffer,
        (Operation::Info | Operation::Size, Errno::INVAL) => Exit::NotABuffer,
        _ => Exit::Failed,
    }
}

fn of_errno(errno: Errno) -> Exit {
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => Exit::NoDevice,
        Errno::ACCESS | Errno::PERM => Exit::NotPermitted,
        _ => Exit::Failed,
    }
}

/// What the process ends with: as the program does that it ran, as a shell has it, or by the list.
pub(crate) fn code(error: &Error) -> ExitCode {
    let Error::Ended { status, .. } = error else {
        return Exit::of(error).into();
    };
    let signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(signal).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What stands beside the list.
pub(crate) const OF_A_PROGRAM: &str = "create --exec and trace with a program end as that program \
    does: with its own status, or with 128 + N where signal N has ended it.";

/// The list as the help shows it.
pub(crate) fn help() -> String {
    let lines = Exit::ALL.map(|(exit, text)| format!("  {}  {text}", exit as u8));
    format!("Exit status:\n{}\n\n{OF_A_PROGRAM}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_order_and_unique() {
        for (number, (exit, _)) in Exit::ALL.iter().enumerate() {
            assert_eq!(*exit as usize, number);
        }
    }

    #[test]
    fn the_documentation_has_the_same_list() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../Documentation/cohbufctl.rst"
        );
        let page = std::fs::read_to_string(page).unwrap();
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        for (exit, text) in Exit::ALL {
            let row = format!("* - {} - {text}", exit as u8);
            assert!(
                page.contains(&row),
                "not in Documentation/cohbufctl.rst: {row}"
            );
        }
        let page = page.replace('`', "");
        assert!(page.contains(OF_A_PROGRAM.trim_end_matches('.')));
    }

    #[test]
    fn a_program_gives_its_own() {
        let of = |raw| {
            code(&Error::Ended {
                program: "it".to_owned(),
                status: std::process::ExitStatus::from_raw(raw),
            })
        };
        assert_eq!(of(3 << 8), ExitCode::from(3));
        assert_eq!(of(255 << 8), ExitCode::from(255));
        // SIGINT.
        assert_eq!(of(2), ExitCode::from(130));
        assert_eq!(code(&Error::NotOpen(9)), ExitCode::from(7));
    }

    #[test]
    fn errors_have_the_status_that_is_documented() {
        let of = |errno| {
            Exit::of(&Error::Demo {
                what: String::new(),
                errno,
            })
        };
        let importer = |file: &str| {
            let error = cohbuf::share::DrmDevice::open(file).unwrap_err();
            Exit::of(&Error::Importer {
                with: file.to_owned(),
                error,
            })
        };
        assert_eq!(importer("/nonexistent"), Exit::NoDevice);
        assert_eq!(importer("/dev/null"), Exit::Failed);
        assert_eq!(of(Errno::NOENT), Exit::NoDevice);
        assert_eq!(of(Errno::ACCESS), Exit::NotPermitted);
        assert_eq!(of(Errno::NOMEM), Exit::Failed);
        assert_eq!(Exit::of(&Error::NotOpen(9)), Exit::NotABuffer);
        let no_way = Error::Share(ShareError::NoWay(Vec::new()));
        assert_eq!(Exit::of(&no_way), Exit::Refused);
        let wrong = Error::Wrong { wrong: 1, bytes: 2 };
        assert_eq!(Exit::of(&wrong), Exit::Differs);
        let gone = Error::OtherProcess {
            pid: 1,
            fd: 1,
            errno: Errno::SRCH,
        };
        assert_eq!(Exit::of(&gone), Exit::NotABuffer);
    }
}
