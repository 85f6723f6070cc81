// SPDX-License-Identifier: GPL-2.0

//! The dma-bufs of the whole system, from what the kernel shows: debugfs has all of them
//! with their attachments, /proc has who holds them, and cohbuf what it knows of its own.

mod bufinfo;
mod holders;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use cohbuf::{Attachment, Device, Info};
use serde::{Deserialize, Serialize};

use crate::show::printable;
use crate::{buffers, fds};

pub(crate) use holders::Holder;

/// A dma-buf of any exporter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DmaBuf {
    /// What tells it from all others.
    pub(crate) inode: u64,
    pub(crate) name: Option<String>,
    pub(crate) exporter: String,
    pub(crate) size: u64,
    /// References to the file: descriptors, mappings, importers.
    pub(crate) references: u64,
    /// Names of the devices that are attached. `None` where debugfs cannot be read.
    pub(crate) attached: Option<Vec<String>>,
    pub(crate) holders: Vec<Holder>,
    /// What cohbuf knows of one that it made.
    pub(crate) cohbuf: Option<Known>,
}

/// What `COHBUF_IOCTL_INFO` says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) flags: Vec<String>,
    pub(crate) state: Vec<String>,
    pub(crate) caching: String,
    pub(crate) mappings: u32,
    pub(crate) bounced: u32,
    pub(crate) write_windows: u32,
    pub(crate) refused: u64,
    pub(crate) outside: u64,
    pub(crate) bytes: Bytes,
    pub(crate) importers: Vec<Importer>,
}

/// What was maintained since the buffer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bytes {
    pub(crate) cleaned: u64,
    pub(crate) invalidated: u64,
    pub(crate) copied: u64,
    pub(crate) own_ops: u64,
    pub(crate) saved: u64,
}

/// An importer, as cohbuf knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Importer {
    pub(crate) device: String,
    pub(crate) driver: String,
    pub(crate) flags: Vec<String>,
    pub(crate) mappings: u32,
    pub(crate) reach: String,
}

impl DmaBuf {
    /// What kind of buffer it is, in a word or two.
    pub(crate) fn kind(&self) -> String {
        let Some(known) = &self.cohbuf else {
            return "-".to_owned();
        };
        if known.state.iter().any(|state| state == "poisoned") {
            return "poisoned".to_owned();
        }
        let short = |flag: &String| match flag.as_str() {
            "write_combine" => "wc".to_owned(),
            "contiguous" => "contig".to_owned(),
            "track_dirty" => "dirty".to_owned(),
            "enforce_report" => "report".to_owned(),
            "enforce_poison" => "poison".to_owned(),
            other => other.to_owned(),
        };
        let mut words: Vec<String> = known.flags.iter().map(short).collect();
        if !known
            .flags
            .iter()
            .any(|flag| flag == "coherent" || flag == "write_combine")
        {
            words.insert(0, "bracketed".to_owned());
        }
        words.join("+")
    }

    /// How many devices are attached, as far as is known.
    pub(crate) fn importers(&self) -> Option<usize> {
        match (&self.cohbuf, &self.attached) {
            (Some(known), _) => Some(known.importers.len()),
            (None, attached) => attached.as_ref().map(Vec::len),
        }
    }

    /// The name, or a sign that there is none.
    pub(crate) fn shown_name(&self) -> Cow<'_, str> {
        printable(self.name.as_deref().unwrap_or("-"))
    }

    /// Who holds it, in a few words.
    pub(crate) fn held_by(&self) -> String {
        let words = self
            .holders
            .iter()
            .map(|holder| format!("{}({})", printable(&holder.command), holder.pid));
        match words.collect::<Vec<_>>() {
            words if words.is_empty() => "-".to_owned(),
            words => words.join(" "),
        }
    }
}

impl Known {
    fn new(info: &Info, importers: &[Attachment]) -> Self {
        Self {
            flags: buffers::flag_names(&info.flags),
            state: buffers::flag_names(&info.state),
            caching: info.caching.to_string(),
            mappings: info.mappings,
            bounced: info.bounced,
            write_windows: info.write_windows,
            refused: info.refused_attach.saturating_add(info.refused_map),
            outside: info.outside_reads.saturating_add(info.outside_writes),
            bytes: Bytes {
                cleaned: info.bytes_cleaned,
                invalidated: info.bytes_invalidated,
                copied: info.bytes_to_copies.saturating_add(info.bytes_from_copies),
                own_ops: info.bytes_own_ops,
                saved: info.bytes_saved,
            },
            importers: importers
                .iter()
                .map(|one| Importer {
                    device: one.device.clone(),
                    driver: one.driver.clone(),
                    flags: buffers::flag_names(&one.flags),
                    mappings: one.mappings,
                    reach: one.reach.to_string(),
                })
                .collect(),
        }
    }
}

