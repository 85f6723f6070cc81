// SPDX-License-Identifier: GPL-2.0

//! The module cannot go while a buffer lives.

use std::fs::File;

use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, fails_with};
use crate::raw::{delete_module, load_module};

crate::guest_suite!("lifetime":rmmod_is_refused_while_a_buffer_lives);

fn rmmod_is_refused_while_a_buffer_lives(guest: &Guest) -> Outcome {
    fails_with(
        delete_module(c"cohbuf"),
        Errno::AGAIN,
        "rmmod under a driver that uses what it exports",
    )?;
    delete_module(c"cohbuf_driver")?;
    let buffer = guest.bracketed(page())?;
    fails_with(
        delete_module(c"cohbuf"),
        Errno::AGAIN,
        "rmmod with a buffer",
    )?;
    let mapping = buffer.map()?;
    drop(buffer);
    fails_with(
        delete_module(c"cohbuf"),
        Errno::AGAIN,
        "rmmod with a mapping",
    )?;
    drop(mapping);
    delete_module(c"cohbuf")?;
    let gone = !std::path::Path::new(cohbuf::Device::PATH).exists();
    load_module(File::open("/modules/cohbuf.ko")?)?;
    load_module(File::open("/modules/cohbuf_driver.ko")?)?;
    check!(gone, "the device node stays");
    guest.bracketed(page())?;
    Ok(())
}
