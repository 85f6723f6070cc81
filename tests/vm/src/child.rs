// SPDX-License-Identifier: GPL-2.0

//! What a test lets another process do: this program again, with `--child`.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

use cohbuf::{Buffer, CopyRegion, CreateFlags, Device, Errno};
use rustix::fs::{Mode, OFlags, open};

use crate::harness::{Stop, fail};
use crate::raw;
use crate::slots::{self, Slot, Written};

/// Runs a command of `main` in a process of its own.
pub(crate) fn run(arguments: &[&str]) -> Result<Output, Stop> {
    Ok(Command::new("/proc/self/exe")
        .arg("--child")
        .args(arguments)
        .output()?)
}

/// Starts a process with a thread for each of these slots, which write for a time.
/// The descriptor of the buffer must be one that other programs get.
pub(crate) fn start_slots(
    buffer: &Buffer,
    slots: Range<usize>,
    time: Duration,
) -> Result<Child, Stop> {
    let fd = buffer.as_fd().as_raw_fd();
    let numbers = [
        fd as usize,
        slots.start,
        slots.end,
        time.as_millis() as usize,
    ];
    Ok(Command::new("/proc/self/exe")
        .args(["--child", "write-slots"])
        .args(numbers.map(|number| number.to_string()))
        .stdout(Stdio::piped())
        .spawn()?)
}

/// Waits for that process to end, and gives what it wrote.
pub(crate) fn end_slots(child: Child) -> Result<Vec<Written>, Stop> {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let slots = text.lines().map(|line| {
        let mut numbers = line.split(' ').map_while(|word| word.parse().ok());
        let number: u32 = numbers.next()?;
        let slot = Slot {
            number: number as usize,
            round: numbers.next()?,
        };
        let lost = numbers.next()?;
        Some(Written { slot, lost })
    });
    match slots.collect() {
        Some(slots) if output.status.success() => Ok(slots),
        _ => fail(format!("the process that writes: {output:?}")),
    }
}

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["create-in-cgroup", cgroup, size, flags] => create_in_cgroup(cgroup, size, flags),
        ["heap-in-cgroup", cgroup, heap, size] => heap_in_cgroup(cgroup, heap, size),
        ["lock-memory", limit, size] => lock_memory(limit, size),
        ["is-open", fd] => Ok(if std::path::Path::new("/proc/self/fd").join(fd).exists() {
            "yes".to_owned()
        } else {
            "no".to_owned()
        }),
        ["many-files", limit] => many_files(limit),
        ["write-slots", fd, first, end, millis] => write_slots([fd, first, end, millis]),
        ["fill-cgroup", cgroup, size] => fill_cgroup(cgroup, size),
        ["copy-in-full-cgroup", cgroup, size] => copy_in_full_cgroup(cgroup, size),
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

/// What a cgroup is charged, in bytes.
fn charged(cgroup: &str) -> Result<String, String> {
    std::fs::read_to_string(format!("{cgroup}/memory.current"))
        .map(|number| number.trim().to_owned())
        .map_err(|error| error.to_string())
}

/// Prints what the cgroup is charged before, with and after a buffer, in bytes;
/// or the errno of CREATE.
fn create_in_cgroup(cgroup: &str, size: &str, flags: &str) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let size: u64 = size.parse().map_err(|error| text(&error))?;
    let flags: u32 = flags.parse().map_err(|error| text(&error))?;
    let device = Device::open().map_err(|error| text(&error))?;
    in_cgroup(cgroup, || {
        let buffer = device.create(size, CreateFlags::from_bits_retain(flags));
        buffer.map_err(|error| error.errno().raw_os_error())
    })
}

/// The same of a buffer of a heap.
fn heap_in_cgroup(cgroup: &str, heap: &str, size: &str) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let size: usize = size.parse().map_err(|error| text(&error))?;
    let heap = dma_heap::Heap::new(dma_heap::HeapKind::Custom(heap.into()));
    let heap = heap.map_err(|error| text(&error))?;
    in_cgroup(cgroup, || {
        heap.allocate(size)
            .map_err(|error| error.raw_os_error().unwrap_or_default())
    })
}

fn in_cgroup<T>(cgroup: &str, make: impl FnOnce() -> Result<T, i32>) -> Result<String, String> {
    std::fs::write(format!("{cgroup}/cgroup.procs"), "0").map_err(|error| error.to_string())?;
    let charged = || charged(cgroup);
    let before = charged()?;
    let buffer = match make() {
        Ok(buffer) => buffer,
        Err(errno) => return Ok(format!("errno {errno}")),
    };
    let with = charged()?;
    drop(buffer);
    // Files are released on the way out of a system call, and the charge of
    // freed pages may be given back in batches.
    std::thread::sleep(std::time::Duration::from_millis(200));
    Ok(format!("{before} {with} {}", charged()?))
}

