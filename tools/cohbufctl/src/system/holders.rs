// SPDX-License-Identifier: GPL-2.0

//! Who holds dma-bufs, by /proc.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a link in /proc/PID/fd, and a line of /proc/PID/maps, calls a dma-buf.
const PREFIX: &str = "/dmabuf:";

/// A process that has a dma-buf open, or mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) pid: i32,
    pub(crate) command: String,
    pub(crate) fds: Vec<i32>,
    /// Bytes of its address space.
    pub(crate) mapped: u64,
}

/// What /proc/PID/fdinfo/FD says of a dma-buf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FdInfo {
    inode: u64,
    pub(super) size: u64,
    pub(super) references: u64,
    pub(super) exporter: String,
    pub(super) name: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) info: Option<FdInfo>,
    pub(super) holders: Vec<Holder>,
}

impl Seen {
    /// Processes, and numbers of descriptors that they have.
    pub(super) fn places(&self) -> Vec<(i32, i32)> {
        let all = self.holders.iter();
        all.flat_map(|holder| holder.fds.iter().map(|fd| (holder.pid, *fd)))
            .collect()
    }
}

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) buffers: BTreeMap<u64, Seen>,
    /// Processes that do not let us look.
    pub(super) unreadable: usize,
}

/// A file with names in it that any user sets, which are bytes.
pub(super) fn read(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

pub(super) fn scan(proc: &Path) -> Found {
    let mut found = Found::default();
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        let dir = proc.join(pid.to_string());
        match process(pid, &dir, &mut found.buffers) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                found.unreadable += 1;
            }
            // It is gone, or a kernel thread.
            Ok(()) | Err(_) => {}
        }
    }
    found
}

fn process(pid: i32, dir: &Path, buffers: &mut BTreeMap<u64, Seen>) -> io::Result<()> {
    let mut held: BTreeMap<u64, Holder> = BTreeMap::new();
    for entry in fs::read_dir(dir.join("fd"))?.flatten() {
        let is_ours = fs::read_link(entry.path())
            .is_ok_and(|link| link.as_os_str().as_bytes().starts_with(PREFIX.as_bytes()));
        let Some(fd) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if !is_ours {
            continue;
        }
        let text = read(&dir.join("fdinfo").join(entry.file_name()));
        let Some(info) = text.ok().and_then(|text| parse(&text)) else {
            continue;
        };
        held.entry(info.inode).or_default().fds.push(fd);
        let seen = buffers.entry(info.inode).or_default();
        seen.info = Some(info);
    }
    let maps = read(&dir.join("maps")).unwrap_or_default();
    for (inode, bytes) in maps.lines().filter_map(mapped) {
        held.entry(inode).or_default().mapped += bytes;
    }
    let command = read(&dir.join("comm")).unwrap_or_default();
    for (inode, mut holder) in held {
        holder.pid = pid;
        let command = command.strip_suffix('\n').unwrap_or(&command);
        command.clone_into(&mut holder.command);
        holder.fds.sort_unstable();
        buffers.entry(inode).or_default().holders.push(holder);
    }
    Ok(())
}

fn parse(text: &str) -> Option<FdInfo> {
    // The last field, which may be of any bytes.
    let (fields, name) = match text.split_once("\nname:\t") {
        Some((fields, name)) => (fields, Some(name.strip_suffix('\n').unwrap_or(name))),
        None => (text, None),
    };
    let field = |name: &str| {
        fields
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
    };
    Some(FdInfo {
        inode: field("ino")?.trim().parse().ok()?,
        size: field("size")?.trim().parse().ok()?,
        references: field("count")?.trim().parse().ok()?,
        exporter: field("exp_name")?.to_owned(),
        name: name.map(str::to_owned),
    })
}

/// Inode and bytes of a line of maps that is of a dma-buf: "range mode offset device inode path".
fn mapped(line: &str) -> Option<(u64, u64)> {
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let inode = words.nth(3)?.parse().ok()?;
    // A file may be called so, too, but is in a directory.
    if !words.next()?.trim_start_matches(' ').starts_with(PREFIX) {
        return None;
    }
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((inode, number(end)?.checked_sub(number(start)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_of_a_dma_buf() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t18\nsize:\t4096\ncount:\t1\n\
                    exp_name:\tcohbuf\n";
        let info = parse(text).unwrap();
        assert_eq!((info.inode, info.size, info.references), (18, 4096, 1));
        assert_eq!(info.name, None);
        let named = parse(&format!("{text}name:\tframe: 0\n")).unwrap();
        assert_eq!(named.name.as_deref(), Some("frame: 0"));
        assert_eq!(parse("pos:\t0\nflags:\t02\nmnt_id:\t1\nino:\t4\n"), None);
        // Whatever is in a name is the name.
        let forged = parse(&format!("{text}name:\ta\nname:\tb\nino:\t9\n")).unwrap();
        assert_eq!(forged.inode, 18);
        assert_eq!(forged.name.as_deref(), Some("a\nname:\tb\nino:\t9"));
    }

    #[test]
    fn lines_of_maps() {
        let line = "7f0000000000-7f0000010000 rw-s 00001000 00:0b 18          /dmabuf:frame 0";
        assert_eq!(mapped(line), Some((18, 0x10000)));
        for other in [
            "7f00-7f10 r--p 00000000 fd:01 18 /lib/libc.so",
            "7f00-7f10 r--p 00000000 fd:01 18     /tmp/dmabuf:x",
            "7f00-7f10 r--p 00000000 fd:01 18     /tmp/a /dmabuf:x",
            "7f00-7f10 rw-p 00000000 00:00 0 ",
        ] {
            assert_eq!(mapped(other), None, "{other}");
        }
    }
}
