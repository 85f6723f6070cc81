// SPDX-License-Identifier: GPL-2.0
/*
 * The dma_map_ops of model devices: of the bounce model, and of the cache model
 * with and without merged segments. Not part of cohbuf.ko.
 *
 * Devices see synthetic addresses: the number of the mapping above MAPPING_SHIFT,
 * the offset in it below.
 */
#include <linux/dma-map-ops.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/xarray.h>

#include "helpers.h"
#include "test_models.h"

#define MAPPING_SHIFT	40

struct model_ops {
	const struct dma_map_ops ops;
	bool bounce;	/* else the cache model */
};

/* A device that takes one segment of any length. Outlives all devices, as the ops. */
static struct device_dma_parameters merged_parameters = { .max_segment_size = UINT_MAX };

/* A piece of memory that is contiguous for the CPU. */
struct model_piece {
	phys_addr_t phys;
	size_t len;
};

struct model_mapping {
	u32 id;
	enum dma_data_direction dir;
	size_t size;
	void *copy;	/* of the bounce model */
	unsigned int count;
	struct model_piece pieces[] __counted_by(count);
};

static DEFINE_XARRAY_ALLOC1(mappings);

static const struct model_ops *model_ops(struct device *dev)
{
	return container_of(get_dma_ops(dev), struct model_ops, ops);
}

/*
 * The mapping that @addr is of, and the offset in it. Whoever has it mapped does
 * not unmap it meanwhile: that is a rule of the DMA API.
 */
static struct model_mapping *find_mapping(dma_addr_t addr, size_t *offset)
{
	*offset = addr & (BIT_ULL(MAPPING_SHIFT) - 1);
	return xa_load(&mappings, addr >> MAPPING_SHIFT);
}

static dma_addr_t mapping_addr(const struct model_mapping *mapping)
{
	return (dma_addr_t)mapping->id << MAPPING_SHIFT;
}

static void free_mapping(struct model_mapping *mapping)
{
	vfree(mapping->copy);
	kvfree(mapping);
}

typedef void (part_fn)(struct model_mapping *mapping, size_t offset, phys_addr_t phys,
		       size_t len, void *data);

/*
 * Calls @f for each part of the range that is contiguous for the CPU: behind one
 * DMA segment there may be many.
 */
static void walk_parts(struct model_mapping *mapping, size_t offset, size_t len,
		       part_fn *f, void *data)
{
	size_t start = 0;
	unsigned int i;

	for (i = 0; i < mapping->count && len; i++) {
		const struct model_piece *piece = &mapping->pieces[i];
		size_t end = start + piece->len;

		if (offset < end) {
			size_t part = min(len, end - offset);

			f(mapping, offset, piece->phys + (offset - start), part, data);
			offset += part;
			len -= part;
		}
		start = end;
	}
}

static void clean_part(struct model_mapping *mapping, size_t offset, phys_addr_t phys,
		       size_t len, void *data)
{
	model_clean(phys, len);
}

static void invalidate_part(struct model_mapping *mapping, size_t offset,
			    phys_addr_t phys, size_t len, void *data)
{
	model_invalidate(phys, len);
}

static void to_bounce_part(struct model_mapping *mapping, size_t offset,
			   phys_addr_t phys, size_t len, void *data)
{
	memcpy(mapping->copy + offset, phys_to_virt(phys), len);
	model_count(MODEL_TO_BOUNCE_BYTES, len);
	model_count(MODEL_TO_BOUNCE_CALLS, 1);
}

static void from_bounce_part(struct model_mapping *mapping, size_t offset,
			     phys_addr_t phys, size_t len, void *data)
{
	memcpy(phys_to_virt(phys), mapping->copy + offset, len);
	model_count(MODEL_FROM_BOUNCE_BYTES, len);
	model_count(MODEL_FROM_BOUNCE_CALLS, 1);
}

/* What the device wrote gets to the CPU. */
static void for_cpu(struct device *dev, struct model_mapping *mapping, size_t offset,
		    size_t len, enum dma_data_direction dir)
{
	if (dir != DMA_TO_DEVICE)
		walk_parts(mapping, offset, len, model_ops(dev)->bounce ?
			   from_bounce_part : invalidate_part, NULL);
}

/* What the CPU wrote gets to the device. arm64 cleans in every direction. */
static void for_device(struct device *dev, struct model_mapping *mapping, size_t offset,
		       size_t len, enum dma_data_direction dir)
{
	if (!model_ops(dev)->bounce)
		walk_parts(mapping, offset, len, clean_part, NULL);
	else if (dir != DMA_FROM_DEVICE)
		walk_parts(mapping, offset, len, to_bounce_part, NULL);
}

/* Maps @mapping, of which the pieces are set, or returns an errno. */
static int start_mapping(struct device *dev, struct model_mapping *mapping,
			 enum dma_data_direction dir, unsigned long attrs)
{
	unsigned int i;
	int ret;

