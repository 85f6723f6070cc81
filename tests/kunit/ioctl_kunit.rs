// SPDX-License-Identifier: GPL-2.0

//! The errnos of the ioctls, with user memory of the test's own. What needs a file descriptor is
//! tested from user space, by `tests/vm`.

use kernel::macros::kunit_tests;

#[kunit_tests(cohbuf_ioctl)]
mod tests {
    use core::mem::{
        offset_of,
        size_of, //
    };

    use dma_buf::{
        kunit_support::UserPage,
        params,
        uapi::{
            cohbuf_caps,
            cohbuf_create,
            cohbuf_info,
            cohbuf_ioctl_COHBUF_IOCTL_CAPS as CAPS,
            cohbuf_ioctl_COHBUF_IOCTL_CREATE as CREATE,
            cohbuf_ioctl_COHBUF_IOCTL_INFO as INFO,
            cohbuf_ioctl_COHBUF_IOCTL_SYNC as SYNC,
            cohbuf_sync,
            IoctlStruct,
            COHBUF_API_VERSION,
            COHBUF_COHERENT,
            COHBUF_CONTIGUOUS,
            COHBUF_ENFORCE_POISON,
            COHBUF_ENFORCE_REPORT,
            COHBUF_TRACK_DIRTY,
            COHBUF_WRITE_COMBINE, //
        },
    };
    use kernel::{
        fs::file::flags::{
            O_APPEND,
            O_RDWR,
            O_WRONLY, //
        },
        page::PAGE_SIZE,
        prelude::*, //
    };

    use crate::{
        fixture::*,
        ioctl::dispatch, //
    };

    /// `cmd` with another size of the structure.
    const fn resized(cmd: u32, size: usize) -> u32 {
        (cmd & !(0x3fff << 16)) | ((size as u32) << 16)
    }

    /// Calls `cmd` with `arg`, and checks that it fails and leaves `arg` as it is.
    fn fails<S: IoctlStruct + PartialEq>(cmd: u32, arg: S, errno: Error, what: &str) -> Result {
        let user = UserPage::new()?;
        user.put(&arg)?;
        check_err(dispatch(cmd, user.addr()), errno, what)?;
        check(
            user.get::<S>()? == arg,
            "an ioctl that fails writes nothing",
        )
    }

    fn good() -> cohbuf_create {
        cohbuf_create {
            size: PAGE_SIZE as u64,
            fd_flags: O_RDWR,
            ..Default::default()
        }
    }

    #[test]
    fn unknown_commands() -> Result {
        let user = UserPage::new()?;
        for cmd in [0, CAPS + 5, CAPS ^ (1 << 31), CREATE ^ 0x100, u32::MAX] {
            check_err(dispatch(cmd, user.addr()), ENOTTY, "an unknown command")?;
        }
        Ok(())
    }

    #[test]
    fn bad_pointers() -> Result {
        for cmd in [CAPS, CREATE, INFO, SYNC] {
            check_err(dispatch(cmd, 0), EFAULT, "a null pointer")?;
            check_err(dispatch(cmd, usize::MAX - 4096), EFAULT, "a kernel pointer")?;
        }
        Ok(())
    }

    #[test]
    fn structure_sizes() -> Result {
        let user = UserPage::new()?;
        for (cmd, size) in [
            (CAPS, size_of::<cohbuf_caps>()),
            (CREATE, size_of::<cohbuf_create>()),
            (INFO, offset_of!(cohbuf_info, caching)),
            (SYNC, size_of::<cohbuf_sync>()),
        ] {
            check_err(
                dispatch(resized(cmd, size - 1), user.addr()),
                EINVAL,
                "too short",
            )?;
            check_err(dispatch(resized(cmd, 0), user.addr()), EINVAL, "empty")?;
            check_err(
                dispatch(resized(cmd, PAGE_SIZE + 1), user.addr()),
                E2BIG,
                "longer than a page",
            )?;
        }
        Ok(())
    }

    #[test]
    fn longer_structures() -> Result {
        let user = UserPage::new()?;
        let longer = resized(CAPS, size_of::<cohbuf_info>());
        dispatch(longer, user.addr())?;
        let tail = cohbuf_info {
            syncs_for_cpu: 1,
            ..Default::default()
        };
        user.put(&tail)?;
        check_err(dispatch(longer, user.addr()), E2BIG, "a tail that is set")
    }

