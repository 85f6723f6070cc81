// SPDX-License-Identifier: GPL-2.0

//! What the contract says that a demo must show.

use cohbuf::Errno;

use crate::cli::Boot;
use crate::demo::record::{Beyond, Importer, Known, Listed, Maintained, Outcome, Sharing, Use};
use crate::demo::{beyond, devices, picture};

/// What kind of importer it is, as far as what must come of it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Does DMA, and is coherent everywhere.
    Edu,
    /// Maps only, and is coherent everywhere.
    Coherent,
    /// Maps only, and is not coherent where the architecture has that.
    NonCoherent,
    /// Attaches only, and is not coherent where the architecture has that.
    Vgem,
}

/// Where one importer differs from what must be; empty where it does not.
pub(crate) fn deviations(kind: Kind, importer: &Importer, arch: &str, boot: Boot) -> Vec<String> {
    let snoops = match kind {
        Kind::Edu | Kind::Coherent => true,
        Kind::NonCoherent | Kind::Vgem => arch == "x86_64",
    };
    let bounces = boot == Boot::Swiotlb;
    let mut found = Vec::new();
    let mut expect = |what: &str, is: String, must: String| {
        if is != must {
            found.push(format!("{}: {what} is {is}, must be {must}", importer.name));
        }
    };

    let coherent = match kind {
        Kind::Vgem => None,
        _ => Some(snoops),
    };
    expect(
        "device coherent",
        format!("{:?}", importer.device_coherent),
        format!("{coherent:?}"),
    );
    let buffers = [
        (
            "coherent",
            &importer.coherent,
            snoops,
            !bounces,
            Some(false),
        ),
        ("bracketed", &importer.bracketed, true, true, Some(bounces)),
    ];
    for (buffer, is, attaches, maps, bounced) in buffers {
        let must = expected_use(kind, attaches, maps, bounced);
        expect(
            &format!("attach to the {buffer} buffer"),
            is.attach.0.clone(),
            must.0.0,
        );
        expect(
            &format!("map of the {buffer} buffer"),
            name(is.map.as_ref()),
            name(must.1.as_ref()),
        );
        expect(
            &format!("bounce of the {buffer} buffer"),
            format!("{:?}", is.bounced),
            format!("{:?}", must.2),
        );
        expect(
            &format!("data through the {buffer} buffer"),
            data(is).to_owned(),
            if must.3 { "right" } else { "none" }.to_owned(),
        );
    }
    found
}

type MustUse = (Outcome, Option<Outcome>, Option<bool>, bool);

fn expected_use(kind: Kind, attaches: bool, maps: bool, bounced: Option<bool>) -> MustUse {
    let refused = || Outcome::errno(Errno::OPNOTSUPP);
    match (attaches, kind, maps) {
        (false, _, _) => (refused(), None, None, false),
        (true, Kind::Vgem, _) => (Outcome::ok(), None, None, false),
        (true, _, false) => (Outcome::ok(), Some(refused()), None, false),
        (true, _, true) => (
            Outcome::ok(),
            Some(Outcome::ok()),
            bounced,
            kind == Kind::Edu,
        ),
    }
}

fn name(outcome: Option<&Outcome>) -> String {
    outcome.map_or_else(|| "not tried".to_owned(), |outcome| outcome.0.clone())
}

fn data(of: &Use) -> &'static str {
    match &of.data {
        None => "none",
        Some(data) if data.is_right() => "right",
        Some(_) => "wrong",
    }
}

