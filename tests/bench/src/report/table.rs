// SPDX-License-Identifier: GPL-2.0

//! All that was measured, as text.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent};

use super::{At, Index, Result, grouped, ratio};
use crate::record::{Arch, Exporter, Measured, Op, Row, size_name};

/// The tables of an architecture; empty where nothing was measured on it.
pub fn of(arch: Arch, measured: &Measured) -> Result<String> {
    let rows: Vec<_> = measured
        .rows
        .iter()
        .filter(|row| row.arch == arch)
        .collect();
    if rows.is_empty() {
        return Ok(String::new());
    }
    let mut text = format!("{arch}: guest instructions of one operation\n");
    text += &operations(arch, &measured.rows, &rows).to_string();
    for (title, table) in [
        ("what nothing can cost less than", floors(arch, measured)),
        (
            "region syncs, 1600x1200, four bytes a pixel",
            regions(arch, measured),
        ),
        ("one buffer of 4 KiB beside many", scale(arch, measured)),
        (
            "kernel memory of one buffer, beyond its pages",
            memory(arch, measured),
        ),
    ] {
        if table.row_iter().next().is_some() {
            text += &format!("\n\n{arch}: {title}\n{table}");
        }
    }
    Ok(text + "\n")
}

/// A table of these columns, numbers to the right from that column on.
pub(crate) fn table(columns: &[&str], numbers_from: usize) -> Table {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_style(TableComponent::HeaderLines, '─')
        .set_style(TableComponent::MiddleHeaderIntersections, '─')
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if at >= numbers_from {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn operations(arch: Arch, all: &[Row], rows: &[&Row]) -> Table {
    let index = Index::new(all);
    let columns = [
        "operation",
        "size",
        "importers",
        "cohbuf",
        "system",
        "udmabuf",
        "ratio",
        "cleaned",
        "invalidated",
    ];
    let mut table = table(&columns, 3);
    let mut seen: Vec<(Op, At)> = Vec::new();
    for row in rows {
        let at = At::new(arch, row.size, row.attachments, row.device);
        if !seen.contains(&(row.op, at)) {
            seen.push((row.op, at));
        }
    }
    seen.sort_by_key(|(op, at)| (*op, at.device, at.size, at.attachments));
    let mut last = None;
    for (op, at) in seen {
        // Each operation is named once.
        let named = last.replace(op) != Some(op);
        if named && table.row_iter().next().is_some() {
            table.add_row([""; 9]);
        }
        let cost = |exporter| index.sum(at, exporter, &[op]);
        let number = |exporter| cost(exporter).map(grouped).unwrap_or_default();
        let own = index.row(at, Exporter::Cohbuf, op);
        let compared = own.zip(index.better_rival(at, &[op]));
        let bytes = |of: fn(&Row) -> u64| match own.map(of) {
            Some(bytes) if bytes > 0 => grouped(bytes),
            _ => String::new(),
        };
        table.add_row([
            if named {
                op.name().into()
            } else {
                String::new()
            },
            size_name(at.size),
            importers(at),
            number(Exporter::Cohbuf),
            number(Exporter::System),
            number(Exporter::Udmabuf),
            compared
                .map(|(own, (_, rival))| ratio(own.instructions as f64 / rival as f64))
                .unwrap_or_default(),
            bytes(|row| row.bytes_cleaned),
            bytes(|row| row.bytes_invalidated),
        ]);
    }
    table
}

fn importers(at: At) -> String {
    match at.attachments {
        0 => "none".into(),
        count => format!("{count} {}", at.device),
    }
}

fn floors(arch: Arch, measured: &Measured) -> Table {
    let mut table = table(&["what", "size", "instructions"], 2);
    for row in measured.floors.iter().filter(|row| row.arch == arch) {
        let size = if row.size > 0 {
            size_name(row.size)
        } else {
            String::new()
        };
        table.add_row([row.what.clone(), size, grouped(row.instructions)]);
    }
    table
}

fn regions(arch: Arch, measured: &Measured) -> Table {
    let columns = ["region", "device", "begin", "end", "cleaned", "invalidated"];
    let mut table = table(&columns, 2);
    for row in measured.regions.iter().filter(|row| row.arch == arch) {
        table.add_row([
            format!("{}x{}", row.width, row.height),
            row.device.name().into(),
            grouped(row.begin),
            grouped(row.end),
            grouped(row.bytes_cleaned),
            grouped(row.bytes_invalidated),
        ]);
    }
    table
}

fn scale(arch: Arch, measured: &Measured) -> Table {
    let columns = ["exporter", "beside", "operation", "alone", "then", "ratio"];
    let mut table = table(&columns, 3);
    for row in measured.scale.iter().filter(|row| row.arch == arch) {
        table.add_row([
            row.exporter.name().into(),
            row.beside.clone(),
            row.op.name().into(),
            grouped(row.alone),
            grouped(row.instructions),
            ratio(row.instructions as f64 / row.alone as f64),
        ]);
    }
    table
}

fn memory(arch: Arch, measured: &Measured) -> Table {
    let columns = [
        "exporter",
        "size",
        "segments",
        "bytes",
        "own",
        "of all, by slab cache",
    ];
    let mut table = table(&columns, 2);
    let last = table.column_mut(5).expect("there are six");
    last.set_cell_alignment(CellAlignment::Left);
    for row in measured.memory.iter().filter(|row| row.arch == arch) {
        let slabs = row
            .slabs
            .iter()
            .map(|(name, bytes)| format!("{name} {bytes}"));
        table.add_row([
            row.exporter.name().into(),
            size_name(row.size),
            row.segments
                .map(|count| count.to_string())
                .unwrap_or_default(),
            row.bytes.to_string(),
            row.own().to_string(),
            slabs.collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}