/// As a user without privileges that may lock so many bytes, makes a contiguous buffer of `size`
/// bytes; a second; a small one; and the second when the first is gone. Prints what came of each.
fn lock_memory(limit: &str, size: &str) -> Result<String, String> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let limit: u64 = limit.parse().map_err(|error| text(&error))?;
    let size: u64 = size.parse().map_err(|error| text(&error))?;
    // While we may.
    let device = Device::open().map_err(|error| text(&error))?;
    let rlimit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    setrlimit(Resource::Memlock, rlimit).map_err(|errno| text(&errno))?;
    raw::become_user(1000).map_err(|errno| text(&errno))?;
    let create = |size| device.create(size, CreateFlags::CONTIGUOUS);
    let word = |result: &Result<Buffer, cohbuf::Error>| match result {
        Ok(_) => "ok",
        Err(error) if error.errno() == Errno::NOMEM => "ENOMEM",
        Err(_) => "another error",
    };
    let first = create(size);
    let second = create(size);
    let small = create(1 << 20);
    let words = [&first, &second, &small].map(word).join(" ");
    drop(first);
    // Files are released on the way out of a system call.
    let second = create(size);
    Ok(format!("{words} {}", word(&second)))
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

/// Prints each slot with its last round, and how often bytes in it were lost.
fn write_slots(words: [&str; 4]) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut numbers = [0_usize; 4];
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = word.parse().map_err(|error| text(&error))?;
    }
    let [fd, first, end, millis] = numbers;
    let fd = RawFd::try_from(fd).map_err(|error| text(&error))?;
    let buffer = Buffer::try_from(raw::own(fd)).map_err(|error| text(&error))?;
    let written =
        slots::write_by_threads(&buffer, first..end, Duration::from_millis(millis as u64))
            .map_err(|errno| text(&errno))?;
    let lines = written.iter().map(|Written { slot, lost }| {
        let Slot { number, round } = slot;
        format!("{number} {round} {lost}")
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Makes buffers until there is no memory for one more. Prints how many, and what
/// the cgroup is charged with them and without, in bytes.
fn fill_cgroup(cgroup: &str, size: &str) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let size: u64 = size.parse().map_err(|error| text(&error))?;
    std::fs::write(format!("{cgroup}/cgroup.procs"), "0").map_err(|error| text(&error))?;
    let charged = || charged(cgroup);
    let device = Device::open().map_err(|error| text(&error))?;
    // Room for all that can come, so that nothing is allocated when it is tight.
    let mut buffers = Vec::with_capacity(1 << 10);
    loop {
        match device.create(size, CreateFlags::empty()) {
            Ok(buffer) => buffers.push(buffer),
            Err(error) if error.errno() == Errno::NOMEM => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    let count = buffers.len();
    let full = charged()?;
    drop(buffers);
    std::thread::sleep(Duration::from_millis(200));
    Ok(format!("{count} {full} {}", charged()?))
}

/// Copies between buffers of `size` bytes, which are not of the cgroup, when that has 128 KiB left,
/// and what two CPUs keep of its charge, half a MiB at most: all of them, and then the last 16
/// bytes. Prints what came of it.
fn copy_in_full_cgroup(cgroup: &str, size: &str) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let size: u64 = size.parse().map_err(|error| text(&error))?;
    let device = Device::open().map_err(|error| text(&error))?;
    let make = || device.create(size, CreateFlags::empty());
    let src = make().map_err(|error| text(&error))?;
    let dst = make().map_err(|error| text(&error))?;
    std::fs::write(format!("{cgroup}/cgroup.procs"), "0").map_err(|error| text(&error))?;
    let copy = |region| match device.copy(&src, &dst, region) {
        Ok(bytes) => format!("{bytes} bytes"),
        Err(error) => format!("errno {}", error.errno().raw_os_error()),
    };
    let at = |offset| CopyRegion::Linear {
        src_offset: offset,
        dst_offset: offset,
        length: 16,
    };
    // So that the cgroup has what the process needs.
    copy(at(0));
    let charged: u64 = charged(cgroup)?.parse().map_err(|error| text(&error))?;
    let max = (charged + (128 << 10)).to_string();
    std::fs::write(format!("{cgroup}/memory.max"), max).map_err(|error| text(&error))?;
    let whole = copy(CopyRegion::Whole);
    // What was given back may be another CPU's for a moment.
    let mut end = copy(at(size - 16));
    for _ in 0..50 {
        if !end.starts_with("errno") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        end = copy(at(size - 16));
    }
    Ok(format!("whole: {whole}; at the end: {end}"))
}