/// The same of what goes beyond the SYNC ioctl.
pub(crate) fn beyond_deviations(is: &Beyond, arch: &str, boot: Boot) -> Vec<String> {
    let snoops = arch == "x86_64";
    let mut found = Vec::new();
    let mut expect = |what: &str, is: String, must: String| {
        if is != must {
            found.push(format!("{what} is {is}, must be {must}"));
        }
    };

    let bytes = |part| {
        if snoops && boot == Boot::Plain {
            "not measured".to_owned()
        } else {
            let whole = picture::BYTES;
            format!("{whole} bytes, then {part}")
        }
    };
    for (what, is, part) in [
        ("R9: maintained", &is.regions, beyond::lines_of_update()),
        (
            "R11: maintained",
            &is.dirty_pages,
            beyond::pages_of_update(),
        ),
    ] {
        let is = match is {
            // Where there must be something to measure, that it was not is told with why.
            Maintained::NotHere(_) if snoops && boot == Boot::Plain => "not measured".to_owned(),
            Maintained::NotHere(why) => why.clone(),
            Maintained::Bytes { whole, part } => format!("{whole} bytes, then {part}"),
        };
        expect(what, is, bytes(part));
    }

    let report = &is.report;
    expect(
        "R10: counted inside, reads, writes",
        format!("{}, {}, {}", report.inside, report.reads, report.writes),
        "0, 1, 2".to_owned(),
    );
    const SIGBUS: i32 = 7;
    let poison = &is.poison;
    expect(
        "R10: signal, poisoned, START, attach",
        format!(
            "{:?}, {}, {}, {}",
            poison.signal, poison.poisoned, poison.start.0, poison.attach.0
        ),
        format!("{:?}, true, EIO, EIO", Some(SIGBUS)),
    );

    // All of them without a sync: else it would not show what the sync does.
    let handed = &is.handed_over;
    expect(
        "R7: bytes wrong without a sync, with it",
        format!("{}, {}", handed.wrong_without, handed.wrong),
        format!("{}, 0", devices::HANDED_OVER),
    );
    let fenced = &is.fenced;
    let waited = |millis| millis >= u64::from(devices::DELAY_MS) / 2;
    expect(
        "R6: map waited, bytes wrong, and without autofence",
        format!(
            "{}, {}, {}, {}",
            waited(fenced.autofence.millis),
            fenced.autofence.wrong,
            waited(fenced.off.millis),
            fenced.off.wrong
        ),
        format!("true, 0, false, {}", devices::LATE),
    );

    let sharing = |is: &Sharing| {
        format!(
            "{}, direct {}, {} once and {} an update, {} and {} wrong of {}",
            is.way,
            name(is.direct.as_ref()),
            is.copied_once,
            is.copied_per_update,
            is.wrong,
            is.wrong_after_update,
            is.bytes
        )
    };
    let all = picture::BYTES;
    let (way, direct, once) = if snoops {
        ("direct", "ok", 0)
    } else {
        ("reverse", "EOPNOTSUPP", all)
    };
    expect(
        "R12: sharing with vgem",
        sharing(&is.share),
        format!("{way}, direct {direct}, {once} once and 0 an update, 0 and 0 wrong of {all}"),
    );
    expect(
        "R12: sharing with vgem by copy",
        sharing(&is.share_by_copy),
        format!("copy, direct not tried, {all} once and {all} an update, 0 and 0 wrong of {all}"),
    );
    expect(
        "R12: bytes copied, and wrong",
        format!("{}, {}", is.copy.bytes, is.copy.wrong),
        format!("{}, 0", beyond::bytes_of_cut()),
    );
    expect(
        "R13: INFO",
        format!("{:?}", is.known),
        format!("{:?}", expected_known(snoops, boot)),
    );
    found
}

