// SPDX-License-Identifier: GPL-2.0

//! Slices of a buffer, inside of windows of CPU access.

use core::ops::{Deref, DerefMut, Range};

use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use crate::access::{Access, CpuAccess, RegionAccess};
use crate::device::Device;
use crate::error::{Error, Operation, Result};
use crate::mapping::Mapping;
use crate::region::{Region, SyncCost};
use crate::sys::claims::{Claim, Span};
use crate::sys::slices::{Bytes, BytesMut};

pub use crate::sys::slices::RowsMut;

/// A buffer in this process's address space, whose bytes are there inside of windows.
///
/// A window begins CPU access when it is made, and ends it when it is dropped or by its
/// `end`, which can report an error. In between, and nowhere else, it is a slice:
///
/// | | to read | to write | to read and write |
/// |---|---|---|---|
/// | all of the view | [`read`](Self::read) | [`write`](Self::write) | [`read_write`](Self::read_write) |
/// | a range | [`read_range`](Self::read_range) | [`write_range`](Self::write_range) | [`read_write_range`](Self::read_write_range) |
/// | a rectangle | [`read_rows`](Self::read_rows) | [`write_rows`](Self::write_rows) | [`read_write_rows`](Self::read_write_rows) |
///
/// Ranges and rectangles are of buffers that cohbuf made: for them only the cache lines
/// are maintained that they touch. The rest is of any dma-buf.
///
/// ```no_run
/// # fn main() -> cohbuf::Result<()> {
/// let device = cohbuf::Device::open()?;
/// let buffer = device.buffer(1 << 20).create()?;
/// let mut view = buffer.view()?;
///
/// let mut window = view.write()?;
/// window[..5].copy_from_slice(b"hello");
/// window.end()?;
///
/// let window = view.read()?;
/// assert!(window.starts_with(b"hello"));
/// window.end()?;
/// # Ok(())
/// # }
/// ```
///
/// # Windows beside each other
///
/// Slices of the same bytes exclude each other as Rust wants it, also where they come from
/// several views, mappings or descriptors of the same buffer: the second window fails with
/// `EBUSY`. Windows that only read share their bytes.
///
/// So it is with what would change the bytes of a slice in another way. [`Mapping::write`] does,
/// and [`Device::copy`]; and so may the beginning of a window, of whatever kind, which gets what
/// devices wrote from where that is. By this,
///
/// - a window of a whole view, and [`Buffer::cpu_access`](crate::Buffer::cpu_access), is of the
///   whole buffer. It does not begin while another hands out a slice of any part of that;
/// - one of a range or of rows, and [`Device::cpu_access_region`], is of whole cache lines. It does
///   not begin while another hands out a slice of those to be read. Slices to be written may be
///   of other bytes of the same lines.
///
/// Windows that only read get along: one that wants what another hands out already begins
/// nothing, and has the bytes of that one. The last of them ends it for all, and has the cost.
/// What another hands out in part only is refused, too: threads that read at the same time all
/// take the whole view, or each its range. Parts of a buffer of cohbuf are best taken by ranges and
/// rows, from cache line to cache line (256 bytes always are whole lines).
///
/// Nobody waits for the end of a window: `EBUSY` comes at once.
///
/// All this is known of this process alone. Others, and devices, are ordered by windows and
/// fences; one that writes meanwhile breaks the contract of dma-bufs, and what a slice shows then
/// is not defined. Where several devices write that have copies of the buffer, such as bounce
/// buffers, do not let importers come or go meanwhile either, nor other processes begin windows:
/// a slice to read may show old bytes for a moment. Where those who have the buffer are not to be
/// trusted, copy by a [`Mapping`] instead.
///
/// A window that is forgotten (`mem::forget`) is never ended: its slices, and what they exclude,
/// are there until the process exits.
#[derive(Debug)]
pub struct View<'b> {
    buffer: BorrowedFd<'b>,
    mapping: Mapping,
}

impl<'b> View<'b> {
    pub(crate) fn new(buffer: BorrowedFd<'b>, mapping: Mapping) -> Self {
        Self { buffer, mapping }
    }

