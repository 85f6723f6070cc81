// SPDX-License-Identifier: GPL-2.0

//! vivid, the kernel's virtual video driver, unmodified, as `tests/vm/init` has loaded it.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use cohbuf::Buffer;
use cohbuf_testdev::driver::Driver;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use v4l2r::ioctl::{
    self, Capabilities, Capability, IntoErrno, MemoryConsistency, PlaneMapping, QBufPlane, QBuffer,
    QueryBuffer, V4l2Buffer,
};
use v4l2r::memory::{DmaBufHandle, DmaBufSource, MemoryType, MmapHandle, PlaneHandle};
use v4l2r::{Format, PixelFormat, QueueType};

use crate::harness::{Stop, fail, skip};

/// Bytes of a pixel: red, green, blue.
pub(crate) const PIXEL: usize = 3;

/// A device of vivid, which has buffers of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vivid {
    /// `allocators=1`: contiguous for DMA. An import is attached and mapped.
    Contiguous,
    /// `allocators=0`: `vmalloc()`. An import is mapped into the kernel, and never attached.
    Vmalloc,
}

/// The controls that are used here: `VIVID_CID_*`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    TestPattern = 0x00f0_f000,
    OsdTextMode = 0x00f0_f001,
    HdmiIsConnectedTo = 0x00f0_f071,
}

/// Of [`Control::OsdTextMode`].
pub(crate) const NO_TEXT: i32 = 2;

/// Of [`Control::HdmiIsConnectedTo`]: to nothing else.
pub(crate) const TEST_PATTERN: i32 = 0;

/// Of [`Control::TestPattern`].
pub(crate) const BARS: i32 = 0;
pub(crate) const RED: i32 = 6;

/// A dma-buf for V4L2. It wants to own it.
#[derive(Debug)]
struct Import {
    fd: OwnedFd,
    size: u64,
}

impl AsFd for Import {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Import {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl DmaBufSource for Import {
    fn len(&self) -> u64 {
        self.size
    }
}

const QUEUE: QueueType = QueueType::VideoCapture;

/// What a device captures. Whatever it has imported goes when it is dropped.
pub(crate) struct Video {
    file: File,
    width: usize,
    height: usize,
}

/// References to a dma-buf, by the kernel's own word.
fn references(buffer: &Buffer) -> Result<i64, Stop> {
    let path = format!("/proc/self/fdinfo/{}", buffer.as_fd().as_raw_fd());
    let count = fs::read_to_string(path)?
        .lines()
        .find_map(|line| line.strip_prefix("count:")?.trim().parse().ok());
    match count {
        Some(count) => Ok(count),
        None => fail("fdinfo of a dma-buf has no count"),
    }
}

fn errno(error: impl IntoErrno) -> Errno {
    Errno::from_raw_os_error(error.into_errno())
}

impl Video {
    /// Opens what captures, for pictures of this size.
    pub(crate) fn open(which: Vivid, (width, height): (usize, usize)) -> Result<Self, Stop> {
        let instance = match which {
            Vivid::Contiguous => "platform:vivid-000",
            Vivid::Vmalloc => "platform:vivid-001",
        };
        for number in 0..64 {
            let path = format!("/dev/video{number}");
            let Ok(mut file) = OpenOptions::new().read(true).write(true).open(path) else {
                continue;
            };
            let Ok(found) = ioctl::querycap::<Capability>(&file) else {
                continue;
            };
            if found.bus_info != instance
                || !found.device_caps().contains(Capabilities::VIDEO_CAPTURE)
            {
                continue;
            }
            let format = Format::from((PixelFormat::from_fourcc(b"RGB3"), (width, height)));
            let format: Format = ioctl::s_fmt(&mut file, (QUEUE, &format)).map_err(errno)?;
            let video = Self {
                file,
                width,
                height,
            };
            let plane = &format.plane_fmt[0];
            if (format.width as usize, format.height as usize) != (width, height)
                || plane.bytesperline as usize != width * PIXEL
                || plane.sizeimage as usize != video.size()
            {
                return fail(format!("asked for {width} x {height}: {format:?}"));
            }
            return Ok(video);
        }
        if fs::exists("/sys/module/vivid")? {
            return fail(format!("vivid is there, and no {instance} captures"));
        }
        skip("this kernel has no vivid")
    }

