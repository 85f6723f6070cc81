// SPDX-License-Identifier: GPL-2.0
/*
 * C side of test_device.rs. Not part of cohbuf.ko.
 */
#include <linux/dma-map-ops.h>

#include "helpers.h"

/*
 * Coherence first, as dma_set_mask() looks at it to tell whether the device can
 * do without syncs. Where the architecture has no devices that are not coherent,
 * @coherent is not looked at.
 */
int cohbuf_rs_test_device_setup_dma(struct device *dev, u64 mask, bool coherent)
{
#if defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_DEVICE) || \
	defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU) || \
	defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU_ALL)
	dev_assign_dma_coherent(dev, coherent);
#endif
	return dma_coerce_mask_and_coherent(dev, mask);
}

/* Of a device that nothing is mapped for, before its mask is set. */
void cohbuf_rs_test_device_noncoherent(struct device *dev)
{
#if defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_DEVICE) || \
	defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU) || \
	defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU_ALL)
	dev_assign_dma_coherent(dev, false);
#endif
}

/* As firmware says it of a bus: memory above @limit is out of the device's reach. */
void cohbuf_rs_test_device_limit(struct device *dev, u64 limit)
{
	dev->bus_dma_limit = limit;
}

/* What a driver says of the segments that its device takes. */
int cohbuf_rs_test_device_segments(struct device *dev, unsigned int max,
				   unsigned long boundary)
{
	if (!dev->dma_parms)
		dev->dma_parms = devm_kzalloc(dev, sizeof(*dev->dma_parms), GFP_KERNEL);
	if (!dev->dma_parms)
		return -ENOMEM;
	dma_set_max_seg_size(dev, max);
	dma_set_seg_boundary(dev, boundary);
	return 0;
}
