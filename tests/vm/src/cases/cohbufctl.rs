// SPDX-License-Identifier: GPL-2.0

//! `cohbufctl`: what it prints, and what it exits with.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use cohbuf::Buffer;
use cohbuf_testdev::{Direction, TestDevice};
use serde_json::Value;

use crate::cases::terminal::while_one_hangs;
use crate::check;
use crate::guest::{self, Guest, page};
use crate::harness::{Outcome, Stop, expect, expect_eq, fail, leave, leave_file};
use crate::raw;

crate::guest_suite!("cohbufctl":
    list_shows_who_has_a_buffer,
    list_shows_other_exporters,
    list_says_what_it_cannot_read,
    list_takes_any_name,
    list_shows_the_rest_while_a_buffer_hangs,
    create_takes_every_flag,
    fill_and_check,
    fill_of_rows_reaches_a_device,
    fill_of_another_exporter,
    sync_of_another_exporter,
    check_says_where,
    json_of_every_command,
    nothing_but_the_result_on_a_pipe,
    exit_status_of_usage,
    exit_status_of_buffers,
    exit_status_of_refusals,
    exit_status_without_a_device,
    exit_status_without_rights,
    watch_needs_a_terminal,
    watch_prints_a_line_for_each_look,
    bench_measures,
    man_pages_and_completions,
);

fn size() -> usize {
    16 * page()
}

pub(super) fn run(words: &[&str]) -> Result<Output, Stop> {
    Ok(Command::new("cohbufctl").args(words).output()?)
}

/// With the options that name a buffer of this process.
fn run_on(buffer: &Buffer, words: &[&str]) -> Result<Output, Stop> {
    let fd = buffer.as_fd().as_raw_fd().to_string();
    let pid = std::process::id().to_string();
    let options = ["--fd", &fd, "--pid", &pid];
    run(&[words, &options].concat())
}

#[track_caller]
pub(super) fn exits(output: &Output, code: i32) -> Outcome {
    let line = std::panic::Location::caller();
    match output.status.code() {
        Some(is) if is == code => Ok(()),
        _ => fail(format!("{line}: must exit with {code}: {output:?}")),
    }
}

pub(super) fn json(output: &Output) -> Result<Value, Stop> {
    match serde_json::from_slice(&output.stdout) {
        Ok(value) => Ok(value),
        Err(error) => fail(format!("no JSON: {error}: {output:?}")),
    }
}

pub(super) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn listed(name: &str) -> Result<Value, Stop> {
    let output = run(&["list", "--json"])?;
    exits(&output, 0)?;
    let all = json(&output)?;
    let buffers = all["buffers"].as_array();
    let found = buffers.and_then(|list| list.iter().find(|one| one["name"] == name));
    match found {
        Some(buffer) => Ok(buffer.clone()),
        None => fail(format!("{name} is not in {all}")),
    }
}

fn list_shows_who_has_a_buffer(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest
        .device()?
        .buffer(size() as u64)
        .name("listed")
        .create()?;
    let device = importer.attach(&buffer, TestDevice::NonCoherent, 0)?;
    device.map(Direction::Bidirectional)?;
    let _view = buffer.view()?;
    let shown = listed("listed")?;
    expect_eq("size", shown["size"].as_u64(), Some(size() as u64))?;
    expect_eq("exporter", shown["exporter"].as_str(), Some("cohbuf"))?;
    let holder = &shown["holders"][0];
    let pid = std::process::id();
    expect_eq("holder", holder["pid"].as_u64(), Some(pid.into()))?;
    let fd = buffer.as_fd().as_raw_fd();
    expect_eq("descriptor", holder["fds"][0].as_i64(), Some(fd.into()))?;
    expect_eq("mapped", holder["mapped"].as_u64(), Some(size() as u64))?;
    let attached = shown["attached"].as_array().map(Vec::len);
    expect_eq("attached", attached, Some(1))?;
    let known = &shown["cohbuf"];
    expect_eq("mappings", known["mappings"].as_u64(), Some(1))?;
    let reach = known["importers"][0]["reach"].as_str();
    let must = match (guest.swiotlb, guest.all_coherent()) {
        (true, _) => "bounced",
        (_, true) => "snooping",
        (_, false) => "direct",
    };
    expect_eq("reach", reach, Some(must))?;

    let output = run(&["list"])?;
    exits(&output, 0)?;
    let table = text(&output);
    leave("list.txt", &table)?;
    let line = table.lines().find(|line| line.contains("listed"));
    let line = line.unwrap_or_default();
    check!(
        line.contains("64 KiB") && line.contains("bracketed") && line.contains(must),
        "{table}"
    );
    drop(device);
    let importers = listed("listed")?["cohbuf"]["importers"]
        .as_array()
        .map(Vec::len);
    expect_eq("importers after it", importers, Some(0))
}