    /// Bytes of a picture.
    pub(crate) fn size(&self) -> usize {
        self.width * self.height * PIXEL
    }

    pub(crate) fn set(&self, control: Control, value: i32) -> Result<(), Stop> {
        ioctl::s_ctrl(&self.file, control as u32, value).map_err(errno)?;
        Ok(())
    }

    /// Asks for buffers of imported memory, or else of the device's own.
    pub(crate) fn request(&self, imported: bool, count: u32) -> Result<(), Stop> {
        let memory = match imported {
            true => MemoryType::DmaBuf,
            false => MemoryType::Mmap,
        };
        let flags = MemoryConsistency::empty();
        let got: usize = ioctl::reqbufs(&self.file, QUEUE, memory, count, flags).map_err(errno)?;
        match got == count as usize {
            true => Ok(()),
            false => fail(format!("{got} buffers, asked for {count}")),
        }
    }

    fn queue_handle<H: PlaneHandle>(&self, index: u32, handle: &H) -> Result<(), Errno> {
        let mut buffer = QBuffer::<H>::new(QUEUE, index);
        buffer.planes.push(QBufPlane::new_from_handle(handle, 0));
        ioctl::qbuf(&self.file, buffer).map_err(errno)
    }

    /// `VIDIOC_QBUF` of an imported buffer.
    pub(crate) fn queue(&self, index: u32, buffer: &Buffer) -> Result<(), Errno> {
        let fd = rustix::io::fcntl_dupfd_cloexec(buffer, 0)?;
        let size = buffer.size();
        self.queue_handle(index, &DmaBufHandle(Import { fd, size }))
    }

    /// The same of a buffer that its exporter may refuse to attach: videobuf2 loses its reference
    /// to it then (`__prepare_dmabuf()` of 7.3), and the buffer would live until the next boot. It
    /// is given back here. Nothing else may use the buffer meanwhile.
    pub(crate) fn try_queue(&self, index: u32, buffer: &Buffer) -> Result<Result<(), Errno>, Stop> {
        let before = references(buffer)?;
        let answer = self.queue(index, buffer);
        if answer.is_err() {
            match references(buffer)? - before {
                0 => {}
                1 => Driver::open()?.put_lost(buffer)?,
                lost => return fail(format!("{lost} references are lost")),
            }
        }
        Ok(answer)
    }

    /// `VIDIOC_QBUF` of one of the device's own.
    pub(crate) fn queue_own(&self, index: u32) -> Result<(), Errno> {
        self.queue_handle(index, &MmapHandle)
    }

    /// The memory of one of the device's own.
    pub(crate) fn map_own(&self, index: u32) -> Result<PlaneMapping, Stop> {
        let buffer: QueryBuffer =
            ioctl::querybuf(&self.file, QUEUE, index as usize).map_err(errno)?;
        let plane = &buffer.planes[0];
        Ok(ioctl::mmap(&self.file, plane.mem_offset, plane.length).map_err(errno)?)
    }

    pub(crate) fn start(&self) -> Result<(), Stop> {
        Ok(ioctl::streamon(&self.file, QUEUE).map_err(errno)?)
    }

    /// All buffers come back, but stay imported.
    pub(crate) fn stop(&self) -> Result<(), Stop> {
        Ok(ioctl::streamoff(&self.file, QUEUE).map_err(errno)?)
    }

    /// Waits for a buffer that is done, and takes it back: its number.
    pub(crate) fn dequeue(&self) -> Result<u32, Stop> {
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&limit))? == 0 {
            return fail("no picture in 20 s");
        }
        let buffer: V4l2Buffer = ioctl::dqbuf(&self.file, QUEUE).map_err(errno)?;
        if buffer.has_error() {
            return fail(format!("{buffer:?} comes back with an error"));
        }
        Ok(buffer.index())
    }
}
