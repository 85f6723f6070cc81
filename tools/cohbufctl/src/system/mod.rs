// SPDX-License-Identifier: GPL-2.0

//! The dma-bufs of the whole system, from what the kernel shows: debugfs has all of them
//! with their attachments, /proc has who holds them, and cohbuf what it knows of its own.

mod bufinfo;
mod debugfs;
mod holders;
mod known;
mod patient;
mod reader;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cohbuf::Device;
use rustix::fd::OwnedFd;
use rustix::fs::fstat;
use serde::{Deserialize, Serialize};

use crate::fds;
use crate::show::printable;
use crate::system::patient::Patient;

pub(crate) use holders::Holder;
#[cfg(test)]
pub(crate) use known::Importer;
pub(crate) use known::{Bytes, Known};
pub(crate) use reader::copy_input;

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
            (Some(known), _) => Some(known.attachments as usize),
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

/// All dma-bufs at a moment, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) buffers: Vec<DmaBuf>,
    /// What is missing, and what to do about it.
    pub(crate) missing: Vec<String>,
}

/// Where the kernel shows things.
struct Sources {
    bufinfo: PathBuf,
    buffers: PathBuf,
    proc: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            bufinfo: "/sys/kernel/debug/dma_buf/bufinfo".into(),
            buffers: "/sys/kernel/debug/cohbuf/buffers".into(),
            proc: "/proc".into(),
        }
    }
}

/// Where descriptors of a buffer are, by its inode: processes, and their numbers.
type Places = BTreeMap<u64, Vec<(i32, i32)>>;

/// What the driver says of its buffers, and what stops it.
type Told = (BTreeMap<u64, Known>, Option<String>);

/// Reads bufinfo with so much patience. [`None`]: there was no answer.
type Read = Box<dyn FnMut(&Path, Duration) -> io::Result<Option<String>> + Send>;

/// Looks at all dma-bufs. The kernel locks each buffer for some of it: while one hangs, the rest is
/// shown.
pub(crate) struct Looker {
    sources: Sources,
    patience: Duration,
    read: Read,
    info: Patient<Places, Told>,
    /// What they said last.
    objects: Vec<DmaBuf>,
    told: BTreeMap<u64, Known>,
    /// Since when bufinfo does not answer, and when it is tried again.
    silent: Option<Instant>,
    again: Option<Instant>,
}

/// As long as a try took does nobody else wait for, so many times.
const REST: u32 = 10;

impl Looker {
    /// `patience`: as long does a look wait for each of the two.
    pub(crate) fn new(patience: Duration) -> Self {
        Self::of(Sources::default(), patience, reader::read, ask_driver)
    }

    fn of(
        sources: Sources,
        patience: Duration,
        read: impl FnMut(&Path, Duration) -> io::Result<Option<String>> + Send + 'static,
        ask: impl FnMut(Places) -> Told + Send + 'static,
    ) -> Self {
        Self {
            sources,
            patience,
            read: Box::new(read),
            info: Patient::new(patience, ask),
            objects: Vec::new(),
            told: BTreeMap::new(),
            silent: None,
            again: None,
        }
    }

