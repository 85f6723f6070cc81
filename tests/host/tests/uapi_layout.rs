// SPDX-License-Identifier: GPL-2.0

//! The C headers and the Rust structures are the same, for C and for C++.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cohbuf::uapi::StructLayout;

struct Header {
    /// For `#include`.
    path: &'static str,
    layout: &'static [StructLayout],
    /// C expressions, with the value that Rust has for them.
    constants: Vec<(&'static str, u64)>,
}

fn headers() -> [Header; 3] {
    use cohbuf::uapi as c;
    use cohbuf_testdev::{Direction, MemoryType, TestDevice, driver::uapi as d, uapi as t};
    [
        Header {
            path: "include/uapi/linux/cohbuf.h",
            layout: c::LAYOUT,
            constants: vec![
                ("COHBUF_API_VERSION", c::API_VERSION.into()),
                ("COHBUF_COHERENT", c::COHERENT.into()),
                ("COHBUF_WRITE_COMBINE", c::WRITE_COMBINE.into()),
                ("COHBUF_CONTIGUOUS", c::CONTIGUOUS.into()),
                ("COHBUF_TRACK_DIRTY", c::TRACK_DIRTY.into()),
                ("COHBUF_ENFORCE_REPORT", c::ENFORCE_REPORT.into()),
                ("COHBUF_ENFORCE_POISON", c::ENFORCE_POISON.into()),
                ("COHBUF_CACHING_WRITE_BACK", c::CACHING_WRITE_BACK.into()),
                (
                    "COHBUF_CACHING_WRITE_COMBINE",
                    c::CACHING_WRITE_COMBINE.into(),
                ),
                ("COHBUF_REACH_NONE", c::REACH_NONE.into()),
                ("COHBUF_REACH_SNOOPING", c::REACH_SNOOPING.into()),
                ("COHBUF_REACH_DIRECT", c::REACH_DIRECT.into()),
                ("COHBUF_REACH_IOMMU", c::REACH_IOMMU.into()),
                ("COHBUF_REACH_BOUNCED", c::REACH_BOUNCED.into()),
                (
                    "COHBUF_REACH_PARTLY_BOUNCED",
                    c::REACH_PARTLY_BOUNCED.into(),
                ),
                ("COHBUF_REACH_UNKNOWN", c::REACH_UNKNOWN.into()),
                ("COHBUF_ATTACHMENT_COHERENT", c::ATTACHMENT_COHERENT.into()),
                (
                    "COHBUF_ATTACHMENT_AUTOFENCE",
                    c::ATTACHMENT_AUTOFENCE.into(),
                ),
                ("COHBUF_ATTACHMENT_DYNAMIC", c::ATTACHMENT_DYNAMIC.into()),
                ("COHBUF_STATE_POISONED", c::STATE_POISONED.into()),
                ("COHBUF_STATE_TRACKS_PAGES", c::STATE_TRACKS_PAGES.into()),
                ("COHBUF_LAYOUT_WHOLE", c::LAYOUT_WHOLE.into()),
                ("COHBUF_LAYOUT_1D", c::LAYOUT_1D.into()),
                ("COHBUF_LAYOUT_2D", c::LAYOUT_2D.into()),
                ("COHBUF_IOCTL_CAPS", c::IOCTL_CAPS.into()),
                ("COHBUF_IOCTL_CREATE", c::IOCTL_CREATE.into()),
                ("COHBUF_IOCTL_INFO", c::IOCTL_INFO.into()),
                ("COHBUF_IOCTL_SYNC", c::IOCTL_SYNC.into()),
                ("COHBUF_IOCTL_COPY", c::IOCTL_COPY.into()),
            ],
        },
        Header {
            path: "tests/importer/cohbuf_test.h",
            layout: t::LAYOUT,
            constants: vec![
                ("COHBUF_TEST_EDU", TestDevice::Edu as u64),
                ("COHBUF_TEST_COHERENT", TestDevice::Coherent as u64),
                ("COHBUF_TEST_NONCOHERENT", TestDevice::NonCoherent as u64),
                ("COHBUF_TEST_BOUNCE_MODEL", TestDevice::BounceModel as u64),
                ("COHBUF_TEST_CACHE_MODEL", TestDevice::CacheModel as u64),
                (
                    "COHBUF_TEST_CACHE_MODEL_MERGED",
                    TestDevice::CacheModelMerged as u64,
                ),
                ("COHBUF_TEST_DIRECT_MODEL", TestDevice::DirectModel as u64),
                ("COHBUF_TEST_SNOOP_MODEL", TestDevice::SnoopModel as u64),
                ("COHBUF_TEST_BOUNCED_MODEL", TestDevice::BouncedModel as u64),
                (
                    "COHBUF_TEST_EDU_NONCOHERENT",
                    TestDevice::EduNonCoherent as u64,
                ),
                ("COHBUF_TEST_BIDIRECTIONAL", Direction::Bidirectional as u64),
                ("COHBUF_TEST_TO_DEVICE", Direction::ToDevice as u64),
                ("COHBUF_TEST_FROM_DEVICE", Direction::FromDevice as u64),
                ("COHBUF_TEST_IOCTL_ATTACH", t::IOCTL_ATTACH.into()),
                ("COHBUF_TEST_IOCTL_DETACH", t::IOCTL_DETACH.into()),
                ("COHBUF_TEST_IOCTL_MAP", t::IOCTL_MAP.into()),
                ("COHBUF_TEST_IOCTL_UNMAP", t::IOCTL_UNMAP.into()),
                ("COHBUF_TEST_IOCTL_DMA", t::IOCTL_DMA.into()),
                ("COHBUF_TEST_IOCTL_MODEL", t::IOCTL_MODEL.into()),
                ("COHBUF_TEST_MODEL_RESET", t::MODEL_RESET.into()),
                ("COHBUF_TEST_MODEL_COUNTS", t::MODEL_COUNTS.into()),
                ("COHBUF_TEST_MODEL_ZERO_COUNTS", t::MODEL_ZERO_COUNTS.into()),
                ("COHBUF_TEST_MODEL_EVICT", t::MODEL_EVICT.into()),
                ("COHBUF_TEST_MODEL_DROP_CLEAN", t::MODEL_DROP_CLEAN.into()),
                ("COHBUF_TEST_MODEL_TRACK", t::MODEL_TRACK.into()),
                ("COHBUF_TEST_MODEL_ATTRS", t::MODEL_ATTRS.into()),
                ("COHBUF_TEST_WRITE_BACK", MemoryType::WriteBack as u64),
                (
                    "COHBUF_TEST_WRITE_COMBINING",
                    MemoryType::WriteCombining as u64,
                ),
                ("COHBUF_TEST_OTHER_TYPE", MemoryType::Other as u64),
            ],
        },
        Header {
            path: "tests/driver/cohbuf_driver.h",
            layout: d::LAYOUT,
            constants: vec![
                ("COHBUF_DRIVER_BYTES", d::BYTES as u64),
                ("COHBUF_DRIVER_DEFAULT", d::DEFAULT.into()),
                ("COHBUF_DRIVER_ON", d::ON.into()),
                ("COHBUF_DRIVER_OFF", d::OFF.into()),
                ("COHBUF_DRIVER_CARELESS", d::CARELESS.into()),
                ("COHBUF_DRIVER_FOR_DEVICE", d::FOR_DEVICE.into()),
                ("COHBUF_DRIVER_LOCKED", d::LOCKED.into()),
                ("COHBUF_DRIVER_ATTACH", d::IOCTL_ATTACH.into()),
                ("COHBUF_DRIVER_DETACH", d::IOCTL_DETACH.into()),
                ("COHBUF_DRIVER_MAP", d::IOCTL_MAP.into()),
                ("COHBUF_DRIVER_UNMAP", d::IOCTL_UNMAP.into()),
                ("COHBUF_DRIVER_DMA", d::IOCTL_DMA.into()),
                ("COHBUF_DRIVER_JOB", d::IOCTL_JOB.into()),
                ("COHBUF_DRIVER_SYNC", d::IOCTL_SYNC.into()),
                ("COHBUF_DRIVER_AUTOFENCE", d::IOCTL_AUTOFENCE.into()),
                ("COHBUF_DRIVER_QUERY", d::IOCTL_QUERY.into()),
                ("COHBUF_DRIVER_MODEL", d::IOCTL_MODEL.into()),
                ("COHBUF_DRIVER_PUT_LOST", d::IOCTL_PUT_LOST.into()),
            ],
        },
    ]
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program that compiles only where header and Rust agree.
fn program(header: &Header, assert: &str) -> String {
    let mut text = format!("#include <stddef.h>\n#include \"{}\"\n", header.path);
    for (name, size, fields) in header.layout {
        writeln!(
            text,
            "{assert}(sizeof(struct {name}) == {size}, \"{name}\");"
        )
        .unwrap();
        for (field, offset, bytes) in *fields {
            writeln!(
                text,
                "{assert}(offsetof(struct {name}, {field}) == {offset}, \"{name}.{field}\");\n\
                 {assert}(sizeof(((struct {name} *)0)->{field}) == {bytes}, \"{name}.{field}\");"
            )
            .unwrap();
        }
    }
    for (name, value) in &header.constants {
        writeln!(text, "{assert}({name} == {value}u, \"{name}\");").unwrap();
    }
    text + "int main(void) { return 0; }\n"
}

/// Compiles, and gives what the compiler said where it refused.
fn compile(compiler: &str, flags: &[&str], name: &str, source: &str) -> Result<(), String> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, source).expect("write the program");
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"])
        .args(flags)
        .arg("-I")
        .arg(repository())
        .arg(&file)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {compiler}: {error}; install it"));
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn check(compiler: &str, flags: &[&str], extension: &str, assert: &str) {
    for (number, header) in headers().iter().enumerate() {
        let name = format!("layout{number}.{extension}");
        let result = compile(compiler, flags, &name, &program(header, assert));
        assert_eq!(
            result,
            Ok(()),
            "{} and the Rust structures differ",
            header.path
        );
    }
}

#[test]
fn c_headers_match_rust() {
    check("cc", &["-std=c11"], "c", "_Static_assert");
}

#[test]
fn cxx_headers_match_rust() {
    check("c++", &["-std=c++17"], "cc", "static_assert");
}

/// The 32-bit layout is the same: no field changes place with the word size.
#[test]
fn c_headers_match_rust_on_32_bits() {
    if cfg!(target_arch = "x86_64") {
        check(
            "cc",
            &["-std=c11", "-m32", "-ffreestanding"],
            "32.c",
            "_Static_assert",
        );
    }
}

/// No structure, field or constant of the header is missing here.
#[test]
fn rust_has_all_of_the_headers() {
    for header in headers() {
        let text = fs::read_to_string(repository().join(header.path)).expect("read the header");
        let (mut fields, mut structs) = (0, 0);
        let mut within = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("struct ") {
                let Some(name) = name.strip_suffix(" {") else {
                    continue;
                };
                let found = header.layout.iter().find(|(c, ..)| *c == name);
                within = found.map(|(_, _, fields)| *fields);
                assert!(
                    within.is_some(),
                    "{}: no struct {name} in Rust",
                    header.path
                );
                structs += 1;
            } else if line.starts_with('}') {
                within = None;
            } else if let Some(list) = within {
                let field = line.trim().trim_end_matches(';').rsplit(' ').next();
                let field = field.and_then(|field| field.split('[').next());
                let found = list.iter().any(|(c, ..)| Some(*c) == field);
                assert!(found, "{}: no field in Rust for: {line}", header.path);
                fields += 1;
            } else {
                let word = line
                    .trim()
                    .trim_start_matches("#define ")
                    .split([' ', '\t', ','])
                    .next();
                let Some(name) = word.filter(|word| word.starts_with("COHBUF_")) else {
                    continue;
                };
                let found = header.constants.iter().any(|(c, _)| *c == name);
                assert!(found, "{}: no {name} in Rust", header.path);
            }
        }
        assert_eq!(structs, header.layout.len(), "{}", header.path);
        let listed: usize = header.layout.iter().map(|(.., list)| list.len()).sum();
        assert_eq!(fields, listed, "{}", header.path);
    }
}

/// The check itself finds a difference.
#[test]
fn a_wrong_offset_does_not_compile() {
    let header = Header {
        path: "include/uapi/linux/cohbuf.h",
        layout: &[("cohbuf_create", 24, &[("flags", 12, 4)])],
        constants: Vec::new(),
    };
    let source = program(&header, "_Static_assert");
    let error = compile("cc", &["-std=c11"], "wrong.c", &source).unwrap_err();
    assert!(error.contains("cohbuf_create.flags"), "{error}");
}
