// SPDX-License-Identifier: GPL-2.0

//! QEMU's educational PCI device, which has a DMA engine and 4 KiB of memory of its own.
//!
//! Reference: <https://www.qemu.org/docs/master/specs/edu.html>
//!
//! The CPU cannot see that memory, only DMA gets bytes into and out of it. So user data goes through
//! a coherent bounce buffer: bounce -> edu -> dma-buf, or dma-buf -> edu -> bounce.

use dma_buf::{
    compat,
    test_device::take_as_noncoherent,
    Port, //
};
use kernel::{
    device::{
        Bound,
        Core,
        Device, //
    },
    dma::{
        Coherent,
        DmaAddress,
        DmaMask, //
    },
    io::{
        poll::read_poll_timeout,
        register,
        Io, //
    },
    pci,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

use crate::{
    devices::{
        self,
        Engine,
        Registered, //
    },
    uapi::Kind, //
};

/// So many devices are as QEMU has them.
const COHERENT: usize = 4;

const VENDOR: u16 = 0x1234;
const DEVICE: u16 = 0x11e8;

/// The address at which the DMA engine finds the memory of the device.
const MEMORY: u32 = 0x40000;

/// The size of the memory of the device, in bytes.
pub(crate) const MEMORY_SIZE: usize = 4096;

/// QEMU does a transfer 100 ms of guest time after the command: it is of no use to look earlier.
const DURATION: Delta = Delta::from_millis(100);

const POLL: Delta = Delta::from_millis(1);

const TIMEOUT: Delta = Delta::from_secs(10);

mod regs {
    use super::*;

    register! {
        pub(super) SOURCE(u32) @ 0x80 {
            31:0 address;
        }

        pub(super) DESTINATION(u32) @ 0x88 {
            31:0 address;
        }

        pub(super) COUNT(u32) @ 0x90 {
            31:0 bytes;
        }

        pub(super) COMMAND(u32) @ 0x98 {
            1:1 from_memory => bool;
            0:0 run => bool;
        }
    }

    pub(super) const END: usize = 0xa0;
}

/// The DMA engine.
pub(crate) struct Edu {
    bar: compat::DevresBar<{ regs::END }>,
    bounce: Coherent<[u8]>,
}

/// Which way a transfer goes, seen from the memory of the device.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

impl Edu {
    fn new(pdev: &pci::Device<Bound>) -> Result<Self> {
        let bar = pdev.iomap_region_sized::<{ regs::END }>(0, c"cohbuf_importer")?;

        Ok(Self {
            bar: bar.into_devres()?,
            bounce: Coherent::zeroed_slice(pdev.as_ref(), MEMORY_SIZE, GFP_KERNEL)?,
        })
    }

    /// Writes `data` to `address` by DMA.
    ///
    /// `data` must fit into the memory of the device.
    pub(crate) fn write(
        &mut self,
        dev: &Device<Bound>,
        address: DmaAddress,
        data: &[u8],
    ) -> Result {
        compat::copy_in(&mut self.bounce, data)?;
        self.transfer(dev, Way::In, compat::dma_address(&self.bounce), data.len())?;
        self.transfer(dev, Way::Out, address, data.len())
    }

    /// Reads from `address` by DMA into `data`.
    ///
    /// `data` must fit into the memory of the device.
    pub(crate) fn read(
        &mut self,
        dev: &Device<Bound>,
        address: DmaAddress,
        data: &mut [u8],
    ) -> Result {
        self.transfer(dev, Way::In, address, data.len())?;
        self.transfer(dev, Way::Out, compat::dma_address(&self.bounce), data.len())?;
        compat::copy_out(&mut self.bounce, data)
    }

    /// Lets the engine move `len` bytes between `address` and the memory of the device.
    fn transfer(&self, dev: &Device<Bound>, way: Way, address: DmaAddress, len: usize) -> Result {
        if len > MEMORY_SIZE {
            return Err(EINVAL);
        }
        let len = u32::try_from(len)?;
        // The DMA mask keeps it to 32 bits.
        let address = u32::try_from(address)?;

        let bar = self.bar.access(dev)?;
        let (source, destination) = match way {
            Way::In => (address, MEMORY),
            Way::Out => (MEMORY, address),
        };

        bar.write_reg(regs::SOURCE::zeroed().with_address(source));
        bar.write_reg(regs::DESTINATION::zeroed().with_address(destination));
        bar.write_reg(regs::COUNT::zeroed().with_bytes(len));
        bar.write_reg(
            regs::COMMAND::zeroed()
                .with_from_memory(matches!(way, Way::Out))
                .with_run(true),
        );

        fsleep(DURATION);
        // The read of the register orders what the device wrote before what the CPU then reads.
        read_poll_timeout(
            || Ok(bar.read(regs::COMMAND)),
            |command| !command.run(),
            POLL,
            TIMEOUT,
        )?;
        Ok(())
    }
}

dma_buf::pci_ids!(
    PCI_TABLE,
    PCI_TABLE_COPY,
    <EduDriver as pci::Driver>::IdInfo,
    // The kernel crate has no way to name a vendor that it does not know, and 0x1234 is nobody's. So
    // take the class, "others", and let probe() look at the rest.
    [(pci::DeviceId::from_class(0x00ff00, 0xffffff), ())]
);

/// Binds every edu device that there is.
pub(crate) struct EduDriver;

impl pci::Driver for EduDriver {
    type IdInfo = ();
    type Data<'bound> = Registered;
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: compat::IdInfo<'bound, Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        if pdev.vendor_id().as_raw() != VENDOR || pdev.device_id() != DEVICE {
            return Err(ENODEV);
        }

        pdev.enable_device_mem()?;
        pdev.set_master();

        // One too many for the demo is for the tests: what edu does is the same, but the DMA API
        // maintains caches for it.
        let kind = if devices::count(Kind::Edu) < COHERENT {
            Kind::Edu
        } else {
            take_as_noncoherent(pdev.as_ref());
            Kind::EduNonCoherent
        };

        // QEMU has to be told so, too: `-device edu,dma_mask=0xffffffff`.
        let mask = DmaMask::new::<32>();
        let port = Port::probe(pdev, mask, || Ok(Engine::Edu(Edu::new(pdev)?)))?;

        Registered::new(kind, port)
    }
}
