// SPDX-License-Identifier: GPL-2.0

//! Bytes of cache maintenance, counted where the DMA API hands them to the architecture: by
//! kprobes, so that all exporters are counted alike. They are there only while something is
//! counted that is not timed.

use std::fs;
use std::io::{self, Write};

use super::Result;
use crate::record::Arch;

const TRACING: &str = "/sys/kernel/tracing";

/// What was maintained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) cleaned: u64,
    pub(crate) invalidated: u64,
}

/// The probes, while the bench runs.
pub(crate) struct Counter {
    /// Whether there is anything to probe: an architecture where all devices snoop has none.
    probes: bool,
}

impl Counter {
    pub(crate) fn new() -> Result<Self> {
        let probes = Arch::here() == Arch::Arm64;
        if probes {
            // Enough for each page of the largest buffer.
            write("buffer_size_kb", "8192")?;
            write(
                "kprobe_events",
                "p:bench/clean arch_sync_dma_for_device size=$arg2:u64",
            )?;
            append(
                "kprobe_events",
                "p:bench/invalidate arch_sync_dma_for_cpu size=$arg2:u64 dir=$arg3:u32",
            )?;
            // By the CPU itself.
            append(
                "kprobe_events",
                "p:bench/clean_all arch_wb_cache_pmem size=$arg2:u64",
            )?;
            append(
                "kprobe_events",
                "p:bench/invalidate_all arch_invalidate_pmem size=$arg2:u64",
            )?;
        }
        Ok(Self { probes })
    }

    /// What `run` has maintained, which is what this program did meanwhile.
    pub(crate) fn count<T>(&self, run: impl FnOnce() -> T) -> Result<(T, Bytes)> {
        if !self.probes {
            return Ok((run(), Bytes::default()));
        }
        write("trace", "")?;
        write("events/bench/enable", "1")?;
        let result = run();
        write("events/bench/enable", "0")?;
        let trace = fs::read_to_string(format!("{TRACING}/trace"))?;
        Ok((result, parse(&trace)?))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if self.probes {
            // Nobody to tell; the guest ends.
            let _ = write("kprobe_events", "");
        }
    }
}

/// `DMA_TO_DEVICE`: nothing to drop from the caches for the CPU.
const TO_DEVICE: &str = "1";

fn parse(trace: &str) -> Result<Bytes> {
    let mut bytes = Bytes::default();
    for line in trace.lines() {
        // "# entries-in-buffer/entries-written: 12/12   #P:1"
        if let Some((_, counts)) = line.split_once("entries-written: ") {
            let (kept, written) = counts.split_once('/').ok_or(line)?;
            if Some(kept) != written.split_whitespace().next() {
                return Err(format!("the trace has lost events: {line}").into());
            }
        }
        let field = |name: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let size = || -> Result<u64> { Ok(field("size").ok_or(line)?.parse()?) };
        if line.contains(" clean: ") || line.contains(" clean_all: ") {
            bytes.cleaned += size()?;
        } else if line.contains(" invalidate_all: ")
            || line.contains(" invalidate: ") && field("dir") != Some(TO_DEVICE)
        {
            bytes.invalidated += size()?;
        }
    }
    Ok(bytes)
}

fn write(file: &str, text: &str) -> Result<()> {
    let path = format!("{TRACING}/{file}");
    Ok(fs::write(&path, text).map_err(|error| told(&path, &error))?)
}

fn append(file: &str, text: &str) -> Result<()> {
    let path = format!("{TRACING}/{file}");
    let written = fs::File::options()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    Ok(written.map_err(|error| told(&path, &error))?)
}

fn told(path: &str, error: &io::Error) -> String {
    format!("{path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_counted_and_what_goes_to_the_device_is_not_invalidated() {
        let trace = "# entries-in-buffer/entries-written: 6/6   #P:1\n\
            bench-1 [000] ..... 1.0: clean: (arch_sync_dma_for_device+0x0/0x28) size=4096\n\
            bench-1 [000] ..... 1.1: clean: (arch_sync_dma_for_device+0x0/0x28) size=64\n\
            bench-1 [000] ..... 1.2: invalidate: (arch_sync_dma_for_cpu+0x0/0x30) size=128 dir=0\n\
            bench-1 [000] ..... 1.3: invalidate: (arch_sync_dma_for_cpu+0x0/0x30) size=256 dir=1\n\
            bench-1 [000] ..... 1.4: invalidate_all: (arch_invalidate_pmem+0x0/0x30) size=512\n\
            bench-1 [000] ..... 1.5: clean_all: (arch_wb_cache_pmem+0x0/0x30) size=8192\n";
        let bytes = parse(trace).expect("the trace is whole");
        assert_eq!((bytes.cleaned, bytes.invalidated), (12352, 640));
    }

    #[test]
    fn a_trace_that_lost_events_counts_nothing() {
        assert!(parse("# entries-in-buffer/entries-written: 140080/250280   #P:1\n").is_err());
    }
}
