// SPDX-License-Identifier: GPL-2.0

//! Parts of a buffer, and what it cost to sync one.

use core::ops::{Add, AddAssign, Range};

use crate::sys::claims::Span;
use crate::uapi;

/// A part of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Region {
    /// All of it.
    #[default]
    Whole,
    /// A range of bytes.
    Linear {
        /// Where it begins.
        offset: u64,
        /// Bytes, above 0.
        length: u64,
    },
    /// Rows of bytes, such as a rectangle of an image.
    Rows {
        /// Where the first row begins.
        offset: u64,
        /// Bytes of a row, above 0.
        length: u64,
        /// Bytes from the beginning of a row to that of the next, at least `length`.
        stride: u64,
        /// Rows, above 0.
        rows: u64,
    },
}

impl Region {
    /// A range of bytes.
    ///
    /// ```
    /// # use cohbuf::Region;
    /// assert_eq!(Region::linear(64..192), Region::Linear { offset: 64, length: 128 });
    /// ```
    pub const fn linear(range: Range<u64>) -> Self {
        Self::Linear {
            offset: range.start,
            length: range.end.saturating_sub(range.start),
        }
    }

    /// A rectangle of an image that begins where the buffer does: `width` by `height`
    /// pixels at `x`, `y`, in rows that are `stride` bytes apart.
    ///
    /// `None` where 64 bits cannot count the bytes before it, and where the pixels are not all
    /// in their rows, so that they would be those of the next row.
    ///
    /// ```
    /// # use cohbuf::Region;
    /// let region = Region::rectangle((76, 100), (10, 10), 4, 6400);
    /// let rows = Region::Rows { offset: 640_304, length: 40, stride: 6400, rows: 10 };
    /// assert_eq!(region, Some(rows));
    /// // Rows of 6400 bytes have 1600 such pixels.
    /// assert_eq!(Region::rectangle((1595, 100), (10, 10), 4, 6400), None);
    /// ```
    pub fn rectangle(
        (x, y): (u32, u32),
        (width, height): (u32, u32),
        bytes_per_pixel: u32,
        stride: u64,
    ) -> Option<Self> {
        let bytes = |pixels: u32| u64::from(pixels) * u64::from(bytes_per_pixel);
        if bytes(x).checked_add(bytes(width))? > stride {
            return None;
        }
        Some(Self::Rows {
            offset: u64::from(y).checked_mul(stride)?.checked_add(bytes(x))?,
            length: bytes(width),
            stride,
            rows: height.into(),
        })
    }

    /// As `struct cohbuf_sync` has it, with the other fields 0.
    pub(crate) fn to_raw(self) -> uapi::RegionSync {
        let raw = uapi::RegionSync::default();
        match self {
            Self::Whole => uapi::RegionSync {
                layout: uapi::LAYOUT_WHOLE,
                ..raw
            },
            Self::Linear { offset, length } => uapi::RegionSync {
                layout: uapi::LAYOUT_1D,
                offset,
                length,
                ..raw
            },
            Self::Rows {
                offset,
                length,
                stride,
                rows,
            } => uapi::RegionSync {
                layout: uapi::LAYOUT_2D,
                offset,
                length,
                stride,
                rows,
                ..raw
            },
        }
    }
}

/// A part of a buffer to copy to a part of another, or of the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CopyRegion {
    /// All of a buffer, to one of the same size.
    #[default]
    Whole,
    /// A range of bytes.
    Linear {
        /// Where it begins in the source.
        src_offset: u64,
        /// Where it begins in the destination.
        dst_offset: u64,
        /// Bytes, above 0.
        length: u64,
    },
    /// Rows of bytes, such as a rectangle of an image.
    Rows {
        /// Where the first row begins in the source.
        src_offset: u64,
        /// Where it begins in the destination.
        dst_offset: u64,
        /// Bytes from a row to the next in the source, at least `length`.
        src_stride: u64,
        /// Bytes from a row to the next in the destination, at least `length`.
        dst_stride: u64,
        /// Bytes of a row, above 0.
        length: u64,
        /// Rows, above 0.
        rows: u64,
    },
}

