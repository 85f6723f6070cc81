// SPDX-License-Identifier: GPL-2.0

//! Importers that nobody here wrote, unmodified: vgem, virtio-gpu, vivid.
//! `Documentation/importers.rst` has what they show.

use std::fmt::Write as _;
use std::fs;

use cohbuf::share::{DrmDevice, Importer as _};
use cohbuf::{Access, AttachmentFlags, Buffer, CreateFlags, Info, Mapping, Reach};
use cohbuf_testdev::{Direction, TestDevice};
use rustix::fd::AsFd;
use rustix::io::Errno;

use crate::check;
use crate::driver::{Driver, How};
use crate::guest::{self, Guest, page};
use crate::harness::{Outcome, Stop, expect_eq, fail, fails_with, leave, leave_picture, skip};
use crate::scene::difference;
use crate::trace::traced;
use crate::video::{BARS, Control, NO_TEXT, PIXEL, RED, TEST_PATTERN, Video, Vivid};

crate::guest_suite!("stock":
    virtio_gpu_attaches_maps_and_lets_go,
    virtio_gpu_keeps_what_has_blob_resources,
    vivid_captures,
    vivid_captures_into_the_kernels_mapping,
    vivid_refuses_what_is_scattered,
    vivid_takes_coherent_where_it_snoops,
    who_takes_what,
);

const ATTACH: &str = "dma_buf/dma_buf_dynamic_attach";
const DETACH: &str = "dma_buf/dma_buf_detach";
const MAP: &str = "dma/dma_map_sg";
const UNMAP: &str = "dma/dma_unmap_sg";

/// Opens virtio-gpu: the first device has no blob resources.
fn virtio_gpu() -> Result<DrmDevice, Stop> {
    match DrmDevice::open_driver("virtio_gpu") {
        Ok(device) => Ok(device),
        Err(_) if fs::exists("/sys/module/virtio_gpu")? => fail("virtio_gpu has no device"),
        Err(_) => skip("this kernel has no virtio_gpu"),
    }
}

/// Without blob resources it has nothing to make of a dma-buf, but finds out late.
fn virtio_gpu_attaches_maps_and_lets_go(guest: &Guest) -> Outcome {
    let gpu = virtio_gpu()?;
    let buffer = guest.bracketed(40 * page())?;
    let (result, lines) = traced(&[ATTACH, DETACH, MAP, UNMAP], || {
        gpu.import(buffer.as_fd()).map(drop)
    })?;
    fails_with(result, Errno::NODEV, "import without blob resources")?;
    // Of PCI devices: others may map for themselves.
    let names: Vec<&str> = lines
        .iter()
        .filter(|line| line.contains("0000:"))
        .filter_map(|line| line.split(':').next())
        .collect();
    expect_eq(
        "what the kernel did",
        names,
        vec![
            "dma_buf_dynamic_attach",
            "dma_map_sg",
            "dma_unmap_sg",
            "dma_buf_detach",
        ],
    )?;
    let info = guest.device()?.info(&buffer)?;
    check!(
        (info.attachments, info.mappings, info.bounced) == (0, 0, 0),
        "something is left: {info:?}"
    );
    Ok(())
}

/// Parameter of the kernel's command line.
fn parameter(name: &str) -> Result<Option<String>, Stop> {
    let line = fs::read_to_string("/proc/cmdline")?;
    Ok(line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned))
}

/// The device with blob resources, which comes second.
fn virtio_gpu_with_blob() -> Result<DrmDevice, Stop> {
    virtio_gpu()?;
    if let Some(reason) = parameter("cohbuf.no_blob")? {
        return skip(reason.replace('_', " "));
    }
    let mut cards = (0..64)
        .filter_map(|card| DrmDevice::open(format!("/dev/dri/card{card}")).ok())
        .filter(|device| device.driver() == "virtio_gpu");
    match cards.nth(1) {
        Some(device) => Ok(device),
        None => fail("the host says that there is a second virtio-gpu"),
    }
}

