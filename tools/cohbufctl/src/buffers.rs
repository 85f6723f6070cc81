// SPDX-License-Identifier: GPL-2.0

//! `caps`, `create` and `info`.

use std::os::unix::process::CommandExt as _;

use bitflags::Flags;
use cohbuf::{Attachment, CreateFlags, Device, Info};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

use crate::cli::{CreateArgs, Enforce, InfoArgs};
use crate::error::{Error, Result};
use crate::fds;
use crate::show::{Look, show};

pub(crate) fn caps(look: Look) -> Result<()> {
    let caps = Device::open()?.caps()?;
    let known = CreateFlags::from_bits_retain(caps.flags as u32);
    show(
        look,
        &json!({
            "version": caps.version,
            "flags": flag_names(&known),
            "max_size": caps.max_size,
            "page_size": caps.page_size,
        }),
    )
}

pub(crate) fn create(args: &CreateArgs, look: Look) -> Result<()> {
    let device = Device::open()?;
    let mut builder = device.buffer(args.size).flags(flags(args));
    if let Some(name) = &args.name {
        builder = builder.name(name);
    }
    let buffer = builder.create()?;
    let (info, attachments) = device.inspect(&buffer)?;
    let mut shown = describe(&info, &attachments);
    let fd: OwnedFd = buffer.into_fd();
    shown["pid"] = json!(std::process::id());
    shown["fd"] = json!(fd.as_raw_fd());
    show(look, &shown)?;

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

fn flags(args: &CreateArgs) -> CreateFlags {
    let mut flags = CreateFlags::empty();
    flags.set(CreateFlags::COHERENT, args.coherent);
    flags.set(CreateFlags::WRITE_COMBINE, args.write_combine);
    flags.set(CreateFlags::CONTIGUOUS, args.contiguous);
    flags.set(CreateFlags::TRACK_DIRTY, args.track_dirty);
    match args.enforce {
        Some(Enforce::Report) => flags |= CreateFlags::ENFORCE_REPORT,
        Some(Enforce::Poison) => flags |= CreateFlags::ENFORCE_POISON,
        None => {}
    }
    flags
}

pub(crate) fn info(args: &InfoArgs, look: Look) -> Result<()> {
    let fd = fds::open(args.buffer.fd, args.buffer.pid)?;
    let (info, attachments) = Device::open()?.inspect(&fd)?;
    show(look, &describe(&info, &attachments))
}

fn describe(info: &Info, attachments: &[Attachment]) -> Value {
    let importers: Vec<Value> = attachments.iter().map(importer).collect();
    json!({
        "flags": flag_names(&info.flags),
        "size": info.size,
        "segments": info.segments,
        "caching": info.caching.to_string(),
        "state": flag_names(&info.state),
        "attachments": info.attachments,
        "mappings": info.mappings,
        "bounced": info.bounced,
        "write_windows": info.write_windows,
        "refused_attach": info.refused_attach,
        "refused_map": info.refused_map,
        "syncs_for_cpu": info.syncs_for_cpu,
        "syncs_for_device": info.syncs_for_device,
        "bytes_cleaned": info.bytes_cleaned,
        "bytes_invalidated": info.bytes_invalidated,
        "bytes_to_copies": info.bytes_to_copies,
        "bytes_from_copies": info.bytes_from_copies,
        "bytes_own_ops": info.bytes_own_ops,
        "bytes_saved": info.bytes_saved,
        "outside_reads": info.outside_reads,
        "outside_writes": info.outside_writes,
        "importers": importers,
    })
}

fn importer(attachment: &Attachment) -> Value {
    json!({
        "device": attachment.device,
        "driver": attachment.driver,
        "flags": flag_names(&attachment.flags),
        "mappings": attachment.mappings,
        "bounced": attachment.bounced,
        "reach": attachment.reach.to_string(),
    })
}

/// Known flags by name, others as a number.
pub(crate) fn flag_names<F: Flags<Bits = u32>>(flags: &F) -> Vec<String> {
    let known = flags
        .iter_names()
        .map(|(name, _)| name.to_ascii_lowercase());
    let unknown = flags.bits() & !F::all().bits();
    known
        .chain((unknown != 0).then(|| format!("{unknown:#x}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    /// What CREATE knows can be asked for.
    #[test]
    fn every_flag_has_an_option() {
        let mut all = CreateFlags::empty();
        for line in [
            "--coherent --contiguous",
            "--write-combine",
            "--track-dirty --enforce report",
            "--enforce poison",
        ] {
            let words = ["cohbufctl", "create"].into_iter().chain(line.split(' '));
            let cli = crate::cli::Cli::try_parse_from(words).unwrap();
            let crate::cli::Command::Create(args) = cli.command else {
                panic!("not create");
            };
            all |= flags(&args);
        }
        assert_eq!(all, CreateFlags::all());
    }

    #[test]
    fn flags_have_names() {
        assert_eq!(flag_names(&CreateFlags::empty()), Vec::<String>::new());
        assert_eq!(flag_names(&CreateFlags::COHERENT), ["coherent"]);
        assert_eq!(flag_names(&CreateFlags::WRITE_COMBINE), ["write_combine"]);
        assert_eq!(
            flag_names(&(CreateFlags::TRACK_DIRTY | CreateFlags::ENFORCE_POISON)),
            ["track_dirty", "enforce_poison"]
        );
        assert_eq!(
            flag_names(&CreateFlags::from_bits_retain(0x81)),
            ["coherent", "0x80"]
        );
    }
}
