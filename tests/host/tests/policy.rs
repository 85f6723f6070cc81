// SPDX-License-Identifier: GPL-2.0

//! The pure policy of the module, as the module compiles it, against a model in
//! which the device works on a copy of the memory.

#[path = "../../../src/policy.rs"]
mod policy;

use policy::{Access, Direction, Kind, Refusal, attach, begin, device_writes, end, map};

const ACCESSES: [Access; 3] = [Access::Read, Access::Write, Access::ReadWrite];
const DIRECTIONS: [Direction; 3] = [
    Direction::Bidirectional,
    Direction::ToDevice,
    Direction::FromDevice,
];

/// One byte that the device writes, one that the CPU writes.
type Memory = [u8; 2];
const OF_DEVICE: usize = 0;
const OF_CPU: usize = 1;

/// A bounced mapping: the device has a copy, moved as a whole by maintenance.
struct Bounced {
    mapped: Direction,
    cpu: Memory,
    device: Memory,
}

impl Bounced {
    fn begin(&mut self, access: Access) {
        if begin(Kind::Bracketed, access, self.mapped) {
            self.cpu = self.device;
        }
    }

    fn end(&mut self, access: Access) {
        if end(Kind::Bracketed, access, self.mapped) {
            self.device = self.cpu;
        }
    }
}

fn cpu_writes(access: Access) -> bool {
    access != Access::Read
}

#[test]
fn coherent_refuses_what_does_not_snoop() {
    assert_eq!(attach(Kind::Coherent, false), Err(Refusal::NotCoherent));
    assert_eq!(attach(Kind::Coherent, true), Ok(()));
}

#[test]
fn coherent_refuses_what_is_bounced() {
    for mapped in DIRECTIONS {
        for other in [false, true] {
            assert_eq!(
                map(Kind::Coherent, true, mapped, other),
                Err(Refusal::Bounced)
            );
            assert_eq!(map(Kind::Coherent, false, mapped, other), Ok(()));
        }
    }
}

#[test]
fn bracketed_takes_every_importer() {
    for dma_coherent in [false, true] {
        assert_eq!(attach(Kind::Bracketed, dma_coherent), Ok(()));
    }
    for mapped in DIRECTIONS {
        assert_eq!(map(Kind::Bracketed, false, mapped, false), Ok(()));
        assert_eq!(map(Kind::Bracketed, false, mapped, true), Ok(()));
        assert_eq!(map(Kind::Bracketed, true, mapped, false), Ok(()));
    }
}

/// Of bounced mappings one at a time may be written by its device.
#[test]
fn bracketed_refuses_a_second_bounced_writer() {
    for mapped in DIRECTIONS {
        let expected = if device_writes(mapped) {
            Err(Refusal::SecondBounced)
        } else {
            Ok(())
        };
        assert_eq!(
            map(Kind::Bracketed, true, mapped, true),
            expected,
            "{mapped:?}"
        );
    }
}

#[test]
fn coherent_is_never_maintained() {
    for access in ACCESSES {
        for mapped in DIRECTIONS {
            assert!(!begin(Kind::Coherent, access, mapped));
            assert!(!end(Kind::Coherent, access, mapped));
        }
    }
}

/// What the device wrote before a window is there in it and after it, and what
/// the CPU wrote in it gets to the device.
#[test]
fn a_window_loses_no_byte_of_either_side() {
    for access in ACCESSES {
        for mapped in DIRECTIONS {
            let case = format!("{access:?}, {mapped:?}");
            let mut memory = Bounced {
                mapped,
                cpu: [1, 1],
                device: [1, 1],
            };
            let mut expected: Memory = [1, 1];
            if device_writes(mapped) {
                memory.device[OF_DEVICE] = 2;
                expected[OF_DEVICE] = 2;
            }
            memory.begin(access);
            assert_eq!(memory.cpu, expected, "the CPU in the window: {case}");
            if cpu_writes(access) {
                memory.cpu[OF_CPU] = 3;
                expected[OF_CPU] = 3;
            }
            memory.end(access);
            assert_eq!(memory.device, expected, "the device after it: {case}");
        }
    }
}

/// A device may go on writing while the CPU only reads: nothing goes over it.
#[test]
fn a_read_window_does_not_go_over_the_device() {
    for mapped in [Direction::Bidirectional, Direction::FromDevice] {
        let mut memory = Bounced {
            mapped,
            cpu: [1, 1],
            device: [1, 1],
        };
        memory.begin(Access::Read);
        memory.device[OF_DEVICE] = 2;
        memory.end(Access::Read);
        assert_eq!(memory.device[OF_DEVICE], 2, "{mapped:?}");
    }
}
