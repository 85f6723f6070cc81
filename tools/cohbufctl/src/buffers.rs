// SPDX-License-Identifier: GPL-2.0

//! `caps`, `create` and `info`.

use std::os::unix::process::CommandExt as _;

use cohbuf::{CreateFlags, Device, Errno, Info};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};

use crate::cli::{CapsArgs, CreateArgs, InfoArgs};
use crate::error::{Error, Result};

pub(crate) fn caps(args: &CapsArgs) -> Result<()> {
    let caps = Device::open()?.caps()?;
    let known = CreateFlags::from_bits_retain(caps.flags as u32);
    show(
        args.json,
        &json!({
            "version": caps.version,
            "flags": flag_names(known),
            "max_size": caps.max_size,
            "page_size": caps.page_size,
        }),
    );
    Ok(())
}

pub(crate) fn create(args: &CreateArgs) -> Result<()> {
    let device = Device::open()?;
    let mut flags = CreateFlags::empty();
    flags.set(CreateFlags::COHERENT, args.coherent);
    flags.set(CreateFlags::WRITE_COMBINE, args.write_combine);
    let buffer = device.create(args.size, flags)?;
    let mut shown = describe(&device.info(&buffer)?);
    let fd: OwnedFd = buffer.into_fd();
    shown["pid"] = json!(std::process::id());
    shown["fd"] = json!(fd.as_raw_fd());
    show(args.json, &shown);

    if args.hold {
        // What ends this is a signal, and with the process goes the buffer.
        loop {
            std::thread::park();
        }
    }
    if let [program, arguments @ ..] = args.exec.as_slice() {
        let failed = |error| Error::Exec {
            program: program.clone(),
            error,
        };
        fcntl_setfd(&fd, FdFlags::empty()).map_err(|errno| failed(errno.into()))?;
        return Err(failed(
            std::process::Command::new(program)
                .args(arguments)
                .env("COHBUF_FD", fd.as_raw_fd().to_string())
                .exec(),
        ));
    }
    Ok(())
}

pub(crate) fn info(args: &InfoArgs) -> Result<()> {
    let fd = match args.pid {
        Some(pid) => from_process(pid, args.fd).map_err(|errno| Error::OtherProcess {
            pid,
            fd: args.fd,
            errno,
        })?,
        // A second descriptor of our own: the inherited one is not ours to own.
        None => {
            from_process(std::process::id() as i32, args.fd).map_err(|_| Error::NotOpen(args.fd))?
        }
    };
    show(args.json, &describe(&Device::open()?.info(&fd)?));
    Ok(())
}

fn from_process(pid: i32, fd: i32) -> core::result::Result<OwnedFd, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty())
}

fn describe(info: &Info) -> Value {
    json!({
        "flags": flag_names(info.flags),
        "size": info.size,
        "segments": info.segments,
        "attachments": info.attachments,
        "mappings": info.mappings,
        "bounced": info.bounced,
        "write_windows": info.write_windows,
        "refused_attach": info.refused_attach,
        "refused_map": info.refused_map,
        "syncs_for_cpu": info.syncs_for_cpu,
        "syncs_for_device": info.syncs_for_device,
    })
}

/// Known flags by name, others as a number.
fn flag_names(flags: CreateFlags) -> Vec<String> {
    let known = flags
        .iter_names()
        .map(|(name, _)| name.to_ascii_lowercase());
    let unknown = flags.difference(CreateFlags::all()).bits();
    known
        .chain((unknown != 0).then(|| format!("{unknown:#x}")))
        .collect()
}

/// Prints an object as JSON, or a line for each of its fields.
fn show(as_json: bool, object: &Value) {
    if as_json {
        println!("{object:#}");
        return;
    }
    for (name, value) in object.as_object().into_iter().flatten() {
        let text = match value {
            Value::Array(items) if items.is_empty() => "none".to_owned(),
            Value::Array(items) => items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect::<Vec<_>>()
                .join(", "),
            other => other.to_string(),
        };
        println!("{:<18}{text}", name.replace('_', " "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_names() {
        assert_eq!(flag_names(CreateFlags::empty()), Vec::<String>::new());
        assert_eq!(flag_names(CreateFlags::COHERENT), ["coherent"]);
        assert_eq!(flag_names(CreateFlags::WRITE_COMBINE), ["write_combine"]);
        assert_eq!(
            flag_names(CreateFlags::from_bits_retain(0x81)),
            ["coherent", "0x80"]
        );
    }
}