fn list_shows_other_exporters(_guest: &Guest) -> Outcome {
    let vgem = guest::vgem()?;
    let fd = cohbuf::share::Importer::export(vgem.device(), size() as u64)?;
    let buffer = Buffer::try_from(fd)?;
    buffer.set_name("not ours")?;
    let shown = listed("not ours")?;
    expect("what cohbuf knows is nothing", shown["cohbuf"].is_null())?;
    let exporter = shown["exporter"].as_str().unwrap_or_default().to_owned();
    let output = run(&["list", "--json", "--exporter", &exporter])?;
    expect("by exporter", text(&output).contains("not ours"))?;
    let output = run(&["list", "--json", "--exporter", "cohbuf"])?;
    expect("by another", !text(&output).contains("not ours"))?;
    let output = run(&["list", "--json", "--pid", "1"])?;
    expect("of another process", !text(&output).contains("not ours"))
}

/// As a user, who may not look at the processes of root, nor into debugfs.
fn list_says_what_it_cannot_read(guest: &Guest) -> Outcome {
    guest::needs_sockets()?;
    let _buffer = guest
        .device()?
        .buffer(size() as u64)
        .name("hidden")
        .create()?;
    let output = Command::new("cohbufctl").arg("list").uid(1000).output()?;
    exits(&output, 0)?;
    expect("not there", !text(&output).contains("hidden"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["mount -t debugfs", "run as root"] {
        check!(said.contains(part), "{said}");
    }
    Ok(())
}

/// Restores what the process is called.
struct Called(Vec<u8>);

const COMM: &str = "/proc/self/comm";

impl Drop for Called {
    fn drop(&mut self) {
        let _ = fs::write(COMM, &self.0);
    }
}

/// Names are of any bytes, and set by any user.
fn list_takes_any_name(guest: &Guest) -> Outcome {
    // DMA_BUF_SET_NAME_B.
    const SET_NAME: u32 = (1 << 30) | (8 << 16) | ((b'b' as u32) << 8) | 1;
    let importer = guest.importer()?;
    let forged = "x\n9\t0\t0\t1\tcohbuf\t5\tq";
    let mut buffers = Vec::new();
    for name in [&b"\xff"[..], forged.as_bytes(), b"\x1b[2Jcleared"] {
        let buffer = guest.bracketed(size())?;
        let mut bytes = [0; 32];
        bytes[..name.len()].copy_from_slice(name);
        raw::ioctl(&buffer, SET_NAME, &mut bytes)?;
        buffers.push(buffer);
    }
    let _device = importer.attach(&buffers[0], TestDevice::NonCoherent, 0)?;
    let _called = Called(fs::read(COMM)?);
    fs::write(COMM, b"\x1b]0;\xfe")?;

    let shown = listed("\u{fffd}")?;
    let attached = shown["attached"].as_array().map(Vec::len);
    expect_eq("attached", attached, Some(1))?;
    let command = shown["holders"][0]["command"].as_str();
    expect_eq("command", command, Some("\u{1b}]0;\u{fffd}"))?;
    listed(forged)?;
    let output = run(&["list", "--json"])?;
    let all = json(&output)?;
    let all = all["buffers"].as_array().cloned().unwrap_or_default();
    check!(all.iter().all(|one| one["name"] != "q"), "{all:?}");

    let output = run(&["list"])?;
    exits(&output, 0)?;
    expect_eq(
        "missing",
        String::from_utf8_lossy(&output.stderr).as_ref(),
        "",
    )?;
    let table = text(&output);
    check!(!table.contains('\u{1b}'), "{table:?}");
    check!(table.contains(r"\u{1b}[2Jcleared"), "{table}");
    // A heading, the buffers and the sum.
    expect_eq("lines", table.lines().count(), all.len() + 2)
}

fn list_shows_the_rest_while_a_buffer_hangs(guest: &Guest) -> Outcome {
    while_one_hangs(guest, "hangs", || {
        let shown = listed("hangs")?;
        let known = &shown["cohbuf"];
        expect_eq("attachments", known["attachments"].as_u64(), Some(1))?;
        expect("how it is reached", known["importers"].is_null())?;
        Ok(())
    })?;
    // And nothing is missing any more.
    expect_eq("missing", run(&["list"])?.stderr.len(), 0)
}

fn create_takes_every_flag(_guest: &Guest) -> Outcome {
    for (options, flags) in [
        ("--contiguous --coherent", &["coherent", "contiguous"][..]),
        (
            "--track-dirty --enforce report",
            &["track_dirty", "enforce_report"],
        ),
        ("--enforce poison --name made", &["enforce_poison"]),
    ] {
        let words: Vec<&str> = options.split(' ').collect();
        let size = ["create", "--json", "--size", "64KiB"];
        let output = run(&[&size[..], &words].concat())?;
        exits(&output, 0)?;
        let shown = json(&output)?;
        let is: Vec<&str> = shown["flags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        expect_eq(options, is, flags.to_vec())?;
    }
    let words = [
        "create",
        "--size",
        "64KiB",
        "--name",
        "for a child",
        "--exec",
        "sh",
        "-c",
    ];
    let script = "cohbufctl list --pid $$; exit 42";
    let output = run(&[&words[..], &[script]].concat())?;
    exits(&output, 42)?;
    expect("the child has it", text(&output).contains("for a child"))
}

fn fill_and_check(guest: &Guest) -> Outcome {
    // Larger than what is moved at a time.
    let buffer = guest.bracketed((3 << 19) + page())?;
    for pattern in ["random", "random:7", "offset", "hex:0102030405", "zero"] {
        let output = run_on(&buffer, &["check", "--pattern", pattern])?;
        exits(&output, 6)?;
        exits(&run_on(&buffer, &["fill", "--pattern", pattern])?, 0)?;
        exits(&run_on(&buffer, &["check", "--pattern", pattern])?, 0)?;
    }
    let info = guest.device()?.info(&buffer)?;
    expect_eq("windows left", info.write_windows, 0)
}

/// The device has a copy: what is filled outside of a window would not get there.
fn fill_of_rows_reaches_a_device(guest: &Guest) -> Outcome {
    let importer = guest.importer()?;
    let buffer = guest.bracketed(size())?;
    let device = importer.attach(&buffer, TestDevice::BounceModel, 0)?;
    device.map(Direction::Bidirectional)?;
    let rows = "--offset 300 --length 40 --stride 512 --rows 9";
    let rows: Vec<&str> = rows.split(' ').collect();
    let pattern = ["--pattern", "hex:77"];
    exits(
        &run_on(&buffer, &[&["fill"], &pattern[..], &rows].concat())?,
        0,
    )?;
    let mut must = vec![0; size()];
    for row in 0..9 {
        must[300 + row * 512..][..40].fill(0x77);
    }
    let mut seen = vec![0xff; size()];
    device.device_reads(0, &mut seen)?;
    expect("the device has them", seen == must)?;

    // The other way round: what a device wrote is checked.
    device.device_writes(300 + 512 + 39, &[0x78])?;
    let output = run_on(
        &buffer,
        &[&["check", "--json"], &pattern[..], &rows].concat(),
    )?;
    exits(&output, 6)?;
    let shown = json(&output)?;
    let first = &shown["first"][0];
    expect_eq("offset", first["offset"].as_u64(), Some(300 + 512 + 39))?;
    expect_eq("is", first["is"].as_str(), Some("78"))?;
    expect_eq("must", first["must"].as_str(), Some("77"))?;
    expect_eq("compared", shown["compared"].as_u64(), Some(360))
}

fn fill_of_another_exporter(_guest: &Guest) -> Outcome {
    let vgem = guest::vgem()?;
    let fd = cohbuf::share::Importer::export(vgem.device(), size() as u64)?;
    let buffer = Buffer::try_from(fd)?;
    exits(&run_on(&buffer, &["fill"])?, 0)?;
    exits(&run_on(&buffer, &["check"])?, 0)?;
    let part = ["--offset", "100", "--length", "50"];
    exits(
        &run_on(
            &buffer,
            &[&["fill", "--pattern", "zero"], &part[..]].concat(),
        )?,
        0,
    )?;
    let output = run_on(&buffer, &["check", "--json"])?;
    exits(&output, 6)?;
    let first = json(&output)?["first"][0]["offset"].as_u64();
    check!(
        first.is_some_and(|at| (100..110).contains(&at)),
        "{first:?}"
    );

    // Nothing is done of what cannot be done.
    exits(&run_on(&buffer, &["fill", "--pattern", "zero"])?, 0)?;
    let length = (2 * size()).to_string();
    for command in ["fill", "check"] {
        let output = run_on(&buffer, &[command, "--length", &length])?;
        exits(&output, 1)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        check!(said.contains("past the end of the buffer"), "{said}");
    }
    exits(&run_on(&buffer, &["check", "--pattern", "zero"])?, 0)
}

/// The whole of it, as its exporter does that. A part is nothing that others have.
fn sync_of_another_exporter(_guest: &Guest) -> Outcome {
    let vgem = guest::vgem()?;
    let fd = cohbuf::share::Importer::export(vgem.device(), size() as u64)?;
    let buffer = Buffer::try_from(fd)?;
    let output = run_on(&buffer, &["sync", "--json"])?;
    exits(&output, 0)?;
    let shown = json(&output)?;
    let nothing = serde_json::json!({ "begin": null, "end": null });
    expect_eq("what it costs", &shown, &nothing)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    check!(said.contains("of another exporter"), "{said}");
    exits(&run_on(&buffer, &["sync", "--length", "64"])?, 7)
}

fn check_says_where(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(size())?;
    exits(&run_on(&buffer, &["fill", "--pattern", "hex:aa"])?, 0)?;
    let mut view = buffer.view()?;
    let mut window = view.read_write()?;
    window[4096..4099].copy_from_slice(&[1, 2, 3]);
    window[9000] = 9;
    window.end()?;
    let output = run_on(&buffer, &["check", "--pattern", "hex:aa"])?;
    exits(&output, 6)?;
    let must = "\
compared   64 KiB
different  4
places     2
OFFSET  BYTES  IS      MUST BE
0x1000      3  010203  aaaaaa
0x2328      1  09      aa
";
    expect_eq("text", text(&output).as_str(), must)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let must = "cohbufctl: 4 of 65536 bytes differ, the first at offset 4096\n";
    expect_eq("message", said.as_str(), must)
}

fn json_of_every_command(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(size())?;
    let other = guest.bracketed(size())?;
    for words in [&["caps"][..], &["create"], &["list"]] {
        let output = run(&[words, &["--json"]].concat())?;
        exits(&output, 0)?;
        json(&output)?;
    }
    for words in [&["info"][..], &["sync"], &["fill"], &["check"]] {
        let output = run_on(&buffer, &[words, &["--json"]].concat())?;
        exits(&output, 0)?;
        json(&output)?;
    }
    let pid = std::process::id().to_string();
    let (src, dst) = (
        buffer.as_fd().as_raw_fd().to_string(),
        other.as_fd().as_raw_fd().to_string(),
    );
    let words = [
        "copy",
        "--src",
        &src,
        "--src-pid",
        &pid,
        "--dst",
        &dst,
        "--dst-pid",
        &pid,
    ];
    let output = run(&[&["--json"], &words[..]].concat())?;
    exits(&output, 0)?;
    let copied = json(&output)?["copied"].as_u64();
    expect_eq("copied", copied, Some(size() as u64))?;
    exits(&run_on(&other, &["check"])?, 0)
}

fn nothing_but_the_result_on_a_pipe(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(4 << 20)?;
    for words in [["fill", "--bytes"], ["check", "--bytes"]] {
        let output = run_on(&buffer, &words)?;
        exits(&output, 0)?;
        expect_eq("standard error", output.stderr.len(), 0)?;
        expect("no escapes", !output.stdout.contains(&0x1b))?;
        expect("bytes", text(&output).contains("  4194304\n"))?;
    }
    Ok(())
}

fn exit_status_of_usage(_guest: &Guest) -> Outcome {
    for words in [
        "no-such-command",
        "info",
        "fill --fd 3 --pattern ones",
        "create --size none",
    ] {
        exits(&run(&words.split(' ').collect::<Vec<_>>())?, 2)?;
    }
    // The list is where people look.
    let output = run(&["--help"])?;
    exits(&output, 0)?;
    expect("help lists them", text(&output).contains("Exit status:"))
}

fn exit_status_of_buffers(guest: &Guest) -> Outcome {
    // Nothing is open there; what is open is no dma-buf; it is of another exporter.
    exits(&run(&["info", "--fd", "999"])?, 7)?;
    let pid = std::process::id().to_string();
    exits(&run(&["info", "--fd", "999", "--pid", &pid])?, 7)?;
    exits(&run(&["info", "--fd", "0"])?, 7)?;
    if let Ok(vgem) = guest::vgem() {
        let fd = cohbuf::share::Importer::export(vgem.device(), size() as u64)?;
        exits(&run_on(&Buffer::try_from(fd)?, &["info"])?, 7)?;
    }
    let buffer = guest.bracketed(size())?;
    exits(&run_on(&buffer, &["info"])?, 0)?;
    exits(
        &run_on(&buffer, &["sync", "--offset", "1GiB", "--length", "64"])?,
        1,
    )
}

fn exit_status_of_refusals(guest: &Guest) -> Outcome {
    guest::vgem()?;
    let share = ["share", "--with", "vgem", "--coherent", "--size", "64KiB"];
    let direct = run(&[&share[..], &["--way", "direct"]].concat())?;
    exits(&direct, if guest.all_coherent() { 0 } else { 5 })?;
    let output = run(&[&share[..], &["--verify", "--json"]].concat())?;
    exits(&output, 0)?;
    expect_eq("wrong", json(&output)?["wrong"].as_u64(), Some(0))?;
    exits(&run(&["share", "--with", "no-such-driver"])?, 3)
}

/// When dropped, the device file is back.
struct Away;

const DEVICE: &str = "/dev/cohbuf";
const AWAY: &str = "/dev/cohbuf-away";

impl Drop for Away {
    fn drop(&mut self) {
        let _ = fs::rename(AWAY, DEVICE);
    }
}

fn exit_status_without_a_device(_guest: &Guest) -> Outcome {
    let output = {
        fs::rename(DEVICE, AWAY)?;
        let _away = Away;
        run(&["caps"])?
    };
    exits(&output, 3)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    check!(said.contains("modprobe cohbuf"), "{said}");
    exits(&run(&["caps"])?, 0)
}

fn exit_status_without_rights(_guest: &Guest) -> Outcome {
    guest::needs_sockets()?;
    let output = Command::new("cohbufctl").arg("caps").uid(1000).output()?;
    exits(&output, 4)
}

fn watch_needs_a_terminal(_guest: &Guest) -> Outcome {
    let output = run(&["watch"])?;
    exits(&output, 1)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    check!(said.contains("cohbufctl watch --json"), "{said}");
    expect_eq("standard output", output.stdout.len(), 0)
}

fn watch_prints_a_line_for_each_look(guest: &Guest) -> Outcome {
    let buffer = guest.bracketed(size())?;
    buffer.set_name("seen")?;
    let output = run(&["watch", "--json", "--interval", "50", "--count", "3"])?;
    exits(&output, 0)?;
    let text = text(&output);
    expect_eq("lines", text.lines().count(), 3)?;
    let mut last = 0.0;
    for line in text.lines() {
        let Ok(look) = serde_json::from_str::<Value>(line) else {
            return fail(format!("no JSON: {line}"));
        };
        let time = look["time"].as_f64().unwrap_or_default();
        expect(format!("{time} is after {last}"), time > last)?;
        last = time;
        let mut buffers = look["buffers"].as_array().into_iter().flatten();
        check!(buffers.any(|one| one["name"] == "seen"), "{line}");
    }
    Ok(())
}

fn bench_measures(_guest: &Guest) -> Outcome {
    let all = "cohbuf,coherent,system-heap,udmabuf";
    // DMA-API debug tells of what udmabuf does.
    let exporters = if guest::is_debug() {
        "cohbuf,coherent,system-heap"
    } else {
        all
    };
    let words = ["bench", "--size", "64KiB", "--exporter", exporters];
    let plot = ["--json", "--rounds", "5", "--plot", "/tmp/bench.svg"];
    let output = run(&[&words[..], &plot].concat())?;
    exits(&output, 0)?;
    let shown = json(&output)?;
    let list = shown["nanoseconds"].as_array().cloned().unwrap_or_default();
    let of = |exporter: &str| {
        list.iter()
            .filter(|one| one["exporter"] == exporter)
            .count()
    };
    // All operations of ours; those of others, but for the region.
    expect_eq("of cohbuf", of("cohbuf"), 7)?;
    expect_eq("coherent", of("cohbuf coherent"), 7)?;
    let has_udmabuf = guest::exists("/dev/udmabuf");
    let udmabuf = if exporters == all && has_udmabuf {
        6
    } else {
        0
    };
    expect_eq("of udmabuf", of("udmabuf"), udmabuf)?;
    let heap = if guest::exists("/dev/dma_heap/system") {
        6
    } else {
        0
    };
    expect_eq("of the system heap", of("system heap"), heap)?;
    for one in &list {
        let [least, median, most] = ["least", "median", "most"].map(|name| one[name].as_u64());
        check!(
            least > Some(0) && least <= median && median <= most,
            "{one}"
        );
    }
    let missing = shown["missing"].as_array().map(Vec::len);
    let absent = usize::from(exporters == all && udmabuf == 0) + usize::from(heap == 0);
    expect_eq("missing", missing, Some(absent))?;

    let svg = fs::read_to_string("/tmp/bench.svg")?;
    check!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
        "no SVG"
    );
    leave_file("bench.svg", &svg)?;
    leave(
        "bench.txt",
        &text(&run(&[&words[..], &["--rounds", "20"]].concat())?),
    )?;
    Ok(())
}

fn man_pages_and_completions(_guest: &Guest) -> Outcome {
    exits(&run(&["man", "--out", "/tmp/man"])?, 0)?;
    let page = fs::read_to_string("/tmp/man/cohbufctl-check.1")?;
    check!(page.contains("EXIT STATUS"), "{page}");
    let shown = json(&run(&["man", "--json", "--out", "/tmp/man"])?)?;
    let pages = shown["pages"].as_array().cloned().unwrap_or_default();
    let check = Value::from("/tmp/man/cohbufctl-check.1");
    check!(pages.contains(&check), "{pages:?}");
    let shown = json(&run(&["completions", "fish", "--json"])?)?;
    let script = text(&run(&["completions", "fish"])?);
    expect_eq("script", shown["script"].as_str(), Some(script.as_str()))?;
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell])?;
        exits(&output, 0)?;
        for command in ["list", "fill", "check", "watch", "bench"] {
            check!(text(&output).contains(command), "{shell}: {command}");
        }
    }
    Ok(())
}
