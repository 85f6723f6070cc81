// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/dma_buf/bufinfo`.

use crate::system::DmaBuf;

/// What [`object`]'s numbers are filled up to.
const DIGITS: usize = 8;

/// The buffers, in the order of the file. What is not known is passed over.
///
/// Names are what any user sets, and may have lines in them. They come before the attachments, so
/// that the last list is the one of the kernel.
pub(super) fn parse(text: &str) -> Vec<DmaBuf> {
    let mut buffers: Vec<DmaBuf> = Vec::new();
    let mut devices = false;
    for line in text.lines() {
        if let Some(buffer) = object(line) {
            buffers.push(buffer);
            devices = false;
        } else if line == "\tAttached Devices:" {
            devices = true;
            if let Some(buffer) = buffers.last_mut() {
                buffer.attached = Some(Vec::new());
            }
        } else if let (true, Some(name)) = (devices, line.strip_prefix('\t')) {
            let list = buffers
                .last_mut()
                .and_then(|buffer| buffer.attached.as_mut());
            if let Some(list) = list {
                list.push(name.trim().to_owned());
            }
        } else {
            devices = false;
        }
    }
    buffers
}

/// "size flags mode count exp_name ino name", with tabs between. The size is in decimal.
///
/// Five numbers of this width are more than the 31 bytes of a name: none looks like this.
fn object(line: &str) -> Option<DmaBuf> {
    let fields: Vec<&str> = line.splitn(7, '\t').collect();
    let [size, flags, mode, count, exporter, inode, name] = fields[..] else {
        return None;
    };
    let numbers = [size, flags, mode, count, inode];
    if numbers.iter().any(|number| number.len() < DIGITS) {
        return None;
    }
    u32::from_str_radix(flags, 16).ok()?;
    Some(DmaBuf {
        size: size.parse().ok()?,
        references: count.parse().ok()?,
        exporter: exporter.to_owned(),
        inode: inode.parse().ok()?,
        name: (name != "<none>").then(|| name.to_owned()),
        attached: Some(Vec::new()),
        ..DmaBuf::default()
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As Linux 7.3 writes it.
    pub(crate) const TEXT: &str = "\n\
        Dma-buf Objects:\n\
        size    \tflags   \tmode    \tcount   \texp_name\tino     \tname\n\
        00004096\t00000002\t00080007\t00000001\tsystem\t00000017\t<none>\n\
        \tAttached Devices:\n\
        Total 0 devices attached\n\
        \n\
        00065536\t02000002\t00080007\t00000003\tcohbuf\t00000018\tframe 0\n\
        \twrite fence:drm vgem seq 3 signalled\n\
        \tAttached Devices:\n\
        \tvgem\n\
        \t0000:00:02.0\n\
        Total 2 devices attached\n\
        \n\
        \n\
        Total 2 objects, 69632 bytes\n";

    #[test]
    fn buffers_with_names_and_devices() {
        let buffers = parse(TEXT);
        assert_eq!(buffers.len(), 2);
        assert_eq!(buffers[0].exporter, "system");
        assert_eq!((buffers[0].size, buffers[0].references), (4096, 1));
        assert_eq!(buffers[0].name, None);
        assert_eq!(buffers[0].attached, Some(Vec::new()));
        assert_eq!(buffers[1].inode, 18);
        assert_eq!(buffers[1].name.as_deref(), Some("frame 0"));
        let devices = buffers[1].attached.as_deref().unwrap();
        assert_eq!(devices, ["vgem", "0000:00:02.0"]);
    }

    #[test]
    fn a_name_is_no_line() {
        for name in [
            "x\n9\t0\t0\t1\tcohbuf\t5\tq",
            "x\n\tAttached Devices:\n\tevil",
        ] {
            assert!(name.len() < 32);
            let text = TEXT.replacen("<none>", name, 1);
            let buffers = parse(&text);
            let inodes: Vec<u64> = buffers.iter().map(|buffer| buffer.inode).collect();
            assert_eq!(inodes, [17, 18], "{name:?}");
            assert_eq!(buffers[0].attached, Some(Vec::new()), "{name:?}");
        }
    }

    #[test]
    fn nothing_is_no_buffer() {
        assert_eq!(parse(""), Vec::new());
        assert_eq!(
            parse("\nDma-buf Objects:\n\nTotal 0 objects, 0 bytes\n"),
            Vec::new()
        );
        assert_eq!(parse("a\tb\tc\td\te\tf\tg\n\tvgem\n"), Vec::new());
    }
}