fn virtio_gpu_keeps_what_has_blob_resources(guest: &Guest) -> Outcome {
    let gpu = virtio_gpu_with_blob()?;
    let device = guest.device()?;
    let buffer = guest.bracketed(40 * page())?;
    let import = gpu.import(buffer.as_fd())?;
    let (info, attached) = device.inspect(&buffer)?;
    expect_eq(
        "attached, mapped",
        (info.attachments, info.mappings),
        (1, 1),
    )?;
    let Some(attachment) = attached.first() else {
        return fail("its attachment is not listed");
    };
    check!(
        attachment.flags.contains(AttachmentFlags::DYNAMIC),
        "it is not dynamic: {attachment:?}"
    );
    drop(import);
    let info = device.info(&buffer)?;
    expect_eq("let go", (info.attachments, info.mappings), (0, 0))?;
    let coherent = guest.coherent(40 * page())?;
    let result = gpu.import(coherent.as_fd()).map(drop);
    if guest.swiotlb {
        return fails_with(result, Errno::OPNOTSUPP, "coherent, bounced");
    }
    Ok(result?)
}

/// Pictures that are one DMA segment where that matters: 64 KiB, as vivid has not said otherwise.
fn picture(guest: &Guest) -> (usize, usize) {
    match guest.swiotlb {
        true => (160, 120),
        false => (640, 360),
    }
}

/// What vivid captures into memory of its own.
fn reference(which: Vivid, size: (usize, usize), what: i32) -> Result<Vec<u8>, Stop> {
    let video = Video::open(which, size)?;
    video.set(Control::OsdTextMode, NO_TEXT)?;
    video.set(Control::HdmiIsConnectedTo, TEST_PATTERN)?;
    video.set(Control::TestPattern, what)?;
    video.request(false, 2)?;
    let maps = [video.map_own(0)?, video.map_own(1)?];
    for index in [0, 1] {
        video.queue_own(index)?;
    }
    video.start()?;
    let index = video.dequeue()?;
    let seen = maps[index as usize][..video.size()].to_vec();
    video.stop()?;
    Ok(seen)
}

/// Bars of all eight colours, from white to black.
fn check_bars(seen: &[u8], (width, height): (usize, usize)) -> Outcome {
    let row = height / 2 * width * PIXEL;
    for (bar, must) in [7, 6, 3, 2, 5, 4, 1, 0].into_iter().enumerate() {
        let at = row + (2 * bar + 1) * width / 16 * PIXEL;
        let is = seen[at..at + PIXEL]
            .iter()
            .fold(0, |bits, colour| (bits << 1) | u8::from(*colour > 0x60));
        check!(is == must, "bar {bar} is {:?}", &seen[at..at + PIXEL]);
    }
    Ok(())
}

fn same_picture(what: &str, seen: &[u8], must: &[u8]) -> Outcome {
    match difference(seen, must) {
        None => Ok(()),
        Some(at) => fail(format!(
            "{what}: from byte {at} on {:x?}, must be {:x?}",
            &seen[at..seen.len().min(at + 8)],
            &must[at..must.len().min(at + 8)]
        )),
    }
}

/// A buffer for a picture, and how the CPU sees it.
struct Canvas {
    map: Mapping,
    buffer: Buffer,
}

impl Canvas {
    fn new(guest: &Guest, size: usize, flags: CreateFlags) -> Result<Self, Stop> {
        let buffer = guest.buffer(size, flags)?;
        Ok(Self {
            map: buffer.map()?,
            buffer,
        })
    }

    fn paint(&self, bytes: &[u8]) -> Outcome {
        let window = self.buffer.cpu_access(Access::Write)?;
        self.map.write(0, bytes)?;
        Ok(window.end()?)
    }

