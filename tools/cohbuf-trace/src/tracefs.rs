// SPDX-License-Identifier: GPL-2.0

//! Records events by tracefs, in an instance of its own: whoever else traces is not disturbed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Event;

/// Where tracefs is.
pub const MOUNT: &str = "/sys/kernel/tracing";

/// An instance of the kernel's tracing, which is gone when this is dropped.
#[derive(Debug)]
pub struct Tracer {
    dir: PathBuf,
}

impl Tracer {
    /// Makes one, with room for so many KiB of events on each CPU.
    ///
    /// # Errors
    ///
    /// `ENOENT` without tracefs, `EACCES` for who is not root, `EEXIST` where it is there.
    pub fn new(name: &str, kib: u32) -> io::Result<Self> {
        let dir = Path::new(MOUNT).join("instances").join(name);
        fs::create_dir(&dir)?;
        let tracer = Self { dir };
        tracer.write("buffer_size_kb", &kib.to_string())?;
        tracer.write("trace_clock", "mono")?;
        tracer.write("options/record-tgid", "1")?;
        Ok(tracer)
    }

    /// Records all events of a system, such as `cohbuf`.
    ///
    /// # Errors
    ///
    /// `ENOENT` where there is no such system: its module is not loaded.
    pub fn enable(&self, system: &str) -> io::Result<()> {
        self.write(&format!("events/{system}/enable"), "1")
    }

    /// Whether there are such events.
    pub fn has(&self, system: &str) -> bool {
        self.dir.join("events").join(system).is_dir()
    }

    /// Stops, and gives what was recorded, in the order of time.
    ///
    /// # Errors
    ///
    /// What tracefs says.
    pub fn stop(&self) -> io::Result<Vec<Event>> {
        self.write("tracing_on", "0")?;
        let text = fs::read(self.dir.join("trace"))?;
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .filter_map(Event::parse)
            .collect())
    }

    /// How many events found no room.
    ///
    /// # Errors
    ///
    /// What tracefs says.
    pub fn lost(&self) -> io::Result<u64> {
        let mut lost = 0;
        for cpu in fs::read_dir(self.dir.join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            lost += stats
                .lines()
                .filter_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    let counts = ["overrun", "dropped events"].contains(&key);
                    value.trim().parse::<u64>().ok().filter(|_| counts)
                })
                .sum::<u64>();
        }
        Ok(lost)
    }

    /// The description of an event.
    ///
    /// # Errors
    ///
    /// `ENOENT` where there is none of that name.
    pub fn format(&self, system: &str, event: &str) -> io::Result<String> {
        fs::read_to_string(
            self.dir
                .join("events")
                .join(system)
                .join(event)
                .join("format"),
        )
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.dir.join(file), text)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // What is left tells of itself: the directory stays.
        let _ = self.write("events/enable", "0");
        let _ = fs::remove_dir(&self.dir);
    }
}