    /// Bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the kernel maps no empty range"
    )]
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Opens a window to read the whole view. It waits for devices that write.
    ///
    /// # Errors
    ///
    /// `EIO`: the buffer is poisoned. `EBUSY`: another window of this process
    /// [does not go with it](#windows-beside-each-other). `ENOMEM`, `ENOSPC`: no room for one
    /// more window.
    pub fn read(&self) -> Result<ReadWindow<'_>> {
        let (bracket, claim) = self.begin(Access::Read)?;
        let bytes = self.mapping.slices(claim)?;
        Ok(ReadWindow { bytes, bracket })
    }

    /// Opens a window to write the whole view. It waits for devices that use the buffer. What
    /// is there before may not be what devices wrote, but what is left alone stays as it was.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read); and `EACCES`: the view is read-only.
    pub fn write(&mut self) -> Result<WriteWindow<'_>> {
        self.write_as(Access::Write)
    }

    /// The same, to read what devices wrote, too.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write).
    pub fn read_write(&mut self) -> Result<WriteWindow<'_>> {
        self.write_as(Access::ReadWrite)
    }

    fn write_as(&mut self, access: Access) -> Result<WriteWindow<'_>> {
        let (bracket, claim) = self.begin(access)?;
        let bytes = self.mapping.slices_mut(claim)?;
        Ok(WriteWindow { bytes, bracket })
    }

    fn begin(&self, access: Access) -> Result<(CpuAccess<'b>, Claim)> {
        let span = self.mapping.claimable(None, access.writes())?;
        CpuAccess::begin_slices(self.buffer, self.mapping.claims(), access, span)
    }

    fn begin_region<'w>(
        &self,
        device: &'w Device,
        access: Access,
        region: Region,
    ) -> Result<(RegionAccess<'w>, Claim)>
    where
        'b: 'w,
    {
        let span = self.mapping.claimable(span(region)?, access.writes())?;
        let claims = self.mapping.claims();
        RegionAccess::begin_slices(device, self.buffer, claims, access, region, span)
    }

    /// Opens a window to read a range of the buffer.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read); and `ERANGE`: the range is empty, or not inside of the
    /// view. `EMEDIUMTYPE`: the dma-buf is of another exporter.
    pub fn read_range<'w>(
        &'w self,
        device: &'w Device,
        range: Range<u64>,
    ) -> Result<ReadWindow<'w, RegionAccess<'w>>> {
        let region = Region::linear(range);
        let (bracket, claim) = self.begin_region(device, Access::Read, region)?;
        let bytes = self.mapping.slices(claim)?;
        Ok(ReadWindow { bytes, bracket })
    }

    /// Opens a window to write a range of the buffer. See [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// Those of [`read_range`](Self::read_range) and [`write`](Self::write).
    pub fn write_range<'w>(
        &'w mut self,
        device: &'w Device,
        range: Range<u64>,
    ) -> Result<WriteWindow<'w, RegionAccess<'w>>> {
        self.write_range_as(device, Access::Write, range)
    }

    /// The same, to read what devices wrote, too.
    ///
    /// # Errors
    ///
    /// Those of [`write_range`](Self::write_range).
    pub fn read_write_range<'w>(
        &'w mut self,
        device: &'w Device,
        range: Range<u64>,
    ) -> Result<WriteWindow<'w, RegionAccess<'w>>> {
        self.write_range_as(device, Access::ReadWrite, range)
    }

    fn write_range_as<'w>(
        &'w mut self,
        device: &'w Device,
        access: Access,
        range: Range<u64>,
    ) -> Result<WriteWindow<'w, RegionAccess<'w>>> {
        let region = Region::linear(range);
        let (bracket, claim) = self.begin_region(device, access, region)?;
        let bytes = self.mapping.slices_mut(claim)?;
        Ok(WriteWindow { bytes, bracket })
    }

    /// Opens a window to read rows: a [`Region::rectangle`] of an image, or any other region.
    ///
    /// # Errors
    ///
    /// Those of [`read_range`](Self::read_range).
    pub fn read_rows<'w>(&'w self, device: &'w Device, region: Region) -> Result<ReadRows<'w>> {
        let (bracket, claim) = self.begin_region(device, Access::Read, region)?;
        let bytes = self.mapping.slices(claim)?;
        Ok(ReadRows { bytes, bracket })
    }

    /// Opens a window to write rows. See [`write`](Self::write).
    ///
    /// ```no_run
    /// # fn main() -> cohbuf::Result<()> {
    /// # let device = cohbuf::Device::open()?;
    /// // 1600 by 1200 pixels of 4 bytes.
    /// let buffer = device.buffer(1600 * 1200 * 4).create()?;
    /// let mut view = buffer.view()?;
    ///
    /// let Some(sprite) = cohbuf::Region::rectangle((76, 100), (10, 10), 4, 6400) else {
    ///     return Ok(()); // not in such rows
    /// };
    /// let mut window = view.write_rows(&device, sprite)?;
    /// for row in window.rows_mut() {
    ///     row.fill(0xff);
    /// }
    /// let cost = window.end()?;
    /// assert!(cost.maintained() <= 1280);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`write_range`](Self::write_range).
    pub fn write_rows<'w>(
        &'w mut self,
        device: &'w Device,
        region: Region,
    ) -> Result<WriteRows<'w>> {
        self.write_rows_as(device, Access::Write, region)
    }

    /// The same, to read what devices wrote, too.
    ///
    /// # Errors
    ///
    /// Those of [`write_rows`](Self::write_rows).
    pub fn read_write_rows<'w>(
        &'w mut self,
        device: &'w Device,
        region: Region,
    ) -> Result<WriteRows<'w>> {
        self.write_rows_as(device, Access::ReadWrite, region)
    }

    fn write_rows_as<'w>(
        &'w mut self,
        device: &'w Device,
        access: Access,
        region: Region,
    ) -> Result<WriteRows<'w>> {
        let (bracket, claim) = self.begin_region(device, access, region)?;
        let bytes = self.mapping.slices_mut(claim)?;
        Ok(WriteRows { bytes, bracket })
    }
}

