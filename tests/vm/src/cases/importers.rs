// SPDX-License-Identifier: GPL-2.0

//! Who may attach and map (R1, R2).

use cohbuf_testdev::{Direction, TestDevice, Vgem};
use rustix::io::Errno;

use crate::check;
use crate::guest::{Guest, page};
use crate::harness::{Outcome, Stop, fails_with, skip};

crate::guest_suite!("importers":
    coherent_by_device,
    bracketed_by_device,
    refusal_is_logged,
    vgem_attaches,
    map_in_every_direction,
    map_and_unmap_states,
    coherent_is_refused_where_bounced,
    bracketed_maps_where_bounced,
    detach_without_unmap,
    importer_errnos,
);

const DEVICES: [TestDevice; 3] = [
    TestDevice::Edu,
    TestDevice::Coherent,
    TestDevice::NonCoherent,
];
const DIRECTIONS: [Direction; 3] = [
    Direction::Bidirectional,
    Direction::ToDevice,
    Direction::FromDevice,
];

fn coherent_by_device(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let device = guest.device()?;
    for kind in DEVICES {
        let buffer = guest.coherent(page())?;
        let result = importer.attach(&buffer, kind, 0);
        let refused = u64::from(!guest.is_coherent(kind));
        match result {
            Ok(attachment) => {
                check!(
                    attachment.is_coherent(),
                    "{kind:?} is not coherent, and attached"
                );
                check!(refused == 0, "{kind:?} should have been refused");
                check!(device.info(&buffer)?.attachments == 1, "it is not listed");
            }
            Err(refusal) => {
                check!(!refusal.coherent, "{kind:?} is coherent, and was refused");
                check!(refused == 1, "{kind:?}: {:?}", refusal.errno);
                fails_with(Err::<(), _>(refusal.errno), Errno::OPNOTSUPP, "attach")?;
                check!(device.info(&buffer)?.attachments == 0, "it is listed");
            }
        }
        check!(
            device.info(&buffer)?.refused_attach == refused,
            "the count is wrong"
        );
    }
    Ok(())
}

fn bracketed_by_device(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let mut attachments = Vec::new();
    for kind in DEVICES {
        let attachment = importer.attach(&buffer, kind, 0)?;
        check!(
            attachment.is_coherent() == guest.is_coherent(kind),
            "{kind:?}"
        );
        attachments.push(attachment);
    }
    check!(
        guest.device()?.info(&buffer)?.attachments == 3,
        "not all are listed"
    );
    Ok(())
}

fn refusal_is_logged(guest: &Guest) -> Outcome {
    if guest.all_coherent() {
        return skip("every device is coherent on this architecture");
    }
    let importer = guest.importer()?;
    let buffer = guest.coherent(page())?;
    // It names the device, and the buffer by what dma_buf/bufinfo calls it.
    let number = rustix::fs::fstat(&buffer)?.st_ino;
    let line = format!("cohbuf-noncoherent: refused by cohbuf buffer {number}: ");
    let lines = |log: &str| log.matches(&line).count();
    let before = lines(&kernel_log()?);
    check!(
        importer
            .attach(&buffer, TestDevice::NonCoherent, 0)
            .is_err(),
        "it attached"
    );
    let after = lines(&kernel_log()?);
    check!(
        after == before + 1,
        "{} lines for one refusal",
        after - before
    );
    Ok(())
}