impl CopyRegion {
    /// Bytes to copy. `None` for [`Whole`](Self::Whole), which depends on the
    /// buffer, and where 64 bits cannot count them, which no buffer can hold.
    pub fn bytes(self) -> Option<u64> {
        match self {
            Self::Whole => None,
            Self::Linear { length, .. } => Some(length),
            Self::Rows { length, rows, .. } => length.checked_mul(rows),
        }
    }

    /// Where it lies in the source, and in the destination. [`None`]: all of it, or no region.
    pub(crate) fn spans(self) -> (Option<Span>, Option<Span>) {
        match self {
            Self::Whole => (None, None),
            Self::Linear {
                src_offset,
                dst_offset,
                length,
            } => {
                let of = |offset| Span::of(Region::Linear { offset, length });
                (of(src_offset), of(dst_offset))
            }
            Self::Rows {
                src_offset,
                dst_offset,
                src_stride,
                dst_stride,
                length,
                rows,
            } => {
                let of = |offset, stride| {
                    Span::of(Region::Rows {
                        offset,
                        length,
                        stride,
                        rows,
                    })
                };
                (of(src_offset, src_stride), of(dst_offset, dst_stride))
            }
        }
    }

    /// As `struct cohbuf_copy` has it, with the other fields 0.
    pub(crate) fn to_raw(self) -> uapi::Copy {
        let raw = uapi::Copy::default();
        match self {
            Self::Whole => uapi::Copy {
                layout: uapi::LAYOUT_WHOLE,
                ..raw
            },
            Self::Linear {
                src_offset,
                dst_offset,
                length,
            } => uapi::Copy {
                layout: uapi::LAYOUT_1D,
                src_offset,
                dst_offset,
                length,
                ..raw
            },
            Self::Rows {
                src_offset,
                dst_offset,
                src_stride,
                dst_stride,
                length,
                rows,
            } => uapi::Copy {
                layout: uapi::LAYOUT_2D,
                src_offset,
                dst_offset,
                src_stride,
                dst_stride,
                length,
                rows,
                ..raw
            },
        }
    }
}

impl From<Region> for CopyRegion {
    /// From where a region lies in one buffer to the same place in another.
    fn from(region: Region) -> Self {
        match region {
            Region::Whole => Self::Whole,
            Region::Linear { offset, length } => Self::Linear {
                src_offset: offset,
                dst_offset: offset,
                length,
            },
            Region::Rows {
                offset,
                length,
                stride,
                rows,
            } => Self::Rows {
                src_offset: offset,
                dst_offset: offset,
                src_stride: stride,
                dst_stride: stride,
                length,
                rows,
            },
        }
    }
}

/// What the START or the END of a window cost, in bytes. Costs add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCost {
    /// Of which the CPU caches were to be written back.
    pub cleaned: u64,
    /// Of which they were to be dropped.
    pub invalidated: u64,
    /// Copied to bounce buffers.
    pub to_copies: u64,
    /// Copied back from there.
    pub from_copies: u64,
    /// Handed to DMA ops of a device's own. Nobody knows what they do with them.
    pub own_ops: u64,
    /// Not maintained, but would have been if START and END maintained the whole
    /// buffer for each mapping whose device does not snoop, or has a copy.
    pub saved: u64,
}

impl SyncCost {
    /// All that was maintained.
    pub fn maintained(&self) -> u64 {
        [
            self.cleaned,
            self.invalidated,
            self.to_copies,
            self.from_copies,
            self.own_ops,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

impl Add for SyncCost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cleaned: self.cleaned.saturating_add(other.cleaned),
            invalidated: self.invalidated.saturating_add(other.invalidated),
            to_copies: self.to_copies.saturating_add(other.to_copies),
            from_copies: self.from_copies.saturating_add(other.from_copies),
            own_ops: self.own_ops.saturating_add(other.own_ops),
            saved: self.saved.saturating_add(other.saved),
        }
    }
}