/// The bytes of a region. `None` for all of the view.
fn span(region: Region) -> Result<Option<Span>> {
    if region == Region::Whole {
        return Ok(None);
    }
    match Span::of(region) {
        Some(span) => Ok(Some(span)),
        None => Err(Error::new(Operation::Begin, Errno::RANGE)),
    }
}

mod sealed {
    pub trait Sealed {}
}

/// What ends a window: that of `DMA_BUF_IOCTL_SYNC`, which does not say what it cost, or that
/// of `COHBUF_IOCTL_SYNC`, which does.
pub trait Bracket: sealed::Sealed {
    /// What is known of the cost.
    type Cost;

    #[doc(hidden)]
    fn close(self) -> Result<Self::Cost>;
}

impl sealed::Sealed for CpuAccess<'_> {}

impl Bracket for CpuAccess<'_> {
    type Cost = ();

    fn close(self) -> Result<()> {
        self.end()
    }
}

impl sealed::Sealed for RegionAccess<'_> {}

impl Bracket for RegionAccess<'_> {
    type Cost = SyncCost;

    fn close(self) -> Result<SyncCost> {
        let begin = self.begin_cost();
        Ok(begin + self.end()?)
    }
}

/// A window to read. It is a `&[u8]` while it is open.
#[derive(Debug)]
#[must_use = "the window ends when this is dropped"]
pub struct ReadWindow<'w, B: Bracket = CpuAccess<'w>> {
    // Goes first: who comes then shares the START still.
    bytes: Bytes<'w>,
    bracket: B,
}

impl<B: Bracket> ReadWindow<'_, B> {
    /// Ends the window, and says what it cost, from its beginning on.
    ///
    /// # Errors
    ///
    /// `EIO`: the buffer is poisoned.
    pub fn end(self) -> Result<B::Cost> {
        drop(self.bytes);
        self.bracket.close()
    }
}

impl<B: Bracket> Deref for ReadWindow<'_, B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.row(0).unwrap_or_default()
    }
}

/// A window to write. It is a `&mut [u8]` while it is open.
#[derive(Debug)]
#[must_use = "the window ends when this is dropped"]
pub struct WriteWindow<'w, B: Bracket = CpuAccess<'w>> {
    // Goes first: the START of who comes before the END may bring old bytes back.
    bracket: B,
    bytes: BytesMut<'w>,
}

