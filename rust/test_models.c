// SPDX-License-Identifier: GPL-2.0
/*
 * Model devices: how they are set up, and how they access memory. Not part of
 * cohbuf.ko.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu-dma.h>
#include <linux/mm.h>

#include "helpers.h"
#include "test_models.h"

/* So that nothing is bounced, in a boot with swiotlb=force either. */
static void set_never_bounced(struct device *dev)
{
#ifdef CONFIG_SWIOTLB
	dev->dma_io_tlb_mem = NULL;
#endif
}

/*
 * Makes a device one of the models, before anybody maps anything for it.
 *
 * -EOPNOTSUPP: this kernel has no dma_map_ops, or nothing drives the cache model
 * for direct mappings. -EINVAL: no such kind. -EIO: no DMA with a mask of 64 bits.
 */
int cohbuf_rs_model_setup(struct device *dev, u32 kind)
{
	bool coherent = false;
	int ret = 0;

	switch (kind) {
	case MODEL_BOUNCE:
		coherent = true;
		ret = model_set_ops(dev, kind);
		break;
	case MODEL_CACHE:
	case MODEL_CACHE_MERGED:
		ret = model_set_ops(dev, kind);
		break;
	case MODEL_DIRECT:
		if (IS_ENABLED(CONFIG_ARM64) && !model_has_probes())
			return -EOPNOTSUPP;
		set_never_bounced(dev);
		break;
	case MODEL_SNOOP:
		coherent = true;
		set_never_bounced(dev);
		break;
	case MODEL_BOUNCED:
		coherent = true;
		break;
	default:
		return -EINVAL;
	}
	if (ret)
		return ret;
	/* Last, as it looks at the ops. */
	return cohbuf_rs_test_device_setup_dma(dev, DMA_BIT_MASK(64), coherent);
}

/* The memory as the CPU sees it, or the DRAM behind it where the device does not snoop. */
static int access_direct(struct device *dev, dma_addr_t addr, void *buf, size_t len,
			 bool write)
{
	phys_addr_t phys = dma_to_phys(dev, addr);

	while (len) {
		size_t part = min_t(size_t, len, PAGE_SIZE - offset_in_page(phys));

		if (!pfn_valid(PHYS_PFN(phys)))
			return -ENXIO;
		if (dev_is_dma_coherent(dev) || !model_access_dram(phys, buf, part, write)) {
			if (write)
				memcpy(phys_to_virt(phys), buf, part);
			else
				memcpy(buf, phys_to_virt(phys), part);
		}
		phys += part;
		buf += part;
		len -= part;
	}
	return 0;
}

/*
 * Lets a device read or write what is mapped for it at @addr.
 *
 * -ENXIO: outside of the mapping, or nothing is mapped there. -EACCES: against the
 * direction of the mapping. -EOPNOTSUPP: not one of the models.
 */
int cohbuf_rs_model_access(struct device *dev, dma_addr_t addr, void *buf, size_t len,
			   bool write)
{
	if (model_has_ops(dev))
		return model_access_mapping(addr, buf, len, write);
	if (!get_dma_ops(dev) && !use_dma_iommu(dev))
		return access_direct(dev, addr, buf, len, write);
	return -EOPNOTSUPP;
}
