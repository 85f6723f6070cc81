// SPDX-License-Identifier: GPL-2.0

//! `list`: all dma-bufs of the system.

use std::time::Duration;

use serde_json::json;

use crate::cli::ListArgs;
use crate::error::Result;
use crate::show::{Look, columns, note, print, print_json};
use crate::size;
use crate::system::{DmaBuf, Looker, Snapshot};

/// How long a buffer that is locked may take.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn list(args: &ListArgs, look: Look) -> Result<()> {
    let mut snapshot = Looker::new(PATIENCE).look();
    snapshot.buffers.retain(|buffer| wanted(args, buffer));
    if look.json {
        print_json(&json!(snapshot))?;
    } else {
        print(&table(&snapshot, look))?;
    }
    for missing in &snapshot.missing {
        note(&format!("not shown: {missing}"));
    }
    Ok(())
}

fn wanted(args: &ListArgs, buffer: &DmaBuf) -> bool {
    let exporter = args.exporter.as_ref();
    let of_process = |pid| buffer.holders.iter().any(|holder| holder.pid == pid);
    exporter.is_none_or(|exporter| buffer.exporter == *exporter) && args.pid.is_none_or(of_process)
}

fn table(snapshot: &Snapshot, look: Look) -> String {
    let number = |number: Option<usize>| number.map_or("?".to_owned(), |number| number.to_string());
    let rows = snapshot.buffers.iter().map(|buffer| {
        let windows = buffer
            .cohbuf
            .as_ref()
            .map(|known| known.write_windows as usize);
        [
            buffer.inode.to_string(),
            buffer.shown_name().into_owned(),
            buffer.exporter.clone(),
            size::format(buffer.size, look.exact),
            buffer.kind(),
            buffer.references.to_string(),
            devices(buffer),
            windows.map_or("-".to_owned(), |windows| number(Some(windows))),
            buffer.held_by(),
        ]
    });
    let header = [
        "INODE",
        "NAME",
        "EXPORTER",
        ">SIZE",
        "KIND",
        ">REFS",
        "IMPORTERS",
        ">WINDOWS",
        "HELD BY",
    ];
    let mut text = columns(look, &header, rows);
    let sizes = snapshot.buffers.iter().map(|buffer| buffer.size);
    let total: u64 = sizes.fold(0, u64::saturating_add);
    text.push_str(&format!(
        "{} dma-buf(s), {}\n",
        snapshot.buffers.len(),
        size::format(total, look.exact)
    ));
    text
}

/// Those attached, with how each reaches the memory, where that is known.
fn devices(buffer: &DmaBuf) -> String {
    let importers = buffer.cohbuf.as_ref().map(|known| &known.importers);
    let list: Vec<String> = match (importers, &buffer.attached) {
        (Some(Some(importers)), _) => importers
            .iter()
            .map(|one| format!("{}({})", one.device, one.reach))
            .collect(),
        (_, Some(attached)) => attached.clone(),
        (_, None) if buffer.importers() == Some(0) => Vec::new(),
        (_, None) => return "?".to_owned(),
    };
    if list.is_empty() {
        "-".to_owned()
    } else {
        list.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::tests::sample;

    #[test]
    fn a_line_for_each_buffer() {
        let must = "\
INODE  NAME     EXPORTER      SIZE  KIND             REFS  IMPORTERS                         WINDOWS  HELD BY
17     -        system       1 MiB  -                   1  -                                       -  display(90)
18     frame 0  cohbuf    7.32 MiB  bracketed+dirty     4  soc:isp(direct) soc:npu(bounced)        1  camera(12) display(90)
2 dma-buf(s), 8.32 MiB
";
        assert_eq!(table(&sample(), Look::plain()), must);
    }

    #[test]
    fn what_is_not_known_is_a_question() {
        let mut snapshot = sample();
        snapshot.buffers.truncate(1);
        snapshot.buffers[0].attached = None;
        let text = table(&snapshot, Look::plain());
        assert!(text.contains("1  ?"), "{text}");
    }

    #[test]
    fn importers_without_how_they_reach_it() {
        let mut buffer = sample().buffers.remove(1);
        buffer.cohbuf.as_mut().unwrap().importers = None;
        assert_eq!(devices(&buffer), "isp npu");
        buffer.attached = None;
        assert_eq!(devices(&buffer), "?");
        buffer.cohbuf.as_mut().unwrap().attachments = 0;
        assert_eq!(devices(&buffer), "-");
    }

    #[test]
    fn json_has_what_it_was_made_of() {
        let text = json!(sample()).to_string();
        let back: Snapshot = serde_json::from_str(&text).unwrap();
        assert_eq!(back, sample());
    }

    #[test]
    fn filters() {
        let args = |exporter: Option<&str>, pid| ListArgs {
            exporter: exporter.map(str::to_owned),
            pid,
        };
        let left = |args: &ListArgs| {
            let kept = sample()
                .buffers
                .into_iter()
                .filter(|buffer| wanted(args, buffer));
            kept.map(|buffer| buffer.inode).collect::<Vec<_>>()
        };
        assert_eq!(left(&args(None, None)), [17, 18]);
        assert_eq!(left(&args(Some("cohbuf"), None)), [18]);
        assert_eq!(left(&args(None, Some(12))), [18]);
        assert_eq!(left(&args(Some("system"), Some(12))), [0; 0]);
    }
}