    #[test]
    fn caps() -> Result {
        let user = UserPage::new()?;
        dispatch(CAPS, user.addr())?;
        let caps: cohbuf_caps = user.get()?;
        check(caps.version == COHBUF_API_VERSION, "version")?;
        check(
            caps.flags
                == u64::from(
                    COHBUF_COHERENT
                        | COHBUF_WRITE_COMBINE
                        | COHBUF_CONTIGUOUS
                        | COHBUF_TRACK_DIRTY
                        | COHBUF_ENFORCE_REPORT
                        | COHBUF_ENFORCE_POISON,
                ),
            "flags",
        )?;
        check(
            caps.max_size == u64::from(params::max_size_mb()) << 20,
            "limit",
        )?;
        check(caps.page_size == PAGE_SIZE as u64, "page size")?;
        drop(user);
        fails(
            CAPS,
            cohbuf_caps {
                reserved: 1,
                ..Default::default()
            },
            EINVAL,
            "reserved",
        )
    }

    #[test]
    fn create_flags() -> Result {
        let known =
            COHBUF_CONTIGUOUS | COHBUF_TRACK_DIRTY | COHBUF_ENFORCE_REPORT | COHBUF_ENFORCE_POISON;
        for bit in (2..32).filter(|bit| (1 << bit) & known == 0) {
            let arg = cohbuf_create {
                flags: 1 << bit,
                ..good()
            };
            fails(CREATE, arg, EINVAL, "an unknown flag")?;
        }
        for flags in [
            COHBUF_COHERENT | COHBUF_WRITE_COMBINE,
            COHBUF_COHERENT | COHBUF_TRACK_DIRTY,
            COHBUF_WRITE_COMBINE | COHBUF_TRACK_DIRTY,
            COHBUF_ENFORCE_REPORT | COHBUF_ENFORCE_POISON,
            COHBUF_COHERENT | COHBUF_ENFORCE_REPORT | COHBUF_ENFORCE_POISON,
            COHBUF_COHERENT | COHBUF_TRACK_DIRTY | COHBUF_ENFORCE_REPORT,
        ] {
            let arg = cohbuf_create { flags, ..good() };
            fails(CREATE, arg, EINVAL, "flags that exclude each other")?;
        }
        for fd_flags in [O_WRONLY, O_RDWR | O_APPEND, 3, 1 << 31] {
            let arg = cohbuf_create { fd_flags, ..good() };
            fails(CREATE, arg, EINVAL, "a flag that is none of a dma-buf")?;
        }
        Ok(())
    }

    #[test]
    fn create_reserved() -> Result {
        let arg = cohbuf_create {
            reserved: 1,
            ..good()
        };
        fails(CREATE, arg, EINVAL, "reserved")?;
        let arg = cohbuf_create { fd: -1, ..good() };
        fails(CREATE, arg, EINVAL, "fd")
    }

    #[test]
    fn create_sizes() -> Result {
        let limit = u64::from(params::max_size_mb()) << 20;
        for (size, errno) in [
            (0, EINVAL),
            (limit + 1, EFBIG),
            (u64::MAX - PAGE_SIZE as u64 + 1, EFBIG),
            (u64::MAX - PAGE_SIZE as u64 + 2, EOVERFLOW),
            (u64::MAX, EOVERFLOW),
        ] {
            let arg = cohbuf_create { size, ..good() };
            fails(CREATE, arg, errno, "a bad size")?;
        }
        Ok(())
    }

    #[test]
    fn info_fields() -> Result {
        let good = cohbuf_info {
            fd: -1,
            ..Default::default()
        };
        fails(INFO, good, EBADF, "no file descriptor")?;
        fails(INFO, cohbuf_info { flags: 1, ..good }, EINVAL, "flags")?;
        fails(
            INFO,
            cohbuf_info {
                reserved: 1,
                ..good
            },
            EINVAL,
            "reserved",
        )?;
        fails(
            INFO,
            cohbuf_info {
                write_windows: 1,
                ..good
            },
            EINVAL,
            "write_windows",
        )
    }
}