impl<B: Bracket> WriteWindow<'_, B> {
    /// Ends the window, so that devices see what was written, and says what it cost, from its
    /// beginning on.
    ///
    /// # Errors
    ///
    /// `EIO`: the buffer is poisoned.
    pub fn end(self) -> Result<B::Cost> {
        self.bracket.close()
    }
}

impl<B: Bracket> Deref for WriteWindow<'_, B> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.row(0).unwrap_or_default()
    }
}

impl<B: Bracket> DerefMut for WriteWindow<'_, B> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.row_mut(0).unwrap_or_default()
    }
}

/// A window to read rows.
#[derive(Debug)]
#[must_use = "the window ends when this is dropped"]
pub struct ReadRows<'w> {
    // As in `ReadWindow`.
    bytes: Bytes<'w>,
    bracket: RegionAccess<'w>,
}

impl ReadRows<'_> {
    /// One row.
    pub fn row(&self, row: usize) -> Option<&[u8]> {
        self.bytes.row(row)
    }

    /// All of them.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.bytes.rows()).map(|row| self.bytes.row(row).unwrap_or_default())
    }

    /// Ends the window, and says what it cost, from its beginning on.
    ///
    /// # Errors
    ///
    /// `EIO`: the buffer is poisoned.
    pub fn end(self) -> Result<SyncCost> {
        drop(self.bytes);
        self.bracket.close()
    }
}

/// A window to write rows.
#[derive(Debug)]
#[must_use = "the window ends when this is dropped"]
pub struct WriteRows<'w> {
    // As in `WriteWindow`.
    bracket: RegionAccess<'w>,
    bytes: BytesMut<'w>,
}

