// SPDX-License-Identifier: GPL-2.0

//! A file that is written at the end, of which is known from the beginning that it can be.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What is in the file stays until it is written. One that was not there is not left behind empty.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    file: File,
    remove: bool,
}

impl Output {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = |new| {
            let mut options = File::options();
            options.write(true).create(true).truncate(false);
            options.create_new(new).open(path)
        };
        let opened = match open(true) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open(false).map(|file| (file, false))
            }
            made => made.map(|file| (file, true)),
        };
        let (file, remove) = opened.map_err(|error| failed(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            remove,
        })
    }

    pub(super) fn write(mut self, text: &str) -> Result<()> {
        self.remove = false;
        self.replace(text)
            .map_err(|error| failed(&self.path, error))
    }

    fn replace(&mut self, text: &str) -> io::Result<()> {
        // A pipe has no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.remove {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::Write {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_as_they_were_until_they_are_written() {
        let path = std::env::temp_dir().join(format!("cohbufctl-output-{}", std::process::id()));
        drop(Output::open(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "longer than what comes").unwrap();
        let output = Output::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().len(), 22);
        output.write("what comes").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "what comes");
        drop(Output::open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "what comes");
        fs::remove_file(&path).unwrap();
        Output::open(&path).unwrap().write("new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let below = path.join("none");
        assert!(matches!(Output::open(&below), Err(Error::Write { .. })));
        fs::remove_file(&path).unwrap();
        Output::open(Path::new("/dev/null"))
            .unwrap()
            .write("gone")
            .unwrap();
        let full = Output::open(Path::new("/dev/full")).unwrap();
        assert!(matches!(full.write("none"), Err(Error::Write { .. })));
    }
}
