// SPDX-License-Identifier: GPL-2.0

//! Memory of a buffer is its maker's: the memory cgroup is charged for it.

use std::fs;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::check;
use crate::child;
use crate::guest::Guest;
use crate::harness::{Outcome, Stop, fail, skip};

crate::guest_suite!("limits":
    buffer_is_charged_and_given_back,
    more_than_the_cgroup_may_have,
    one_after_the_other_until_the_cgroup_is_full,
);

const ROOT: &str = "/tmp/cgroup";
const GROUP: &str = "/tmp/cgroup/cohbuf";
const MAX: u64 = 32 << 20;

/// Runs a test with the path of a cgroup that may have [`MAX`] bytes.
pub(super) fn with_cgroup(test: impl FnOnce(&str) -> Outcome) -> Outcome {
    fs::create_dir_all(ROOT)?;
    if mount("none", ROOT, "cgroup2", MountFlags::empty(), None).is_err() {
        return skip("no cgroup2 here");
    }
    let result = set_up().and_then(|()| test(GROUP));
    let _ = fs::remove_dir(GROUP);
    unmount(ROOT, UnmountFlags::empty())?;
    result
}

fn set_up() -> Outcome {
    let controllers = fs::read_to_string(format!("{ROOT}/cgroup.controllers"))?;
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return skip("no memory controller here");
    }
    fs::write(format!("{ROOT}/cgroup.subtree_control"), "+memory")?;
    fs::create_dir_all(GROUP)?;
    fs::write(format!("{GROUP}/memory.max"), MAX.to_string())?;
    Ok(())
}

/// What a process in the cgroup prints that makes a buffer of so many bytes.
fn create(group: &str, bytes: u64) -> Result<String, Stop> {
    let output = child::run(&["create-in-cgroup", group, &bytes.to_string(), "0"])?;
    if !output.status.success() {
        // A signal would be the OOM killer's.
        return fail(format!("the process in the cgroup: {output:?}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn buffer_is_charged_and_given_back(_guest: &Guest) -> Outcome {
    with_cgroup(|group| {
        let bytes = 8 << 20;
        let text = create(group, bytes)?;
        let numbers: Vec<u64> = text
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let [before, with, after] = numbers[..] else {
            return fail(format!("the process in the cgroup: {text}"));
        };
        check!(
            with >= before + bytes,
            "charged {before} before, {with} with the buffer"
        );
        check!(
            after + bytes / 2 < with,
            "charged {with} with the buffer, {after} after it"
        );
        Ok(())
    })
}

fn more_than_the_cgroup_may_have(_guest: &Guest) -> Outcome {
    with_cgroup(|group| {
        let text = create(group, 2 * MAX)?;
        let wanted = format!("errno {}", libc::ENOMEM);
        check!(text == wanted, "twice memory.max: {text}, wanted {wanted}");
        Ok(())
    })
}

// No buffer is too large, all of them together are. Afterwards all is given back.
fn one_after_the_other_until_the_cgroup_is_full(_guest: &Guest) -> Outcome {
    with_cgroup(|group| {
        let size: u64 = 1 << 20;
        let output = child::run(&["fill-cgroup", group, &size.to_string()])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [count, full, empty] = numbers[..] else {
            return fail(format!("the process in the cgroup: {output:?}"));
        };
        check!(
            count * size <= MAX && count * size >= MAX / 2,
            "{count} buffers of 1 MiB in a cgroup that may have {MAX} bytes"
        );
        check!(
            full >= count * size && full <= MAX,
            "charged {full} for {count} buffers of 1 MiB"
        );
        check!(empty < MAX / 4, "charged {empty} after {full}");
        Ok(())
    })
}