    fn look(&self, size: usize) -> Result<Vec<u8>, Stop> {
        let mut seen = vec![0; size];
        let window = self.buffer.cpu_access(Access::Read)?;
        self.map.read(0, &mut seen)?;
        window.end()?;
        Ok(seen)
    }
}

/// Captures into two buffers, some pictures of each pattern, every one of which has to be new.
/// Returns the last, and what is known of its buffer then.
fn capture(guest: &Guest, which: Vivid, flags: CreateFlags) -> Result<(Vec<u8>, Info), Stop> {
    let size = picture(guest);
    let bars = reference(which, size, BARS)?;
    // Of a small picture vivid takes a part: the first bar.
    if !guest.swiotlb {
        check_bars(&bars, size)?;
    }
    let red = reference(which, size, RED)?;
    check!(
        red.chunks(PIXEL).all(|pixel| pixel == &red[..PIXEL]) && red != bars,
        "not one colour"
    );
    let video = Video::open(which, size)?;
    let bytes = video.size();
    let spoiled = vec![0xa5; bytes];
    let canvases = [
        Canvas::new(guest, bytes, flags)?,
        Canvas::new(guest, bytes, flags)?,
    ];
    video.request(true, 2)?;
    for (what, must) in [(BARS, &bars), (RED, &red), (BARS, &bars)] {
        video.set(Control::TestPattern, what)?;
        for (index, canvas) in (0..).zip(&canvases) {
            canvas.paint(&spoiled)?;
            video.queue(index, &canvas.buffer)?;
        }
        video.start()?;
        for number in 0..4 {
            let index = video.dequeue()?;
            let canvas = &canvases[index as usize];
            let seen = canvas.look(bytes)?;
            same_picture(&format!("picture {number} of pattern {what}"), &seen, must)?;
            canvas.paint(&spoiled)?;
            video.queue(index, &canvas.buffer)?;
        }
        video.stop()?;
    }
    Ok((bars, guest.device()?.info(&canvases[0].buffer)?))
}

fn vivid_captures(guest: &Guest) -> Outcome {
    let (seen, info) = capture(guest, Vivid::Contiguous, CreateFlags::CONTIGUOUS)?;
    expect_eq(
        "attached, mapped",
        (info.attachments, info.mappings),
        (1, 1),
    )?;
    expect_eq("bounced", info.bounced, guest.swiotlb.into())?;
    // A START with every look at the picture, before which the CPU has written it.
    let past = !guest.swiotlb && !guest.all_coherent();
    check!(
        (info.bytes_invalidated > 0) == past && (info.bytes_from_copies > 0) == guest.swiotlb,
        "it was not maintained as its device needs: {info:?}"
    );
    leave_picture("vivid.png", picture(guest), &seen)?;
    Ok(())
}

fn vivid_captures_into_the_kernels_mapping(guest: &Guest) -> Outcome {
    for flags in [
        CreateFlags::empty(),
        CreateFlags::COHERENT,
        CreateFlags::TRACK_DIRTY,
        CreateFlags::WRITE_COMBINE,
    ] {
        let (_, info) = capture(guest, Vivid::Vmalloc, flags)?;
        expect_eq("attached", info.attachments, 0)?;
    }
    Ok(())
}

/// A buffer that is of several pieces.
fn scattered(guest: &Guest, size: usize) -> Result<Buffer, Stop> {
    let mut others = Vec::new();
    for _ in 0..32 {
        let buffer = guest.bracketed(size)?;
        if guest.device()?.info(&buffer)?.segments > 1 {
            return Ok(buffer);
        }
        others.push(buffer);
    }
    fail("32 buffers are of one piece each")
}

fn vivid_refuses_what_is_scattered(guest: &Guest) -> Outcome {
    let video = Video::open(Vivid::Contiguous, picture(guest))?;
    if guest.swiotlb {
        return skip("what is bounced may come out in one piece");
    }
    video.request(true, 2)?;
    let buffer = scattered(guest, video.size())?;
    fails_with(video.queue(0, &buffer), Errno::FAULT, "QBUF, scattered")?;
    let info = guest.device()?.info(&buffer)?;
    expect_eq("left", (info.attachments, info.mappings), (0, 0))
}

