// SPDX-License-Identifier: GPL-2.0

//! What a test lets another process do: this program again, with `--child`.

use std::process::{Command, ExitCode, Output};

use cohbuf::{CreateFlags, Device, Errno};
use rustix::fs::{Mode, OFlags, open};

use crate::harness::Stop;

/// Runs a command of `main` in a process of its own.
pub(crate) fn run(arguments: &[&str]) -> Result<Output, Stop> {
    Ok(Command::new("/proc/self/exe")
        .arg("--child")
        .args(arguments)
        .output()?)
}

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["create-in-cgroup", cgroup, size] => create_in_cgroup(cgroup, size),
        ["is-open", fd] => Ok(if std::path::Path::new("/proc/self/fd").join(fd).exists() {
            "yes".to_owned()
        } else {
            "no".to_owned()
        }),
        ["many-files", limit] => many_files(limit),
        _ => Err(format!("no such child: {words:?}")),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what the cgroup is charged before, with and after a buffer, in bytes;
/// or the errno of CREATE.
fn create_in_cgroup(cgroup: &str, size: &str) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let size: u64 = size.parse().map_err(|error| text(&error))?;
    std::fs::write(format!("{cgroup}/cgroup.procs"), "0").map_err(|error| text(&error))?;
    let charged = || {
        std::fs::read_to_string(format!("{cgroup}/memory.current"))
            .map(|number| number.trim().to_owned())
            .map_err(|error| text(&error))
    };
    let device = Device::open().map_err(|error| text(&error))?;
    let before = charged()?;
    let buffer = match device.create(size, CreateFlags::empty()) {
        Ok(buffer) => buffer,
        Err(error) => return Ok(format!("errno {}", error.errno().raw_os_error())),
    };
    let with = charged()?;
    drop(buffer);
    // Files are released on the way out of a system call, and the charge of
    // freed pages may be given back in batches.
    std::thread::sleep(std::time::Duration::from_millis(200));
    Ok(format!("{before} {with} {}", charged()?))
}

/// Takes all file descriptors up to a limit, then creates. Prints the errno.
fn many_files(limit: &str) -> Result<String, String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let limit: u64 = limit.parse().map_err(|error| text(&error))?;
    let device = Device::open().map_err(|error| text(&error))?;
    let rlimit = Rlimit {
        current: Some(limit),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, rlimit).map_err(|errno| text(&errno))?;
    let mut files = Vec::new();
    loop {
        match open("/dev/null", OFlags::RDONLY, Mode::empty()) {
            Ok(file) => files.push(file),
            Err(Errno::MFILE) => break,
            Err(errno) => return Err(errno.to_string()),
        }
    }
    for _ in 0..100 {
        match device.create(4096, CreateFlags::empty()) {
            Err(error) if error.errno() == Errno::MFILE => {}
            Err(error) => return Err(error.to_string()),
            Ok(_) => return Err("a file descriptor above the limit".to_owned()),
        }
    }
    // With one file less it works again.
    files.pop();
    device
        .create(4096, CreateFlags::empty())
        .map(|_| "EMFILE".to_owned())
        .map_err(|error| error.to_string())
}
