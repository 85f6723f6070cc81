// SPDX-License-Identifier: GPL-2.0

//! What an importer in the kernel can ask of a dma-buf (R13).

use cohbuf::CreateFlags;
use cohbuf_testdev::{system_heap, udmabuf};

use crate::driver::{Driver, How, Query};
use crate::guest::{self, Guest, page};
use crate::harness::{Outcome, expect_eq, skip};

crate::guest_suite!("query":
    of_each_flavour,
    of_a_buffer_in_use,
    of_other_exporters,
);

const WRITE_BACK: u32 = 0;
const WRITE_COMBINE: u32 = 1;

const FLAVOURS: [(CreateFlags, Query); 3] = [
    (
        CreateFlags::empty(),
        Query {
            coherent: false,
            caching: WRITE_BACK,
        },
    ),
    (
        CreateFlags::COHERENT,
        Query {
            coherent: true,
            caching: WRITE_BACK,
        },
    ),
    (
        CreateFlags::WRITE_COMBINE,
        Query {
            coherent: false,
            caching: WRITE_COMBINE,
        },
    ),
];

fn of_each_flavour(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for (flags, query) in FLAVOURS {
        let buffer = guest.buffer(page(), flags)?;
        expect_eq(&format!("{flags:?}"), driver.query(&buffer)?, Some(query))?;
    }
    Ok(())
}

// Before attach, while it is mapped, and after that: it never changes.
fn of_a_buffer_in_use(guest: &Guest) -> Outcome {
    let driver = Driver::open()?;
    for (flags, query) in &FLAVOURS[..2] {
        let buffer = guest.buffer(page(), *flags)?;
        let kind = cohbuf_testdev::TestDevice::SnoopModel;
        let device = driver.attach(&buffer, kind, How::default())?;
        expect_eq("attached", driver.query(&buffer)?, Some(*query))?;
        device.map(cohbuf_testdev::Direction::Bidirectional)?;
        expect_eq("mapped", driver.query(&buffer)?, Some(*query))?;
        drop(device);
        expect_eq("detached", driver.query(&buffer)?, Some(*query))?;
    }
    Ok(())
}

fn of_other_exporters(_: &Guest) -> Outcome {
    let driver = Driver::open()?;
    let others = [
        ("udmabuf", udmabuf(page() as u64)),
        ("system heap", system_heap(page() as u64)),
        (
            "vgem",
            guest::vgem().map_or_else(|_| Err(rustix::io::Errno::NOENT), |vgem| vgem.export()),
        ),
    ];
    let mut any = false;
    for (name, exported) in others {
        let Ok(fd) = exported else { continue };
        expect_eq(name, driver.query(&fd)?, None)?;
        any = true;
    }
    if !any {
        return skip("this kernel has no other exporter");
    }
    Ok(())
}