fn vivid_takes_coherent_where_it_snoops(guest: &Guest) -> Outcome {
    let flags = CreateFlags::COHERENT | CreateFlags::CONTIGUOUS;
    let video = Video::open(Vivid::Contiguous, picture(guest))?;
    if guest.all_coherent() && !guest.swiotlb {
        drop(video);
        capture(guest, Vivid::Contiguous, flags)?;
        return Ok(());
    }
    video.request(true, 2)?;
    let buffer = guest.buffer(video.size(), flags)?;
    let result = video.try_queue(0, &buffer)?;
    let info = guest.device()?.info(&buffer)?;
    expect_eq("left", (info.attachments, info.mappings), (0, 0))?;
    if guest.all_coherent() {
        // vb2 has one errno for all that a map may say.
        fails_with(result, Errno::INVAL, "QBUF, bounced")?;
        return expect_eq("refused map", info.refused_map, 1);
    }
    fails_with(result, Errno::OPNOTSUPP, "QBUF, not coherent")?;
    expect_eq("refused attach", info.refused_attach, 1)
}

const KINDS: [(&str, CreateFlags); 4] = [
    ("bracketed", CreateFlags::empty()),
    ("contiguous", CreateFlags::CONTIGUOUS),
    (
        "coherent",
        CreateFlags::COHERENT.union(CreateFlags::CONTIGUOUS),
    ),
    (
        "write-combined",
        CreateFlags::WRITE_COMBINE.union(CreateFlags::CONTIGUOUS),
    ),
];

/// An importer of the table.
struct Row {
    name: &'static str,
    takes: fn(&Guest, CreateFlags) -> Result<Taken, Stop>,
    /// What it must take of each kind, where it is there.
    must: fn(&Guest, CreateFlags) -> Taken,
}

/// Of what maps on a device that is coherent, or is not; `reach` where it is not refused. What the
/// models of this project have is never bounced.
fn must_map(guest: &Guest, coherent: bool, flags: CreateFlags, reach: Reach) -> Taken {
    must_map_where(guest, guest.swiotlb, coherent, flags, reach)
}

fn must_map_where(
    guest: &Guest,
    bounced: bool,
    coherent: bool,
    flags: CreateFlags,
    reach: Reach,
) -> Taken {
    let asks = |flag| flags.contains(flag);
    // The kernel's own mapping of uncached memory stays cached on arm64.
    let snoops_alias = coherent && !guest.all_coherent();
    if asks(CreateFlags::COHERENT) && !coherent || asks(CreateFlags::WRITE_COMBINE) && snoops_alias
    {
        Taken::RefusedAttach
    } else if bounced && flags.intersects(CreateFlags::COHERENT | CreateFlags::WRITE_COMBINE) {
        Taken::RefusedMap
    } else if bounced {
        Taken::Mapped(Reach::Bounced)
    } else {
        Taken::Mapped(reach)
    }
}

/// How a device that is not coherent, where the architecture has such, reaches memory.
fn past(guest: &Guest) -> Reach {
    match guest.all_coherent() {
        true => Reach::Snooping,
        false => Reach::Direct,
    }
}