impl AddAssign for SyncCost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl From<uapi::RegionSync> for SyncCost {
    fn from(raw: uapi::RegionSync) -> Self {
        Self {
            cleaned: raw.cleaned,
            invalidated: raw.invalidated,
            to_copies: raw.to_copies,
            from_copies: raw.from_copies,
            own_ops: raw.own_ops,
            saved: raw.saved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layout sets what it uses, and leaves zeros elsewhere: the kernel refuses others.
    #[test]
    fn raw_regions_have_zeros_where_nothing_is_used() {
        let zero = uapi::RegionSync::default();
        assert_eq!(Region::Whole.to_raw(), zero);
        let linear = Region::linear(4096..4200).to_raw();
        let must = uapi::RegionSync {
            layout: 1,
            offset: 4096,
            length: 104,
            ..zero
        };
        assert_eq!(linear, must);
        let rows = Region::Rows {
            offset: 1,
            length: 2,
            stride: 3,
            rows: 4,
        };
        let must = uapi::RegionSync {
            layout: 2,
            offset: 1,
            length: 2,
            stride: 3,
            rows: 4,
            ..zero
        };
        assert_eq!(rows.to_raw(), must);
    }

    #[test]
    fn raw_copies_have_zeros_where_nothing_is_used() {
        let zero = uapi::Copy::default();
        assert_eq!(CopyRegion::Whole.to_raw(), zero);
        let linear = CopyRegion::Linear {
            src_offset: 1,
            dst_offset: 2,
            length: 3,
        };
        let must = uapi::Copy {
            layout: 1,
            src_offset: 1,
            dst_offset: 2,
            length: 3,
            ..zero
        };
        assert_eq!(linear.to_raw(), must);
        let rows = CopyRegion::Rows {
            src_offset: 1,
            dst_offset: 2,
            src_stride: 5,
            dst_stride: 6,
            length: 3,
            rows: 4,
        };
        let must = uapi::Copy {
            layout: 2,
            src_offset: 1,
            dst_offset: 2,
            src_stride: 5,
            dst_stride: 6,
            length: 3,
            rows: 4,
            ..zero
        };
        assert_eq!(rows.to_raw(), must);
    }

    #[test]
    fn a_backward_range_is_empty() {
        // Which the kernel refuses.
        let backward = Range {
            start: 200,
            end: 100,
        };
        let Region::Linear { length, .. } = Region::linear(backward) else {
            panic!("not linear");
        };
        assert_eq!(length, 0);
    }

    #[test]
    fn a_rectangle_beyond_all_numbers_is_none() {
        assert_eq!(Region::rectangle((0, 2), (1, 1), 4, u64::MAX), None);
    }

    #[test]
    fn bytes_of_a_copy() {
        let rows = |length, rows| CopyRegion::Rows {
            src_offset: 0,
            dst_offset: 0,
            src_stride: length,
            dst_stride: length,
            length,
            rows,
        };
        assert_eq!(rows(40, 10).bytes(), Some(400));
        assert_eq!(rows(u64::MAX, 2).bytes(), None);
        assert_eq!(CopyRegion::Whole.bytes(), None);
        let same = CopyRegion::from(Region::linear(64..192));
        assert_eq!(same.bytes(), Some(128));
    }

    #[test]
    fn costs_add_up_and_saved_is_no_cost() {
        let cost = SyncCost {
            cleaned: 1,
            invalidated: 2,
            to_copies: 4,
            from_copies: 8,
            own_ops: 16,
            saved: 32,
        };
        assert_eq!(cost.maintained(), 31);
        assert_eq!((cost + cost).maintained(), 62);
        assert_eq!((cost + cost).saved, 64);
    }
}
