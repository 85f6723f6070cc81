// SPDX-License-Identifier: GPL-2.0

//! What the contract says that a demo must show.

use cohbuf::Errno;

use crate::cli::Boot;
use crate::demo::record::{Importer, Outcome, Use};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::record::Data;

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
}