impl WriteRows<'_> {
    /// One row.
    pub fn row(&self, row: usize) -> Option<&[u8]> {
        self.bytes.row(row)
    }

    /// One row, to write.
    pub fn row_mut(&mut self, row: usize) -> Option<&mut [u8]> {
        self.bytes.row_mut(row)
    }

    /// All of them.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.bytes.rows()).map(|row| self.bytes.row(row).unwrap_or_default())
    }

    /// All of them, to write.
    pub fn rows_mut(&mut self) -> RowsMut<'_> {
        self.bytes.rows_mut()
    }

    /// Ends the window, so that devices see what was written, and says what it cost, from its
    /// beginning on.
    ///
    /// # Errors
    ///
    /// `EIO`: the buffer is poisoned.
    pub fn end(self) -> Result<SyncCost> {
        self.bracket.close()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;
    use crate::Protection;
    use crate::sys::claims::{Claims, Use};

    /// Memory of this process, in the place of a buffer: it can be mapped, but not synced.
    fn memory() -> std::os::fd::OwnedFd {
        let fd = memfd_create("view", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, 8192).unwrap();
        fd
    }

    fn mapping(fd: &impl AsFd, protection: Protection) -> Mapping {
        let claims = Claims::of(fd.as_fd()).unwrap();
        Mapping::new(fd.as_fd(), claims, 0, 8192, protection).unwrap()
    }

    fn claim(map: &Mapping, span: Option<Span>, what: Use) -> Result<Claim> {
        let span = map.claimable(span, what == Use::SliceMut)?;
        map.claims()
            .claim(span, what)
            .map_err(|errno| Error::new(Operation::Begin, errno))
    }

    fn slices(map: &Mapping, span: Option<Span>) -> Result<Bytes<'_>> {
        map.slices(claim(map, span, Use::Slice)?)
    }

    fn slices_mut(map: &mut Mapping, span: Option<Span>) -> Result<BytesMut<'_>> {
        let claim = claim(map, span, Use::SliceMut)?;
        map.slices_mut(claim)
    }

    fn rows(offset: u64, length: u64, stride: u64, rows: u64) -> Option<Span> {
        span(Region::Rows {
            offset,
            length,
            stride,
            rows,
        })
        .unwrap()
    }

    #[test]
    fn rows_are_where_the_region_says() {
        let fd = memory();
        let mut map = mapping(&fd, Protection::ReadWrite);
        let mut bytes = slices_mut(&mut map, rows(100, 3, 64, 4)).unwrap();
        for (number, row) in bytes.rows_mut().enumerate() {
            row.fill(number as u8 + 1);
        }
        assert_eq!(bytes.rows_mut().len(), 4);
        assert_eq!(bytes.row(3), Some(&[4; 3][..]));
        assert_eq!(bytes.row(4), None);
        drop(bytes);
        let all = map.to_vec().unwrap();
        let mut must = vec![0; 8192];
        for row in 0..4 {
            must[100 + row * 64..][..3].fill(row as u8 + 1);
        }
        assert_eq!(all, must);
    }

    #[test]
    fn slices_of_two_mappings_exclude_each_other() {
        let fd = memory();
        let (mut one, mut two) = (
            mapping(&fd, Protection::ReadWrite),
            mapping(&fd, Protection::ReadWrite),
        );
        let left = slices_mut(&mut one, rows(0, 32, 64, 8)).unwrap();
        assert!(slices_mut(&mut two, rows(32, 32, 64, 8)).is_ok());
        let error = slices_mut(&mut two, rows(31, 32, 64, 8)).unwrap_err();
        assert_eq!(error.errno(), Errno::BUSY);
        assert!(error.to_string().contains("end it first"), "{error}");
        assert_eq!(two.read(64, &mut [0]).unwrap_err().errno(), Errno::BUSY);
        assert_eq!(two.write(95, &[0]).unwrap_err().errno(), Errno::BUSY);
        assert!(two.write(96, &[0]).is_ok());
        drop(left);
        assert!(slices_mut(&mut two, None).is_ok());
    }

    #[test]
    fn other_buffers_have_nothing_to_do_with_it() {
        let (fd, other) = (memory(), memory());
        let (mut one, mut two) = (
            mapping(&fd, Protection::ReadWrite),
            mapping(&other, Protection::ReadWrite),
        );
        let _held = slices_mut(&mut one, None).unwrap();
        assert!(slices_mut(&mut two, None).is_ok());
    }

    #[test]
    fn nothing_beyond_the_mapping() {
        let fd = memory();
        let mut map = Mapping::new(
            fd.as_fd(),
            Claims::of(fd.as_fd()).unwrap(),
            4096,
            4096,
            Protection::ReadWrite,
        )
        .unwrap();
        for (region, holds) in [
            (Region::linear(4096..8192), true),
            (Region::linear(4095..8192), false),
            (Region::linear(4096..8193), false),
            (Region::linear(0..u64::MAX), false),
            (
                Region::Rows {
                    offset: 4096,
                    length: 1,
                    stride: 4095,
                    rows: 2,
                },
                true,
            ),
            (
                Region::Rows {
                    offset: 4096,
                    length: 1,
                    stride: 4096,
                    rows: 2,
                },
                false,
            ),
        ] {
            let span = span(region).unwrap();
            assert_eq!(slices(&map, span).is_ok(), holds, "{region:?}");
            assert_eq!(slices_mut(&mut map, span).is_ok(), holds, "{region:?}");
        }
        for empty in [Region::linear(64..64), Region::linear(u64::MAX..u64::MAX)] {
            assert_eq!(span(empty).unwrap_err().errno(), Errno::RANGE);
        }
    }

    #[test]
    fn a_read_only_view_has_no_window_to_write() {
        let fd = memory();
        let mut map = mapping(&fd, Protection::Read);
        assert!(slices(&map, None).is_ok());
        assert_eq!(
            slices_mut(&mut map, None).unwrap_err().errno(),
            Errno::ACCESS
        );
        assert_eq!(map.write(0, &[1]).unwrap_err().errno(), Errno::ACCESS);
    }

    #[test]
    fn a_window_that_the_kernel_refuses_leaves_no_claim() {
        let fd = memory();
        let mut view = View::new(fd.as_fd(), mapping(&fd, Protection::ReadWrite));
        // It is no dma-buf.
        assert_eq!(view.write().unwrap_err().errno(), Errno::NOTTY);
        assert_eq!(view.read().unwrap_err().errno(), Errno::NOTTY);
        assert!(slices_mut(&mut view.mapping, None).is_ok());
    }
}