/// Of one device that snoops and one that does not where the architecture has that. New memory is
/// maintained as a whole when it is mapped, and the update at END; START has nothing to do.
fn expected_known(snoops: bool, boot: Boot) -> Known {
    let whole = picture::BYTES as u64;
    let done = whole + beyond::lines_of_update();
    let saved = whole + (whole - beyond::lines_of_update());
    let (reach, cleaned, copied, saved) = match (boot, snoops) {
        (Boot::Swiotlb, _) => (["bounced"; 2], 0, 2 * done, 2 * saved),
        (Boot::Plain, true) => (["snooping"; 2], 0, 0, 0),
        (Boot::Plain, false) => (["snooping", "direct"], done, 0, saved),
    };
    let attachments = ["cohbuf-coherent", "cohbuf-noncoherent"]
        .into_iter()
        .zip(reach)
        .map(|(device, reach)| Listed {
            device: device.to_owned(),
            reach: reach.to_owned(),
        });
    Known {
        attachments: attachments.collect(),
        cleaned,
        copied,
        saved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::record::{Copied, Data, Fenced, HandedOver, Late, Poisoned, Reported};

    fn importer(device_coherent: Option<bool>, coherent: Use, bracketed: Use) -> Importer {
        Importer {
            name: "x".to_owned(),
            device_coherent,
            coherent,
            bracketed,
        }
    }

    fn mapped(bounced: bool, wrong: Option<usize>) -> Use {
        Use {
            attach: Outcome::ok(),
            map: Some(Outcome::ok()),
            bounced: Some(bounced),
            data: wrong.map(|wrong_read| Data {
                devices: 1,
                pages_read: 1,
                pages: 1,
                seconds: 0.2,
                wrong_read,
                written: 1,
                wrong_written: 0,
            }),
        }
    }

    fn refused() -> Use {
        Use {
            attach: Outcome::errno(Errno::OPNOTSUPP),
            map: None,
            bounced: None,
            data: None,
        }
    }

    fn refused_at_map() -> Use {
        Use {
            attach: Outcome::ok(),
            map: Some(Outcome::errno(Errno::OPNOTSUPP)),
            bounced: None,
            data: None,
        }
    }

    #[test]
    fn non_coherent_is_refused_on_arm64_only() {
        let row = importer(Some(false), refused(), mapped(false, None));
        let none: [String; 0] = [];
        assert_eq!(
            deviations(Kind::NonCoherent, &row, "aarch64", Boot::Plain),
            none
        );
        assert!(!deviations(Kind::NonCoherent, &row, "x86_64", Boot::Plain).is_empty());
    }

    #[test]
    fn bounced_is_refused_at_map() {
        let row = importer(Some(true), refused_at_map(), mapped(true, Some(0)));
        let none: [String; 0] = [];
        assert_eq!(deviations(Kind::Edu, &row, "aarch64", Boot::Swiotlb), none);
        assert!(!deviations(Kind::Edu, &row, "aarch64", Boot::Plain).is_empty());
    }

    #[test]
    fn one_wrong_byte_deviates() {
        let row = importer(Some(true), mapped(false, Some(1)), mapped(false, Some(0)));
        let found = deviations(Kind::Edu, &row, "x86_64", Boot::Plain);
        assert_eq!(
            found,
            ["x: data through the coherent buffer is wrong, must be right"]
        );
    }

    fn beyond_on_arm64() -> Beyond {
        let all = picture::BYTES as u64;
        let bytes = |part| Maintained::Bytes { whole: all, part };
        let sharing = |way: &str, direct, update| Sharing {
            way: way.to_owned(),
            direct,
            copied_once: all,
            copied_per_update: update,
            bytes: picture::BYTES,
            wrong: 0,
            wrong_after_update: 0,
        };
        Beyond {
            regions: bytes(1280),
            dirty_pages: bytes(40_960),
            report: Reported {
                inside: 0,
                reads: 1,
                writes: 2,
            },
            poison: Poisoned {
                signal: Some(7),
                poisoned: true,
                start: Outcome::errno(Errno::IO),
                attach: Outcome::errno(Errno::IO),
            },
            handed_over: HandedOver {
                bytes: 16_384,
                wrong_without: 16_384,
                wrong: 0,
            },
            fenced: Fenced {
                bytes: 64,
                delay: 500,
                autofence: Late {
                    millis: 501,
                    wrong: 0,
                },
                off: Late {
                    millis: 1,
                    wrong: 64,
                },
            },
            share: sharing("reverse", Some(Outcome::errno(Errno::OPNOTSUPP)), 0),
            share_by_copy: sharing("copy", None, all),
            copy: Copied {
                bytes: 480_000,
                compared: 614_500,
                wrong: 0,
            },
            known: Known {
                attachments: [
                    ("cohbuf-coherent", "snooping"),
                    ("cohbuf-noncoherent", "direct"),
                ]
                .map(|(device, reach)| Listed {
                    device: device.to_owned(),
                    reach: reach.to_owned(),
                })
                .into(),
                cleaned: all + 1280,
                copied: 0,
                saved: 2 * all - 1280,
            },
        }
    }

    #[test]
    fn beyond_as_it_must_be() {
        let none: [String; 0] = [];
        assert_eq!(
            beyond_deviations(&beyond_on_arm64(), "aarch64", Boot::Plain),
            none
        );
        // x86 has nothing to measure there, and direct must work.
        let found = beyond_deviations(&beyond_on_arm64(), "x86_64", Boot::Plain);
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn each_part_beyond_can_deviate() {
        type Change = fn(&mut Beyond);
        let changes: [Change; 17] = [
            |is| is.regions = Maintained::NotHere("x".to_owned()),
            |is| is.dirty_pages = Maintained::Bytes { whole: 1, part: 1 },
            |is| is.report.inside = 1,
            |is| is.poison.signal = None,
            |is| is.poison.attach = Outcome::ok(),
            |is| is.handed_over.wrong_without = 0,
            |is| is.handed_over.wrong = 1,
            |is| is.fenced.autofence.millis = 1,
            |is| is.fenced.autofence.wrong = 1,
            |is| is.fenced.off.millis = 501,
            |is| is.fenced.off.wrong = 0,
            |is| is.share.wrong = 1,
            |is| is.share_by_copy.wrong_after_update = 1,
            |is| is.copy.wrong = 1,
            |is| is.known.attachments.clear(),
            |is| is.known.cleaned = 0,
            |is| is.known.saved = 0,
        ];
        for change in changes {
            let mut is = beyond_on_arm64();
            change(&mut is);
            let found = beyond_deviations(&is, "aarch64", Boot::Plain);
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }
}