/// All dma-bufs at a moment, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) buffers: Vec<DmaBuf>,
    /// What is missing, and what to do about it.
    pub(crate) missing: Vec<String>,
}

/// Where the kernel shows things.
pub(crate) struct Sources {
    bufinfo: PathBuf,
    proc: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            bufinfo: "/sys/kernel/debug/dma_buf/bufinfo".into(),
            proc: "/proc".into(),
        }
    }
}

impl Sources {
    #[cfg(test)]
    fn below(root: &std::path::Path) -> Self {
        Self {
            bufinfo: root.join("bufinfo"),
            proc: root.join("proc"),
        }
    }

    /// Reads all that can be read.
    pub(crate) fn look(&self) -> Snapshot {
        let mut snapshot = self.read();
        let device = Device::open();
        let ours = |buffer: &&mut DmaBuf| buffer.exporter == "cohbuf";
        for buffer in snapshot.buffers.iter_mut().filter(ours) {
            let Ok(device) = &device else { continue };
            buffer.cohbuf = buffer.holders.iter().find_map(|holder| {
                let fd = fds::open(*holder.fds.first()?, Some(holder.pid)).ok()?;
                let (info, importers) = device.inspect(&fd).ok()?;
                Some(Known::new(&info, &importers))
            });
        }
        let unknown = |buffer: &DmaBuf| buffer.exporter == "cohbuf" && buffer.cohbuf.is_none();
        if snapshot.buffers.iter().any(unknown) {
            let why = match &device {
                Err(error) => error.to_string(),
                Ok(_) => "no process holds a descriptor that this one may take".to_owned(),
            };
            snapshot
                .missing
                .push(format!("what cohbuf knows of some of its buffers: {why}"));
        }
        snapshot
    }