/// What became of a buffer that was given to an importer.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// Attached and never mapped.
    Attached,
    /// Attached and mapped, and how the device reaches it.
    Mapped(Reach),
    /// The same, for nothing.
    MappedAnd(Errno),
    /// Mapped into the kernel alone.
    Vmapped,
    /// The exporter refused to attach it.
    RefusedAttach,
    /// The exporter refused to map it.
    RefusedMap,
    /// The importer refused it.
    Refused(Errno),
    /// There is no such device here.
    No,
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Taken::Attached => write!(f, "attached"),
            Taken::Mapped(reach) => write!(f, "mapped, {}", name_of(*reach)),
            Taken::MappedAnd(errno) => write!(f, "mapped, then {}", errno_name(*errno)),
            Taken::Vmapped => write!(f, "vmapped"),
            Taken::RefusedAttach => write!(f, "attach refused"),
            Taken::RefusedMap => write!(f, "map refused"),
            Taken::Refused(errno) => write!(f, "importer: {}", errno_name(*errno)),
            Taken::No => write!(f, "-"),
        }
    }
}

fn name_of(reach: Reach) -> &'static str {
    match reach {
        Reach::Snooping => "snoops",
        Reach::Direct => "past the caches",
        Reach::Iommu => "past the caches, IOMMU",
        Reach::Bounced => "bounced",
        Reach::PartlyBounced => "partly bounced",
        _ => "own DMA ops",
    }
}

fn errno_name(errno: Errno) -> &'static str {
    match errno {
        Errno::NODEV => "ENODEV",
        Errno::FAULT => "EFAULT",
        Errno::INVAL => "EINVAL",
        _ => "?",
    }
}

/// What is known of a buffer once an importer has answered.
fn taken(guest: &Guest, buffer: &Buffer, answer: Result<(), Errno>) -> Result<Taken, Stop> {
    let (info, attached) = guest.device()?.inspect(buffer)?;
    Ok(match (answer, attached.first()) {
        (Ok(()), None) => Taken::Vmapped,
        (Ok(()), Some(of)) if of.mappings == 0 => Taken::Attached,
        (Ok(()), Some(of)) => Taken::Mapped(of.reach),
        (Err(_), _) if info.refused_attach > 0 => Taken::RefusedAttach,
        (Err(_), _) if info.refused_map > 0 => Taken::RefusedMap,
        (Err(errno), _) => Taken::Refused(errno),
    })
}

fn drm(guest: &Guest, gpu: &DrmDevice, flags: CreateFlags) -> Result<Taken, Stop> {
    let buffer = guest.buffer(40 * page(), flags)?;
    let (import, lines) = traced(&[MAP], || gpu.import(buffer.as_fd()))?;
    let answer = import.as_ref().map(|_| ()).map_err(|errno| *errno);
    let taken = taken(guest, &buffer, answer)?;
    Ok(match taken {
        Taken::Refused(errno) if !lines.is_empty() => Taken::MappedAnd(errno),
        taken => taken,
    })
}

fn or_none<T>(found: Result<T, Stop>) -> Result<Option<T>, Stop> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Stop::Skipped(_)) => Ok(None),
        Err(stop) => Err(stop),
    }
}

fn vgem(guest: &Guest, flags: CreateFlags) -> Result<Taken, Stop> {
    match or_none(guest::vgem())? {
        Some(vgem) => drm(guest, vgem.device(), flags),
        None => Ok(Taken::No),
    }
}

fn gpu(guest: &Guest, flags: CreateFlags) -> Result<Taken, Stop> {
    match or_none(virtio_gpu())? {
        Some(gpu) => drm(guest, &gpu, flags),
        None => Ok(Taken::No),
    }
}

fn gpu_with_blob(guest: &Guest, flags: CreateFlags) -> Result<Taken, Stop> {
    match or_none(virtio_gpu_with_blob())? {
        Some(gpu) => drm(guest, &gpu, flags),
        None => Ok(Taken::No),
    }
}

fn vivid(guest: &Guest, which: Vivid, flags: CreateFlags) -> Result<Taken, Stop> {
    let size = picture(guest);
    let Some(video) = or_none(Video::open(which, size))? else {
        return Ok(Taken::No);
    };
    video.request(true, 2)?;
    let buffer = match flags.is_empty() {
        true => scattered(guest, video.size())?,
        false => guest.buffer(video.size(), flags)?,
    };
    let answer = video.try_queue(0, &buffer)?;
    taken(guest, &buffer, answer)
}

