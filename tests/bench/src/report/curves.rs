// SPDX-License-Identifier: GPL-2.0

//! The curves: cost against attachments, against size, against region.

use std::path::Path;

use plotters::style::RGBColor;

use super::plot::{Axis, Curve, Figure, Mark, Panel, Scale, Style, Wide};
use super::{At, Index, Result};
use crate::record::{Arch, Device, Exporter, Measured, Op, PICTURE, size_name};

const MIB: u64 = 1 << 20;
const COST: &str = "guest instructions";
const RW: [Op; 2] = [Op::BeginRw, Op::EndRw];

/// Colours of Okabe and Ito, which the colour-blind can tell apart; marks that anybody can.
fn style(exporter: Exporter) -> Style {
    let (colour, mark) = match exporter {
        Exporter::Cohbuf => (RGBColor(0x00, 0x72, 0xb2), Mark::Circle),
        Exporter::System => (RGBColor(0xd5, 0x5e, 0x00), Mark::Square),
        Exporter::Udmabuf => (RGBColor(0x00, 0x9e, 0x73), Mark::Triangle),
    };
    let name = match exporter {
        Exporter::Cohbuf => "cohbuf",
        Exporter::System => "system heap",
        Exporter::Udmabuf => "udmabuf",
    };
    Style { name, colour, mark }
}

fn name_of(arch: Arch) -> &'static str {
    match arch {
        Arch::Arm64 => "arm64",
        Arch::Amd64 => "amd64",
    }
}

/// Draws all curves that there are data for. Returns the names of the files.
pub fn draw(measured: &Measured, dir: &Path) -> Result<Vec<String>> {
    let mut drawn = Vec::new();
    for (name, figure) in [
        ("attachments.svg", attachments(measured)),
        ("size.svg", sizes(measured)),
        ("region.svg", regions(measured)),
    ] {
        if !figure.panels.is_empty() {
            figure.draw(&dir.join(name))?;
            drawn.push(name.into());
        }
    }
    Ok(drawn)
}

fn all_styles() -> Vec<Style> {
    Exporter::ALL.map(style).into()
}

/// The curve of each exporter that has points enough.
fn curves(points: impl Fn(Exporter) -> Vec<(f64, f64)>) -> Vec<Curve> {
    Exporter::ALL
        .into_iter()
        .map(|exporter| Curve {
            style: style(exporter),
            points: points(exporter),
        })
        .filter(|curve| curve.points.len() > 1)
        .collect()
}

fn panel(title: String, x: Axis, curves: Vec<Curve>) -> Option<Panel> {
    if curves.is_empty() {
        return None;
    }
    let values = curves
        .iter()
        .flat_map(|curve| curve.points.iter().map(|(_, y)| *y));
    Some(Panel {
        title,
        x,
        y: Axis::decades(COST, values),
        curves,
    })
}

fn attachments(measured: &Measured) -> Figure {
    let index = Index::new(&measured.rows);
    let panels = [
        (
            Arch::Arm64,
            Device::Coherent,
            &[0, 1, 2, 4, 8, 64, 1000][..],
        ),
        (Arch::Arm64, Device::NonCoherent, &[1, 2, 4, 8][..]),
        (
            Arch::Amd64,
            Device::Coherent,
            &[0, 1, 2, 4, 8, 64, 1000][..],
        ),
    ];
    let panels = panels.into_iter().filter_map(|(arch, device, counts)| {
        let curves = curves(|exporter| {
            let point = |count: &u32| {
                let at = At::new(arch, 8 * MIB, *count, device);
                let cost = index.sum(at, exporter, &RW)?;
                Some((f64::from(*count), cost as f64))
            };
            counts.iter().filter_map(point).collect()
        });
        let (kind, scale) = match device {
            Device::NonCoherent => ("importers that are not coherent", Scale::Log),
            _ => ("coherent importers", Scale::LogPlusOne),
        };
        let x = Axis {
            name: format!("attachments: {kind}, mapped"),
            scale,
            marks: counts
                .iter()
                .map(|n| (f64::from(*n), n.to_string()))
                .collect(),
        };
        panel(format!("{}, {kind}", name_of(arch)), x, curves)
    });
    Figure {
        title: "Begin and end of CPU access against attachments".into(),
        subtitle: "DMA_BUF_IOCTL_SYNC, READ | WRITE, of 8 MiB: START and END together. \
                   udmabuf maintains the caches for a device of its own, and for no importer."
            .into(),
        styles: all_styles(),
        columns: 3,
        panels: panels.collect(),
    }
}