	mapping->dir = dir;
	for (i = 0; i < mapping->count; i++) {
		const struct model_piece *piece = &mapping->pieces[i];

		if (!piece->len || !pfn_valid(PHYS_PFN(piece->phys)))
			return -EINVAL;
		mapping->size += piece->len;
	}
	/* A DMA segment is no longer than that. */
	if (mapping->size > UINT_MAX)
		return -EINVAL;

	/* Whoever leaks a mapping keeps the ops. */
	__module_get(THIS_MODULE);
	model_get();
	if (model_ops(dev)->bounce) {
		ret = -ENOMEM;
		mapping->copy = vmalloc(mapping->size);
		if (!mapping->copy)
			goto err;
	} else {
		for (i = 0; i < mapping->count; i++) {
			ret = model_track(mapping->pieces[i].phys, mapping->pieces[i].len);
			if (ret)
				goto err;
		}
	}
	ret = xa_alloc(&mappings, &mapping->id, mapping, XA_LIMIT(1, SZ_4M), GFP_KERNEL);
	if (ret) {
		ret = -ENOMEM;
		goto err;
	}

	/* swiotlb copies in every direction, and whatever the attributes are. */
	if (model_ops(dev)->bounce)
		walk_parts(mapping, 0, mapping->size, to_bounce_part, NULL);
	else if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		for_device(dev, mapping, 0, mapping->size, dir);
	return 0;
err:
	model_put();
	module_put(THIS_MODULE);
	return ret;
}

