// SPDX-License-Identifier: GPL-2.0

//! Reads a file of the kernel that locks one buffer after the other, and all of them meanwhile:
//! nobody creates or closes one while the reader waits.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::error::{Error, Result};

/// In a process of its own, which is killed when there is no more patience.
pub(super) fn read(path: &Path, patience: Duration) -> io::Result<Option<String>> {
    let mut copier = Command::new("/proc/self/exe");
    copier.arg(crate::cli::COPIER);
    read_by(copier, path, patience)
}

/// That process.
pub(crate) fn copy_input() -> Result<()> {
    // Whoever waited for it may be gone meanwhile, with all buffers locked.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Error::Read {
        path: "/dev/stdin".into(),
        error,
    })?;
    io::stdout().write_all(&bytes).map_err(Error::Stdout)
}

fn read_by(mut copier: Command, path: &Path, patience: Duration) -> io::Result<Option<String>> {
    let mut child = copier
        .stdin(File::open(path)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let Some(mut output) = child.stdout.take() else {
        return Ok(None);
    };
    let (sender, all) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.read_to_end(&mut bytes);
        let _ = sender.send(read.map(|_| bytes));
    });
    let answer = all.recv_timeout(patience);
    if answer.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    match answer {
        Err(_) => Ok(None),
        Ok(Ok(bytes)) if status.success() => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Ok(Ok(_)) => Err(io::Error::other("it cannot be read")),
        Ok(Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_file_and_one_that_hangs() {
        let path = Path::new("/proc/version");
        let hour = Duration::from_secs(3600);
        let text = read_by(Command::new("cat"), path, hour).unwrap().unwrap();
        assert!(text.starts_with("Linux version "), "{text}");

        let began = Instant::now();
        let mut hangs = Command::new("sleep");
        hangs.arg("3600");
        let answer = read_by(hangs, path, Duration::from_millis(50)).unwrap();
        assert_eq!(answer, None);
        assert!(began.elapsed() < Duration::from_secs(60));

        assert!(read_by(Command::new("false"), path, hour).is_err());
        let error = read_by(Command::new("cat"), Path::new("/no/such"), hour).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