fn dynamic(guest: &Guest, kind: TestDevice, flags: CreateFlags) -> Result<Taken, Stop> {
    let driver = Driver::open()?;
    let buffer = guest.buffer(40 * page(), flags)?;
    let how = How {
        dynamic: true,
        ..How::default()
    };
    let importer = match driver.try_attach(&buffer, kind, how) {
        Ok(importer) => importer,
        Err(Errno::NODEV) => return Ok(Taken::No),
        Err(errno) => return taken(guest, &buffer, Err(errno)),
    };
    let answer = importer.map(Direction::Bidirectional);
    taken(guest, &buffer, answer)
}

const ROWS: [Row; 7] = [
    Row {
        name: "vgem",
        takes: vgem,
        must: |guest, flags| match flags.contains(CreateFlags::COHERENT) {
            true if !guest.all_coherent() => Taken::RefusedAttach,
            _ => Taken::Attached,
        },
    },
    Row {
        name: "virtio-gpu",
        takes: gpu,
        must: |guest, flags| match must_map(guest, true, flags, Reach::Snooping) {
            Taken::Mapped(_) => Taken::MappedAnd(Errno::NODEV),
            refused => refused,
        },
    },
    Row {
        name: "virtio-gpu blob=on (dynamic)",
        takes: gpu_with_blob,
        must: |guest, flags| must_map(guest, true, flags, Reach::Snooping),
    },
    Row {
        name: "vivid, dma-contig",
        takes: |guest, flags| vivid(guest, Vivid::Contiguous, flags),
        must: |guest, flags| match flags.is_empty() {
            true if !guest.swiotlb => Taken::Refused(Errno::FAULT),
            _ => must_map(guest, guest.all_coherent(), flags, past(guest)),
        },
    },
    Row {
        name: "vivid, vmalloc",
        takes: |guest, flags| vivid(guest, Vivid::Vmalloc, flags),
        must: |_, _| Taken::Vmapped,
    },
    Row {
        name: "cohbuf_driver (dynamic), snoops",
        takes: |guest, flags| dynamic(guest, TestDevice::SnoopModel, flags),
        must: |guest, flags| must_map_where(guest, false, true, flags, Reach::Snooping),
    },
    Row {
        name: "cohbuf_driver (dynamic), direct",
        takes: |guest, flags| dynamic(guest, TestDevice::DirectModel, flags),
        must: |guest, flags| must_map_where(guest, false, guest.all_coherent(), flags, past(guest)),
    },
];

fn who_takes_what(guest: &Guest) -> Outcome {
    let mut text = String::new();
    let mut wrong = Vec::new();
    let mut line = |cells: [&str; 5]| {
        let [name, rest @ ..] = cells;
        let _ = write!(text, "{name:<31}");
        for cell in rest {
            let _ = write!(text, "  {cell:<23}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    let kinds = KINDS.map(|(name, _)| name);
    line(["importer", kinds[0], kinds[1], kinds[2], kinds[3]]);
    for row in &ROWS {
        let mut cells = Vec::new();
        for (kind, flags) in KINDS {
            let (is, must) = ((row.takes)(guest, flags)?, (row.must)(guest, flags));
            // Of pieces that are bounced may come one, or not: a driver that wants one says EFAULT.
            let in_pieces = guest.swiotlb
                && flags.is_empty()
                && (&is, &must)
                    == (
                        &Taken::Refused(Errno::FAULT),
                        &Taken::Mapped(Reach::Bounced),
                    );
            if is != Taken::No && is != must && !in_pieces {
                wrong.push(format!("{}, {kind}: {is}, must be {must}", row.name));
            }
            cells.push(is.to_string());
        }
        line([row.name, &cells[0], &cells[1], &cells[2], &cells[3]]);
    }
    leave("importers.txt", &text)?;
    check!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}