    /// Reads all that can be read.
    pub(crate) fn look(&mut self) -> Snapshot {
        let lines = holders::read(&self.sources.buffers).unwrap_or_default();
        let lines = debugfs::parse(&lines);
        let found = holders::scan(&self.sources.proc);
        let mut missing = Vec::new();
        let (locked, error) = self.ask_driver(&found);
        let late = self.read_bufinfo(locked, &mut missing);
        if found.unreadable > 0 {
            missing.push(format!(
                "what {} process(es) of others hold (run as root)",
                found.unreadable
            ));
        }
        // Of those that were there some time ago, those that are.
        let objects = self.objects.iter().filter(|buffer| {
            let inode = buffer.inode;
            !late || lines.contains_key(&inode) || found.buffers.contains_key(&inode)
        });
        let objects = objects.map(|buffer| (buffer.inode, buffer.clone()));
        let mut buffers: BTreeMap<u64, DmaBuf> = objects.collect();
        let new = |inode| DmaBuf {
            inode,
            ..DmaBuf::default()
        };
        for (&inode, line) in &lines {
            let buffer = buffers.entry(inode).or_insert_with(|| new(inode));
            "cohbuf".clone_into(&mut buffer.exporter);
            buffer.size = line.size;
        }
        for (inode, seen) in found.buffers {
            let buffer = buffers.entry(inode).or_insert_with(|| new(inode));
            if let Some(info) = seen.info {
                buffer.exporter = info.exporter;
                buffer.size = info.size;
                buffer.name = info.name.or(buffer.name.take());
                // The one of bufinfo is from another moment.
                if buffer.references == 0 || late {
                    buffer.references = info.references;
                }
            }
            buffer.holders = seen.holders;
        }
        let mut unknown = false;
        for buffer in buffers.values_mut().filter(|one| one.exporter == "cohbuf") {
            let told = self.told.get(&buffer.inode);
            let line = lines.get(&buffer.inode).map(|line| line.known.clone());
            buffer.cohbuf = match (line, told) {
                (Some(line), Some(told)) if locked.is_some() => Some(line.with_importers_of(told)),
                (line, told) => told.cloned().or(line),
            };
            let known = buffer.cohbuf.as_ref();
            unknown |= known.is_none_or(|known| known.importers.is_none());
        }
        let what = "what cohbuf knows of some of its buffers";
        match (locked, error) {
            (Some(waited), _) => missing.push(no_answer(what, waited)),
            (None, Some(error)) if unknown => missing.push(format!("{what}: {error}")),
            (None, None) if unknown => missing.push(format!(
                "{what}: no process holds a descriptor that this one may take"
            )),
            (None, _) => {}
        }
        Snapshot {
            buffers: buffers.into_values().collect(),
            missing,
        }
    }

    /// What cohbuf knows of its own. For how long there is no answer, or what stops it.
    fn ask_driver(&mut self, found: &holders::Found) -> (Option<Duration>, Option<String>) {
        let ours = found.buffers.iter().filter(|(_, seen)| {
            let info = seen.info.as_ref();
            info.is_some_and(|info| info.exporter == "cohbuf")
        });
        let places = ours.map(|(inode, seen)| (*inode, seen.places()));
        match self.info.ask(places.collect()) {
            Ok((told, error)) => {
                self.told = told;
                (None, error)
            }
            Err(waited) => (Some(waited), None),
        }
    }

    /// Whether what it says is of some time ago. `locked`: for how long a buffer is, which it would
    /// wait for.
    fn read_bufinfo(&mut self, locked: Option<Duration>, missing: &mut Vec<String>) -> bool {
        let what = "attachments, and buffers that no process holds";
        let began = Instant::now();
        let rests = self.again.is_some_and(|again| began < again);
        let answer = match locked.is_some() || rests {
            true => Ok(None),
            false => {
                self.again = Some(began + REST * self.patience);
                (self.read)(&self.sources.bufinfo, self.patience)
            }
        };
        match answer {
            Ok(Some(text)) => self.objects = bufinfo::parse(&text),
            Ok(None) => {
                let silent = *self.silent.get_or_insert(began);
                let waited = silent.elapsed().max(locked.unwrap_or_default());
                missing.push(no_answer(what, waited));
                return true;
            }
            Err(error) => {
                self.objects = Vec::new();
                missing.push(format!(
                    "{what}: {}: {error} (run as root, with debugfs: mount -t debugfs debugfs \
                     /sys/kernel/debug)",
                    self.sources.bufinfo.display()
                ));
            }
        }
        (self.silent, self.again) = (None, None);
        false
    }
}

fn no_answer(what: &str, waited: Duration) -> String {
    format!(
        "{what}: no answer for {} s, as a buffer is locked",
        waited.as_secs()
    )
}

