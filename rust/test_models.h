/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the C files of the model devices have between them. Modules of the tests
 * only; what Rust calls is in helpers.h.
 */
#ifndef _COHBUF_RUST_TEST_MODELS_H
#define _COHBUF_RUST_TEST_MODELS_H

#include <linux/types.h>

struct device;

/* As enum cohbuf_test_device of tests/importer/cohbuf_test.h has them. */
enum model_kind {
	MODEL_BOUNCE = 3,
	MODEL_CACHE = 4,
	MODEL_CACHE_MERGED = 5,
	MODEL_DIRECT = 6,
	MODEL_SNOOP = 7,
	MODEL_BOUNCED = 8,
};

/* What is counted, in the order in which test_models.rs has it. */
enum model_count {
	MODEL_CLEAN_BYTES,
	MODEL_CLEAN_CALLS,
	MODEL_INVALIDATE_BYTES,
	MODEL_INVALIDATE_CALLS,
	MODEL_TO_BOUNCE_BYTES,
	MODEL_TO_BOUNCE_CALLS,
	MODEL_FROM_BOUNCE_BYTES,
	MODEL_FROM_BOUNCE_CALLS,
	MODEL_WB_BYTES,
	MODEL_DROP_BYTES,
	MODEL_COUNTS
};

void model_count(enum model_count which, u64 by);

/* test_cache_model.c */
int model_track(phys_addr_t phys, size_t len);
void model_clean(phys_addr_t phys, size_t len);
void model_invalidate(phys_addr_t phys, size_t len);
bool model_access_dram(phys_addr_t phys, void *buf, size_t len, bool write);
bool model_has_probes(void);
void model_get(void);
void model_put(void);

/* test_dma_ops.c */
int model_set_ops(struct device *dev, enum model_kind kind);
bool model_has_ops(struct device *dev);
int model_access_mapping(dma_addr_t addr, void *buf, size_t len, bool write);

#endif /* _COHBUF_RUST_TEST_MODELS_H */