fn sizes(measured: &Measured) -> Figure {
    let index = Index::new(&measured.rows);
    let sizes = [4 << 10, 64 << 10, MIB, 8 * MIB, 64 * MIB];
    let import = [Op::Attach, Op::Map, Op::Unmap, Op::Detach];
    let what: [(&str, &[Op], u32, Device); 6] = [
        ("begin + end, no importer", &RW, 0, Device::None),
        (
            "begin + end, 1 that is not coherent",
            &RW,
            1,
            Device::NonCoherent,
        ),
        (
            "create + destroy",
            &[Op::Create, Op::Destroy],
            0,
            Device::None,
        ),
        (
            "mmap + first write to each page",
            &[Op::MmapTouch],
            0,
            Device::None,
        ),
        (
            "attach + map + unmap + detach, coherent",
            &import,
            1,
            Device::Coherent,
        ),
        (
            "unmap + map again, not coherent",
            &[Op::Remap],
            1,
            Device::NonCoherent,
        ),
    ];
    let mut panels = Vec::new();
    for arch in [Arch::Arm64, Arch::Amd64] {
        for (title, ops, count, device) in what {
            // `rep stos` counts once per byte in emulation.
            if arch == Arch::Amd64 && ops.contains(&Op::Create) {
                continue;
            }
            let curves = curves(|exporter| {
                let point = |size: &u64| {
                    let cost = index.sum(At::new(arch, *size, count, device), exporter, ops)?;
                    Some((*size as f64, cost as f64))
                };
                sizes.iter().filter_map(point).collect()
            });
            let x = Axis {
                name: "size of the buffer".into(),
                scale: Scale::Log,
                marks: sizes
                    .iter()
                    .map(|size| (*size as f64, size_name(*size)))
                    .collect(),
            };
            panels.extend(panel(format!("{}, {title}", name_of(arch)), x, curves));
        }
    }
    Figure {
        title: "Cost against size".into(),
        subtitle: "The operations named above each panel, together. Of importers that are not \
                   coherent, udmabuf leaves the cache maintenance out."
            .into(),
        styles: all_styles(),
        columns: 3,
        panels,
    }
}

fn regions(measured: &Measured) -> Figure {
    let index = Index::new(&measured.rows);
    let region = Style {
        name: "cohbuf, the region alone",
        ..style(Exporter::Cohbuf)
    };
    let whole = |exporter, wide, name| Style {
        name,
        mark: Mark::Dashes(wide),
        ..style(exporter)
    };
    let system = "system heap, which knows the whole only";
    let wholes = [
        (
            Exporter::Cohbuf,
            whole(Exporter::Cohbuf, Wide::No, "cohbuf, the whole"),
        ),
        (Exporter::System, whole(Exporter::System, Wide::Yes, system)),
    ];
    let panels = [
        (
            Arch::Arm64,
            Device::NonCoherent,
            "an importer that is not coherent",
        ),
        (Arch::Arm64, Device::Coherent, "a coherent importer"),
        (Arch::Amd64, Device::Coherent, "a coherent importer"),
    ];
    let panels = panels.into_iter().filter_map(|(arch, device, of)| {
        let rows = measured
            .regions
            .iter()
            .filter(|row| row.arch == arch && row.device == device);
        let rows: Vec<_> = rows.collect();
        let pixels = |row: &&crate::record::RegionRow| f64::from(row.width * row.height);
        let points = rows
            .iter()
            .map(|row| (pixels(row), (row.begin + row.end) as f64));
        let mut curves = vec![Curve {
            style: region,
            points: points.collect(),
        }];
        let (first, last) = (rows.first().map(pixels)?, rows.last().map(pixels)?);
        if first == last {
            return None;
        }
        let at = At::new(arch, PICTURE, 1, device);
        for (exporter, style) in wholes {
            let cost = index.sum(at, exporter, &RW)? as f64;
            curves.push(Curve {
                style,
                points: vec![(first, cost), (last, cost)],
            });
        }
        let x = Axis {
            name: "region, of a picture of 1600x1200".into(),
            scale: Scale::Log,
            marks: rows
                .iter()
                .map(|row| (pixels(row), format!("{}x{}", row.width, row.height)))
                .collect(),
        };
        panel(format!("{}, {of}", name_of(arch)), x, curves)
    });
    Figure {
        title: "Begin and end of CPU access against region".into(),
        subtitle: "COHBUF_IOCTL_SYNC, READ | WRITE, START and END together".into(),
        styles: std::iter::once(region)
            .chain(wholes.map(|(_, style)| style))
            .collect(),
        columns: 3,
        panels: panels.collect(),
    }
}