/// `COHBUF_IOCTL_INFO` of all of them.
fn ask_driver(places: Places) -> Told {
    let device = match Device::open() {
        Ok(device) => device,
        Err(error) => return (BTreeMap::new(), Some(error.to_string())),
    };
    let told = places.into_iter().filter_map(|(inode, places)| {
        let known = first_of(
            inode,
            &places,
            |pid, fd| fds::open(fd, Some(pid)).ok(),
            |fd| {
                let (info, importers) = device.inspect(&fd).ok()?;
                Some(Known::new(&info, &importers))
            },
        );
        Some((inode, known?))
    });
    (told.collect(), None)
}

/// What is said of the first descriptor that is still of this buffer: since they were listed, a
/// process may have closed it, and opened something else by the same number.
fn first_of<T>(
    inode: u64,
    places: &[(i32, i32)],
    open: impl Fn(i32, i32) -> Option<OwnedFd>,
    ask: impl Fn(OwnedFd) -> Option<T>,
) -> Option<T> {
    places.iter().find_map(|&(pid, fd)| {
        let fd = open(pid, fd)?;
        let is = fstat(&fd).ok()?.st_ino;
        (is == inode).then(|| ask(fd)).flatten()
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

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
        file("buffers", debugfs::tests::TEXT);
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

    fn below(root: &Path) -> Sources {
        Sources {
            bufinfo: root.join("bufinfo"),
            buffers: root.join("buffers"),
            proc: root.join("proc"),
        }
    }

    fn read_file(path: &Path, _: Duration) -> io::Result<Option<String>> {
        holders::read(path).map(Some)
    }

    /// A driver that knows all its buffers.
    fn told(places: Places) -> Told {
        let known = Known {
            importers: Some(Vec::new()),
            ..Known::default()
        };
        let told = places.into_keys().map(|inode| (inode, known.clone()));
        (told.collect(), None)
    }

    fn look(root: &Path) -> Snapshot {
        let patience = Duration::from_secs(60);
        Looker::of(below(root), patience, read_file, told).look()
    }

    #[test]
    fn sources_are_put_together_by_inode() {
        let root = tree("together");
        let snapshot = look(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(snapshot.missing, Vec::<String>::new());
        let inodes: Vec<u64> = snapshot.buffers.iter().map(|buffer| buffer.inode).collect();
        assert_eq!(inodes, [17, 18, 19, 20]);

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
        // Nothing but cohbuf tells of it.
        assert_eq!(snapshot.buffers[3].exporter, "cohbuf");
        assert_eq!(snapshot.buffers[3].size, 4096);
    }

    #[test]
    fn a_buffer_that_hangs_hides_no_other() {
        let root = tree("hangs");
        let hangs = Arc::new(AtomicBool::new(true));
        let wait = |hangs: &AtomicBool| {
            while hangs.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
        };
        let locked = Arc::clone(&hangs);
        let tries = Arc::new(AtomicU32::new(0));
        let tried = Arc::clone(&tries);
        let read = move |path: &Path, patience| {
            tried.fetch_add(1, Ordering::Relaxed);
            match locked.load(Ordering::Relaxed) {
                true => Ok(None),
                false => read_file(path, patience),
            }
        };
        let importer = sample().buffers[1].cohbuf.clone();
        let importers = importer.and_then(|known| known.importers);
        let expected = importers.clone();
        let locked = Arc::clone(&hangs);
        let ask = move |places: Places| {
            wait(&locked);
            let (mut known, _) = told(places);
            for known in known.values_mut() {
                known.importers = importers.clone();
            }
            (known, None)
        };
        let patience = Duration::from_millis(50);
        let mut looker = Looker::of(below(&root), patience, read, ask);
        let find = |snapshot: &Snapshot, inode| {
            let mut buffers = snapshot.buffers.iter();
            buffers.find(|buffer| buffer.inode == inode).cloned()
        };

        // From the beginning: what neither debugfs nor a process has is not there.
        let first = looker.look();
        assert_eq!(find(&first, 17), None);
        let shared = find(&first, 18).unwrap();
        assert_eq!(shared.name.as_deref(), Some("frame 0"));
        assert_eq!(shared.held_by(), "camera(12) display(90)");
        let known = shared.cohbuf.unwrap();
        assert_eq!((known.attachments, known.bytes.cleaned), (2, 4096));
        assert_eq!(known.importers, None);
        assert_eq!(first.missing.len(), 2, "{:?}", first.missing);
        assert!(
            first.missing.iter().all(|text| text.contains("no answer")),
            "{:?}",
            first.missing
        );

        // A buffer of ours is locked: to read bufinfo would make all others wait.
        assert_eq!(tries.load(Ordering::Relaxed), 0);

        // Then it goes on, and hangs again.
        hangs.store(false, Ordering::Relaxed);
        let answered = (0..200).find_map(|_| {
            let now = looker.look();
            now.missing.is_empty().then_some(now)
        });
        let answered = answered.expect("answers");
        assert!(find(&answered, 17).is_some());
        hangs.store(true, Ordering::Relaxed);
        let later = looker.look();
        assert_eq!(later.missing.len(), 2, "{:?}", later.missing);
        let known = find(&later, 18).unwrap().cohbuf.unwrap();
        assert_eq!(known.importers, expected);
        assert_eq!(known.bytes.cleaned, 4096);
        hangs.store(false, Ordering::Relaxed);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_makes_others_wait_is_seldom_tried() {
        let root = tree("rests");
        let tries = Arc::new(AtomicU32::new(0));
        let tried = Arc::clone(&tries);
        let read = move |_: &Path, _| {
            tried.fetch_add(1, Ordering::Relaxed);
            Ok(None)
        };
        let mut looker = Looker::of(below(&root), Duration::from_secs(3600), read, told);
        for _ in 0..3 {
            let snapshot = looker.look();
            assert_eq!(snapshot.missing.len(), 1, "{:?}", snapshot.missing);
            assert!(snapshot.missing[0].contains("no answer"));
        }
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        looker.again = Some(Instant::now());
        looker.look();
        assert_eq!(tries.load(Ordering::Relaxed), 2);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_descriptor_that_is_of_another_buffer_by_now() {
        let root = tree("reused");
        let file = |name: &str| fs::File::open(root.join(name)).ok().map(OwnedFd::from);
        let inode = fstat(file("buffers").unwrap()).unwrap().st_ino;
        let places = [(1, 3), (1, 4), (2, 3), (3, 3)];
        let asked = |third: &str| {
            let take = |pid, fd| match (pid, fd) {
                (1, 3) => None,
                (1, 4) => file("bufinfo"),
                (2, 3) => file(third),
                _ => file("proc/12/comm"),
            };
            first_of(inode, &places, take, |fd| Some(fstat(fd).unwrap().st_ino))
        };
        assert_eq!(asked("buffers"), Some(inode));
        assert_eq!(asked("proc/90/comm"), None);
        // The driver may refuse the first one.
        let refuses = std::cell::Cell::new(true);
        let twice = first_of(
            inode,
            &places,
            |_, _| file("buffers"),
            |_| (!refuses.replace(false)).then_some(1),
        );
        assert_eq!(twice, Some(1));
        fs::remove_dir_all(&root).unwrap();
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
        let snapshot = look(&root);
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
        let snapshot = look(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(snapshot.buffers.len(), 3);
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
                        caching: Some("write-back".to_owned()),
                        attachments: 2,
                        mappings: 2,
                        bounced: Some(0),
                        write_windows: 1,
                        bytes: Bytes {
                            cleaned: 4096,
                            ..Bytes::default()
                        },
                        importers: Some(vec![
                            importer("soc:isp", "isp", "direct"),
                            importer("soc:npu", "npu", "bounced"),
                        ]),
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