fn kernel_log() -> Result<String, Stop> {
    let output = std::process::Command::new("dmesg").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn vgem_attaches(guest: &Guest) -> Outcome {
    let Ok(vgem) = Vgem::open() else {
        return skip("this kernel has no vgem");
    };
    let bracketed = guest.bracketed(page())?;
    let import = vgem.import(&bracketed)?;
    check!(
        guest.device()?.info(&bracketed)?.attachments == 1,
        "it is not listed"
    );
    drop(import);
    check!(
        guest.device()?.info(&bracketed)?.attachments == 0,
        "it is listed still"
    );

    let coherent = guest.coherent(page())?;
    let result = vgem.import(&coherent).map(drop);
    if guest.all_coherent() {
        result?;
        Ok(())
    } else {
        fails_with(result, Errno::OPNOTSUPP, "import of a coherent buffer")
    }
}

fn map_in_every_direction(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let device = guest.device()?;
    let buffer = guest.bracketed(40 * page())?;
    for kind in DEVICES {
        for direction in DIRECTIONS {
            let attachment = importer.attach(&buffer, kind, 0)?;
            let mapping = attachment.map(direction)?;
            check!(mapping.segments > 0, "{kind:?} {direction:?}: no segments");
            check!(
                mapping.bounced == guest.swiotlb,
                "{kind:?} {direction:?}: {mapping:?}"
            );
            let info = device.info(&buffer)?;
            check!(info.mappings == 1, "{info:?}");
            check!(info.bounced == u32::from(guest.swiotlb), "{info:?}");
            attachment.unmap()?;
            check!(device.info(&buffer)?.mappings == 0, "it is mapped still");
        }
    }
    Ok(())
}

fn map_and_unmap_states(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let attachment = importer.attach(&buffer, TestDevice::Coherent, 0)?;
    fails_with(attachment.unmap(), Errno::NOTCONN, "unmap before map")?;
    attachment.map(Direction::ToDevice)?;
    fails_with(
        attachment.map(Direction::ToDevice),
        Errno::BUSY,
        "map twice",
    )?;
    attachment.unmap()?;
    fails_with(attachment.unmap(), Errno::NOTCONN, "unmap twice")?;
    attachment.map(Direction::FromDevice)?;
    Ok(())
}

fn coherent_is_refused_where_bounced(guest: &Guest) -> Outcome {
    if !guest.swiotlb {
        return skip("nothing is bounced in this boot");
    }
    let importer = guest.importer()?;
    let device = guest.device()?;
    let buffer = guest.coherent(100 * page())?;
    for (number, kind) in (1..).zip([TestDevice::Edu, TestDevice::Coherent]) {
        let attachment = importer.attach(&buffer, kind, 0)?;
        fails_with(
            attachment.map(Direction::Bidirectional),
            Errno::OPNOTSUPP,
            "map",
        )?;
        let info = device.info(&buffer)?;
        check!(
            info.mappings == 0 && info.bounced == 0,
            "something stays mapped: {info:?}"
        );
        check!(info.refused_map == number, "{info:?}");
    }
    Ok(())
}

// A megabyte in one piece is more than a bounce buffer takes.
fn bracketed_maps_where_bounced(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(4 << 20)?;
    let attachment = importer.attach(&buffer, TestDevice::Edu, 0)?;
    let mapping = attachment.map(Direction::Bidirectional)?;
    check!(mapping.bounced == guest.swiotlb, "{mapping:?}");
    Ok(())
}

fn detach_without_unmap(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(page())?;
    let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
    attachment.map(Direction::Bidirectional)?;
    attachment.detach()?;
    let attachment = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
    attachment.map(Direction::Bidirectional)?;
    core::mem::forget(attachment);
    // Closing the importer takes all that is left.
    drop(importer);
    let info = guest.device()?.info(&buffer)?;
    check!(
        info.attachments == 0 && info.mappings == 0,
        "something is left: {info:?}"
    );
    Ok(())
}

fn importer_errnos(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR,
        rustix::fs::Mode::empty(),
    )?;
    let errno = importer
        .attach(&null, TestDevice::Coherent, 0)
        .err()
        .map(|r| r.errno);
    check!(errno == Some(Errno::INVAL), "no dma-buf: {errno:?}");
    let buffer = guest.bracketed(page())?;
    let errno = importer
        .attach(&buffer, TestDevice::Edu, 100)
        .err()
        .map(|r| r.errno);
    check!(errno == Some(Errno::NODEV), "no such device: {errno:?}");
    let attachment = importer.attach(&buffer, TestDevice::Coherent, 0)?;
    let mut seen = [0; 16];
    fails_with(
        attachment.device_reads(0, &mut seen),
        Errno::NOTCONN,
        "DMA, not mapped",
    )?;
    attachment.map(Direction::Bidirectional)?;
    fails_with(
        attachment.device_reads(0, &mut seen),
        Errno::OPNOTSUPP,
        "no DMA engine",
    )
}