    /// What files say.
    fn read(&self) -> Snapshot {
        let mut buffers: BTreeMap<u64, DmaBuf> = BTreeMap::new();
        let mut missing = Vec::new();
        match holders::read(&self.bufinfo) {
            Ok(text) => {
                for buffer in bufinfo::parse(&text) {
                    buffers.insert(buffer.inode, buffer);
                }
            }
            Err(error) => missing.push(format!(
                "attachments, and buffers that no process holds: {}: {error} (run as root, \
                 with debugfs: mount -t debugfs debugfs /sys/kernel/debug)",
                self.bufinfo.display()
            )),
        }
        let found = holders::scan(&self.proc);
        if found.unreadable > 0 {
            missing.push(format!(
                "what {} process(es) of others hold (run as root)",
                found.unreadable
            ));
        }
        for (inode, seen) in found.buffers {
            let buffer = buffers.entry(inode).or_insert_with(|| DmaBuf {
                inode,
                ..DmaBuf::default()
            });
            if let Some(info) = seen.info {
                buffer.exporter = info.exporter;
                buffer.size = info.size;
                buffer.name = info.name.or(buffer.name.take());
                // The one of bufinfo is from another moment.
                if buffer.references == 0 {
                    buffer.references = info.references;
                }
            }
            buffer.holders = seen.holders;
        }
        Snapshot {
            buffers: buffers.into_values().collect(),
            missing,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// A tree as the kernel shows it, of two processes and three buffers.
    fn tree(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("cohbufctl-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let file = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file("bufinfo", bufinfo::tests::TEXT);
        for (pid, command, fds) in [(12, "camera", [3, 4].as_slice()), (90, "display", &[7])] {
            file(&format!("proc/{pid}/comm"), &format!("{command}\n"));
            for fd in fds {
                let inode = if *fd == 4 { 19 } else { 18 };
                let text = format!(
                    "pos:\t0\nflags:\t02000002\nmnt_id:\t11\nino:\t{inode}\nsize:\t65536\n\
                     count:\t2\nexp_name:\tcohbuf\nname:\tframe 0\n"
                );
                file(&format!("proc/{pid}/fdinfo/{fd}"), &text);
                let link = root.join(format!("proc/{pid}/fd/{fd}"));
                fs::create_dir_all(link.parent().unwrap()).unwrap();
                std::os::unix::fs::symlink("/dmabuf:frame 0", link).unwrap();
            }
            let link = root.join(format!("proc/{pid}/fd/0"));
            std::os::unix::fs::symlink("/dev/null", link).unwrap();
        }
        file(
            "proc/90/maps",
            "7f00-7f10 rw-s 00000000 00:0b 18    /dmabuf:frame 0\n\
             7f1000-7f2000 rw-p 00000000 00:00 0    [heap]\n",
        );
        file("proc/self/comm", "no process by a number\n");
        root
    }

    #[test]
    fn sources_are_put_together_by_inode() {
        let root = tree("together");
        let snapshot = Sources::below(&root).read();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(snapshot.missing, Vec::<String>::new());
        let inodes: Vec<u64> = snapshot.buffers.iter().map(|buffer| buffer.inode).collect();
        assert_eq!(inodes, [17, 18, 19]);

        let shared = &snapshot.buffers[1];
        assert_eq!(shared.name.as_deref(), Some("frame 0"));
        assert_eq!(shared.exporter, "cohbuf");
        assert_eq!(
            shared.attached.as_deref(),
            Some(&["vgem".to_owned(), "0000:00:02.0".to_owned()][..])
        );
        assert_eq!(shared.held_by(), "camera(12) display(90)");
        assert_eq!(shared.holders[1].mapped, 0x10);
        assert_eq!(shared.holders[0].fds, [3]);

        // Not in debugfs when that was read.
        assert_eq!(snapshot.buffers[2].attached, None);
        assert_eq!(snapshot.buffers[2].size, 65536);
        // Of no process.
        assert_eq!(snapshot.buffers[0].held_by(), "-");
    }

    #[test]
    fn names_are_any_bytes() {
        let root = tree("bytes");
        let bytes = |path: &str, from: &[u8], to: &[u8]| {
            let path = root.join(path);
            let is = fs::read(&path).unwrap();
            let at = is.windows(from.len()).position(|part| part == from);
            let (head, tail) = is.split_at(at.unwrap());
            fs::write(path, [head, to, &tail[from.len()..]].concat()).unwrap();
        };
        bytes("bufinfo", b"frame 0", b"\xff");
        bytes("proc/12/fdinfo/3", b"frame 0", b"\xff\n\x1b[2J");
        bytes("proc/12/comm", b"camera", b"\x1b]0;\xfe");
        bytes("proc/90/fdinfo/7", b"frame 0", b"\xff\n\x1b[2J");
        bytes("proc/90/maps", b"[heap]", b"/home/\xfe");
        let snapshot = Sources::below(&root).read();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(snapshot.missing, Vec::<String>::new());
        let shared = &snapshot.buffers[1];
        assert_eq!(shared.name.as_deref(), Some("\u{fffd}\n\u{1b}[2J"));
        assert_eq!(shared.shown_name(), "\u{fffd}\\n\\u{1b}[2J");
        assert_eq!(shared.held_by(), "\\u{1b}]0;\u{fffd}(12) display(90)");
        assert_eq!(shared.attached.as_ref().map(Vec::len), Some(2));
        assert_eq!(shared.holders[1].mapped, 0x10);
    }

    #[test]
    fn what_is_missing_is_said() {
        let root = tree("missing");
        fs::remove_file(root.join("bufinfo")).unwrap();
        let snapshot = Sources::below(&root).read();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(snapshot.buffers.len(), 2);
        assert_eq!(snapshot.missing.len(), 1);
        assert!(
            snapshot.missing[0].contains("mount -t debugfs"),
            "{:?}",
            snapshot.missing
        );
    }

    /// For those that show one.
    pub(crate) fn sample() -> Snapshot {
        let importer = |device: &str, driver: &str, reach: &str| Importer {
            device: device.to_owned(),
            driver: driver.to_owned(),
            flags: vec!["autofence".to_owned()],
            mappings: 1,
            reach: reach.to_owned(),
        };
        let holder = |pid, command: &str| Holder {
            pid,
            command: command.to_owned(),
            fds: vec![5],
            mapped: 4096,
        };
        Snapshot {
            buffers: vec![
                DmaBuf {
                    inode: 17,
                    exporter: "system".to_owned(),
                    size: 1 << 20,
                    references: 1,
                    attached: Some(Vec::new()),
                    holders: vec![holder(90, "display")],
                    ..DmaBuf::default()
                },
                DmaBuf {
                    inode: 18,
                    name: Some("frame 0".to_owned()),
                    exporter: "cohbuf".to_owned(),
                    size: 7_680_000,
                    references: 4,
                    attached: Some(vec!["isp".to_owned(), "npu".to_owned()]),
                    holders: vec![holder(12, "camera"), holder(90, "display")],
                    cohbuf: Some(Known {
                        flags: vec!["track_dirty".to_owned()],
                        caching: "write-back".to_owned(),
                        mappings: 2,
                        write_windows: 1,
                        bytes: Bytes {
                            cleaned: 4096,
                            ..Bytes::default()
                        },
                        importers: vec![
                            importer("soc:isp", "isp", "direct"),
                            importer("soc:npu", "npu", "bounced"),
                        ],
                        ..Known::default()
                    }),
                },
            ],
            missing: Vec::new(),
        }
    }

    #[test]
    fn kinds_are_short() {
        let kinds: Vec<String> = sample().buffers.iter().map(DmaBuf::kind).collect();
        assert_eq!(kinds, ["-", "bracketed+dirty"]);
        let mut buffer = sample().buffers.remove(1);
        if let Some(known) = &mut buffer.cohbuf {
            known.flags = vec!["coherent".to_owned(), "enforce_poison".to_owned()];
            known.state = Vec::new();
        }
        assert_eq!(buffer.kind(), "coherent+poison");
    }
}