static void end_mapping(struct device *dev, dma_addr_t addr, enum dma_data_direction dir,
			unsigned long attrs)
{
	size_t offset;
	struct model_mapping *mapping = find_mapping(addr, &offset);

	if (WARN_ON_ONCE(!mapping || offset))
		return;
	if (!(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		for_cpu(dev, mapping, 0, mapping->size, dir);
	xa_erase(&mappings, mapping->id);
	free_mapping(mapping);
	model_put();
	module_put(THIS_MODULE);
}

static struct model_mapping *alloc_mapping(unsigned int count)
{
	struct model_mapping *mapping;

	mapping = kvzalloc(struct_size(mapping, pieces, count), GFP_KERNEL);
	if (mapping)
		mapping->count = count;
	return mapping;
}

/*
 * Unlike what the DMA API allows, mapping and unmapping may sleep here.
 *
 * -EINVAL: no entries, an empty one, one that is no memory, or too large.
 * -ENOMEM.
 */
static int model_map_sg(struct device *dev, struct scatterlist *sgl, int nents,
			enum dma_data_direction dir, unsigned long attrs)
{
	bool merged = dev->dma_parms == &merged_parameters;
	struct model_mapping *mapping;
	struct scatterlist *sg;
	size_t offset = 0;
	int i, ret;

	might_sleep();
	if (nents < 1)
		return -EINVAL;
	mapping = alloc_mapping(nents);
	if (!mapping)
		return -ENOMEM;
	for_each_sg(sgl, sg, nents, i) {
		mapping->pieces[i].phys = sg_phys(sg);
		mapping->pieces[i].len = sg->length;
	}
	ret = start_mapping(dev, mapping, dir, attrs);
	if (ret) {
		free_mapping(mapping);
		return ret;
	}

	for_each_sg(sgl, sg, nents, i) {
		if (merged && i) {
			sg_dma_address(sg) = DMA_MAPPING_ERROR;
			sg_dma_len(sg) = 0;
			continue;
		}
		sg_dma_address(sg) = mapping_addr(mapping) + offset;
		sg_dma_len(sg) = merged ? mapping->size : sg->length;
		offset += sg->length;
	}
	return merged ? 1 : nents;
}

static void model_unmap_sg(struct device *dev, struct scatterlist *sgl, int nents,
			   enum dma_data_direction dir, unsigned long attrs)
{
	end_mapping(dev, sg_dma_address(sgl), dir, attrs);
}

static dma_addr_t model_map_phys(struct device *dev, phys_addr_t phys, size_t size,
				 enum dma_data_direction dir, unsigned long attrs)
{
	struct model_mapping *mapping;

	might_sleep();
	if (attrs & DMA_ATTR_MMIO)
		return DMA_MAPPING_ERROR;
	mapping = alloc_mapping(1);
	if (!mapping)
		return DMA_MAPPING_ERROR;
	mapping->pieces[0].phys = phys;
	mapping->pieces[0].len = size;
	if (start_mapping(dev, mapping, dir, attrs)) {
		free_mapping(mapping);
		return DMA_MAPPING_ERROR;
	}
	return mapping_addr(mapping);
}

static void model_unmap_phys(struct device *dev, dma_addr_t addr, size_t size,
			     enum dma_data_direction dir, unsigned long attrs)
{
	end_mapping(dev, addr, dir, attrs);
}

/*
 * A sync of what is not mapped, or not like that, is the caller's bug. The splat
 * fails the test.
 */
static struct model_mapping *synced_mapping(dma_addr_t addr, size_t size, size_t *offset)
{
	struct model_mapping *mapping = find_mapping(addr, offset);

	if (WARN_ON_ONCE(!mapping || *offset > mapping->size ||
			 size > mapping->size - *offset))
		return NULL;
	return mapping;
}

static void model_sync_single_for_cpu(struct device *dev, dma_addr_t addr, size_t size,
				      enum dma_data_direction dir)
{
	size_t offset;
	struct model_mapping *mapping = synced_mapping(addr, size, &offset);

	if (mapping)
		for_cpu(dev, mapping, offset, size, dir);
}

static void model_sync_single_for_device(struct device *dev, dma_addr_t addr, size_t size,
					 enum dma_data_direction dir)
{
	size_t offset;
	struct model_mapping *mapping = synced_mapping(addr, size, &offset);

	if (mapping)
		for_device(dev, mapping, offset, size, dir);
}

/* By the pages that were mapped: the table has to be the same. */
static struct model_mapping *synced_table(struct scatterlist *sgl, int nents)
{
	size_t offset;
	struct model_mapping *mapping = synced_mapping(sg_dma_address(sgl), 0, &offset);

	if (!mapping || WARN_ON_ONCE(offset || nents != mapping->count))
		return NULL;
	return mapping;
}

static void model_sync_sg_for_cpu(struct device *dev, struct scatterlist *sgl, int nents,
				  enum dma_data_direction dir)
{
	struct model_mapping *mapping = synced_table(sgl, nents);

	if (mapping)
		for_cpu(dev, mapping, 0, mapping->size, dir);
}

static void model_sync_sg_for_device(struct device *dev, struct scatterlist *sgl, int nents,
				     enum dma_data_direction dir)
{
	struct model_mapping *mapping = synced_table(sgl, nents);

	if (mapping)
		for_device(dev, mapping, 0, mapping->size, dir);
}

static int model_dma_supported(struct device *dev, u64 mask)
{
	return mask == DMA_BIT_MASK(64);
}

static size_t model_max_mapping_size(struct device *dev)
{
	return SZ_1G;
}

#define MODEL_OPS {						\
	.map_phys = model_map_phys,				\
	.unmap_phys = model_unmap_phys,				\
	.map_sg = model_map_sg,					\
	.unmap_sg = model_unmap_sg,				\
	.sync_single_for_cpu = model_sync_single_for_cpu,	\
	.sync_single_for_device = model_sync_single_for_device,	\
	.sync_sg_for_cpu = model_sync_sg_for_cpu,		\
	.sync_sg_for_device = model_sync_sg_for_device,		\
	.dma_supported = model_dma_supported,			\
	.max_mapping_size = model_max_mapping_size,		\
}

static const struct model_ops bounce_model = { .ops = MODEL_OPS, .bounce = true };
static const struct model_ops cache_model = { .ops = MODEL_OPS };

/* Before the mask is set. -EOPNOTSUPP: this kernel has no dma_map_ops. */
int model_set_ops(struct device *dev, enum model_kind kind)
{
	const struct model_ops *ops = kind == MODEL_BOUNCE ? &bounce_model : &cache_model;

	if (!IS_ENABLED(CONFIG_ARCH_HAS_DMA_OPS))
		return -EOPNOTSUPP;
	set_dma_ops(dev, &ops->ops);
	if (kind == MODEL_CACHE_MERGED)
		dev->dma_parms = &merged_parameters;
	return 0;
}

bool model_has_ops(struct device *dev)
{
	const struct dma_map_ops *ops = get_dma_ops(dev);

	return ops == &bounce_model.ops || ops == &cache_model.ops;
}

struct model_access {
	void *next;
	bool write;
};

static void access_part(struct model_mapping *mapping, size_t offset, phys_addr_t phys,
			size_t len, void *data)
{
	struct model_access *access = data;

	/* The pages stay tracked for as long as they are mapped. */
	if (mapping->copy && access->write)
		memcpy(mapping->copy + offset, access->next, len);
	else if (mapping->copy)
		memcpy(access->next, mapping->copy + offset, len);
	else
		WARN_ON(!model_access_dram(phys, access->next, len, access->write));
	access->next += len;
}

/*
 * -ENXIO: nothing is mapped at @addr, or less than @len. -EACCES: against the
 * direction of the mapping.
 */
int model_access_mapping(dma_addr_t addr, void *buf, size_t len, bool write)
{
	struct model_access access = { .next = buf, .write = write };
	size_t offset;
	struct model_mapping *mapping = find_mapping(addr, &offset);

	if (!mapping || offset > mapping->size || len > mapping->size - offset)
		return -ENXIO;
	if (mapping->dir == (write ? DMA_TO_DEVICE : DMA_FROM_DEVICE))
		return -EACCES;

	walk_parts(mapping, offset, len, access_part, &access);
	return 0;
}
