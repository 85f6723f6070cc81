// SPDX-License-Identifier: GPL-2.0

//! Where the driver asks whether a device is DMA-coherent.

#[cfg(not(cohbuf_kunit))]
pub(crate) use dma_buf::device::is_dma_coherent;

#[cfg(cohbuf_kunit)]
pub(crate) use seam::is_dma_coherent;

/// The test seam: on x86 every device is DMA-coherent, so that the tests say of one that it is
/// not. It is in the KUnit module alone.
#[cfg(cohbuf_kunit)]
pub(crate) mod seam {
    use kernel::{
        device::Device,
        sync::atomic::{
            Atomic,
            Relaxed, //
        }, //
    };

    /// The address of the device that is taken as not coherent, or 0.
    static NOT_COHERENT: Atomic<usize> = Atomic::new(0);

    /// Takes `dev` as not coherent until the guard is dropped. One at a time.
    pub(crate) fn not_coherent(dev: &Device) -> Guard {
        NOT_COHERENT.store(core::ptr::from_ref(dev) as usize, Relaxed);
        Guard
    }

    /// Ends what [`not_coherent`] began.
    pub(crate) struct Guard;

    impl Drop for Guard {
        fn drop(&mut self) {
            NOT_COHERENT.store(0, Relaxed);
        }
    }

    pub(crate) fn is_dma_coherent(dev: &Device) -> bool {
        NOT_COHERENT.load(Relaxed) != core::ptr::from_ref(dev) as usize
            && dma_buf::device::is_dma_coherent(dev)
    }
}
