// SPDX-License-Identifier: GPL-2.0
/*
 * A model of a CPU cache that devices do not snoop, for emulators, which have
 * none. Not part of cohbuf.ko.
 *
 * A tracked page has a "DRAM" of its own, which is what such devices access; the
 * page itself is what the CPU sees through its cache. Besides, the model keeps
 * what the cache believes memory to hold (the fill). A line is dirty where the
 * page differs from the fill, or where nothing was ever filled: that is how the
 * zeros of a new page are, while its DRAM has what somebody left there.
 *
 * Only where it runs in an emulator does the page stay as the model leaves it:
 * a real cache would drop what the model writes just before an invalidate.
 *
 * A tracked page is forgotten when it is freed, by kprobes: pages of a chunk can have
 * no reference of their own. Those of a file, which udmabuf has, can, and have one.
 */
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>

#include "helpers.h"
#include "test_models.h"

#define LINE		64
#define LINES		(PAGE_SIZE / LINE)
#define OLD_CONTENT	0xa5

struct model_page {
	unsigned long pfn;
	/* It was freed since. Under model_lock. */
	bool gone;
	bool has_reference;
	u8 *cached;
	u8 *dram;
	u8 *fill;
	DECLARE_BITMAP(filled, LINES);
};

/* By page frame number. Entries are erased first and freed after forget_page(). */
static DEFINE_XARRAY(tracked);

/*
 * Guards what a tracked page holds. Raw, and with interrupts off, as it is taken
 * in kprobes; held for a page at a time.
 */
static DEFINE_RAW_SPINLOCK(model_lock);

/* Who tracks and who forgets, one at a time. */
static DEFINE_MUTEX(tracking);

/* Live mappings of devices with dma_map_ops of the models. */
static atomic_t users = ATOMIC_INIT(0);

static atomic64_t counts[MODEL_COUNTS];

void model_count(enum model_count which, u64 by)
{
	atomic64_add(by, &counts[which]);
}

/* The first @n of them. */
void cohbuf_rs_model_counts(u64 *to, size_t n)
{
	size_t i;

	for (i = 0; i < min_t(size_t, n, MODEL_COUNTS); i++)
		to[i] = atomic64_read(&counts[i]);
}

void cohbuf_rs_model_zero_counts(void)
{
	int i;

	for (i = 0; i < MODEL_COUNTS; i++)
		atomic64_set(&counts[i], 0);
}

static bool is_dirty(const struct model_page *page, unsigned int line)
{
	size_t at = line * LINE;

	return !test_bit(line, page->filled) ||
	       memcmp(page->cached + at, page->fill + at, LINE);
}

/* By way of the fill, as the CPU may write the page meanwhile. */
static void clean_line(struct model_page *page, unsigned int line)
{
	size_t at = line * LINE;

	if (!is_dirty(page, line))
		return;
	memcpy(page->fill + at, page->cached + at, LINE);
	memcpy(page->dram + at, page->fill + at, LINE);
	__set_bit(line, page->filled);
}

static void drop_line(struct model_page *page, unsigned int line)
{
	size_t at = line * LINE;

	memcpy(page->fill + at, page->dram + at, LINE);
	memcpy(page->cached + at, page->fill + at, LINE);
	__set_bit(line, page->filled);
}

static void clean_range(struct model_page *page, size_t from, size_t to)
{
	unsigned int line;

	for (line = from / LINE; line * LINE < to; line++)
		clean_line(page, line);
}

/* What the range has of a line only in part is not lost, as on arm64. */
static void invalidate_range(struct model_page *page, size_t from, size_t to)
{
	unsigned int line;

	for (line = from / LINE; line * LINE < to; line++) {
		if (line * LINE < from || (line + 1) * LINE > to)
			clean_line(page, line);
		drop_line(page, line);
	}
}

/*
 * Where a kprobe is a breakpoint, lockdep takes its handler for one of an NMI, in
 * which a lock may be tried only. Nobody probes what is called with the lock held.
 */
static unsigned long lock_model(void)
{
	unsigned long flags;

	while (!raw_spin_trylock_irqsave(&model_lock, flags))
		cpu_relax();
	return flags;
}

static void unlock_model(unsigned long flags)
{
	raw_spin_unlock_irqrestore(&model_lock, flags);
}

/* With model_lock. */
static struct model_page *find_page(unsigned long pfn)
{
	struct model_page *page = xa_load(&tracked, pfn);

	return page && !page->gone ? page : NULL;
}

/* Returns how many bytes of the range are tracked. */
static u64 maintain(phys_addr_t phys, size_t len,
		    void (*range)(struct model_page *page, size_t from, size_t to))
{
	u64 bytes = 0;

	while (len) {
		size_t from = offset_in_page(phys);
		size_t part = min_t(size_t, len, PAGE_SIZE - from);
		unsigned long flags = lock_model();
		struct model_page *page = find_page(PHYS_PFN(phys));

		if (page) {
			range(page, from, from + part);
			bytes += part;
		}
		unlock_model(flags);
		phys += part;
		len -= part;
	}
	return bytes;
}

void model_clean(phys_addr_t phys, size_t len)
{
	u64 bytes = maintain(phys, len, clean_range);

	if (bytes) {
		model_count(MODEL_CLEAN_BYTES, bytes);
		model_count(MODEL_CLEAN_CALLS, 1);
	}
}

void model_invalidate(phys_addr_t phys, size_t len)
{
	u64 bytes = maintain(phys, len, invalidate_range);

	if (bytes) {
		model_count(MODEL_INVALIDATE_BYTES, bytes);
		model_count(MODEL_INVALIDATE_CALLS, 1);
	}
}

/* All tracked pages, without a count: what a cache may do at any time. */
static void maintain_all(void (*range)(struct model_page *page, size_t from, size_t to))
{
	struct model_page *page;
	unsigned long pfn;

	/* Nobody forgets a page meanwhile. */
	guard(mutex)(&tracking);
	xa_for_each(&tracked, pfn, page) {
		guard(raw_spinlock_irqsave)(&model_lock);
		if (!page->gone)
			range(page, 0, PAGE_SIZE);
	}
}

void cohbuf_rs_model_evict(void)
{
	maintain_all(clean_range);
}

static void refill_range(struct model_page *page, size_t from, size_t to)
{
	unsigned int line;

	for (line = from / LINE; line * LINE < to; line++)
		if (!is_dirty(page, line))
			drop_line(page, line);
}

/* The CPU must not write meanwhile: it is not the model that orders that. */
void cohbuf_rs_model_drop_clean(void)
{
	maintain_all(refill_range);
}

/* A device that does not snoop. False where a page is not tracked. */
bool model_access_dram(phys_addr_t phys, void *buf, size_t len, bool write)
{
	while (len) {
		size_t at = offset_in_page(phys);
		size_t part = min_t(size_t, len, PAGE_SIZE - at);

		scoped_guard(raw_spinlock_irqsave, &model_lock) {
			struct model_page *page = find_page(PHYS_PFN(phys));

			if (!page)
				return false;
			if (write)
				memcpy(page->dram + at, buf, part);
			else
				memcpy(buf, page->dram + at, part);
		}
		phys += part;
		buf += part;
		len -= part;
	}
	return true;
}

static void free_page_model(struct model_page *page)
{
	free_page((unsigned long)page->dram);
	free_page((unsigned long)page->fill);
	if (page->has_reference)
		put_page(pfn_to_page(page->pfn));
	kfree(page);
}

static void forget_page(struct model_page *page)
{
	xa_erase(&tracked, page->pfn);
	/* Whoever found it before that has done with it after this. */
	raw_spin_lock_irq(&model_lock);
	raw_spin_unlock_irq(&model_lock);
	free_page_model(page);
}

static int track_page(unsigned long pfn)
{
	struct model_page *page = xa_load(&tracked, pfn);
	int ret;

	if (page && !READ_ONCE(page->gone))
		return 0;
	if (page)
		forget_page(page);
	page = kzalloc_obj(*page);
	if (!page)
		return -ENOMEM;
	page->pfn = pfn;
	if (folio_mapping(page_folio(pfn_to_page(pfn)))) {
		get_page(pfn_to_page(pfn));
		page->has_reference = true;
	}
	page->cached = page_address(pfn_to_page(pfn));
	page->dram = (u8 *)__get_free_page(GFP_KERNEL);
	page->fill = (u8 *)__get_free_page(GFP_KERNEL);
	ret = -ENOMEM;
	if (!page->dram || !page->fill)
		goto err;
	memset(page->dram, OLD_CONTENT, PAGE_SIZE);
	ret = xa_err(xa_store(&tracked, pfn, page, GFP_KERNEL));
	if (ret)
		goto err;
	return 0;
err:
	free_page_model(page);
	return ret;
}

/*
 * Tracks every page of the range; one that is tracked stays as it is. -EINVAL
 * where something is no memory, -ENOMEM; the pages before that stay tracked,
 * which changes nothing for anybody.
 */
int model_track(phys_addr_t phys, size_t len)
{
	unsigned long pfn, end = PHYS_PFN(phys + len - 1);
	int ret;

	guard(mutex)(&tracking);
	for (pfn = PHYS_PFN(phys); pfn <= end; pfn++) {
		if (!pfn_valid(pfn))
			return -EINVAL;
		ret = track_page(pfn);
		if (ret)
			return ret;
	}
	return 0;
}

int cohbuf_rs_model_track_page(struct page *page)
{
	return model_track(page_to_phys(page), PAGE_SIZE);
}

/* For a mapping, before it tracks its pages and until it is gone. */
void model_get(void)
{
	guard(mutex)(&tracking);
	atomic_inc(&users);
}

void model_put(void)
{
	atomic_dec(&users);
}

/* Forgets all pages and what was counted. -EBUSY where a mapping is live. */
int cohbuf_rs_model_reset(void)
{
	struct model_page *page;
	unsigned long pfn;

	guard(mutex)(&tracking);
	if (atomic_read(&users))
		return -EBUSY;

	xa_for_each(&tracked, pfn, page)
		forget_page(page);
	cohbuf_rs_model_zero_counts();
	return 0;
}

#ifdef CONFIG_KPROBES
/*
 * The cache maintenance of the architecture, which an emulator does nothing for,
 * is done to the model. Handlers may be called with interrupts on.
 */
#ifdef CONFIG_ARM64
static int on_sync_for_device(struct kprobe *probe, struct pt_regs *regs)
{
	model_clean(regs->regs[0], regs->regs[1]);
	return 0;
}

static int on_sync_for_cpu(struct kprobe *probe, struct pt_regs *regs)
{
	if (regs->regs[2] != DMA_TO_DEVICE)
		model_invalidate(regs->regs[0], regs->regs[1]);
	return 0;
}

/* By virtual address. */
static int on_invalidate_pmem(struct kprobe *probe, struct pt_regs *regs)
{
	phys_addr_t phys = virt_to_phys((void *)regs->regs[0]);

	model_count(MODEL_DROP_BYTES, maintain(phys, regs->regs[1], invalidate_range));
	return 0;
}
#endif

/* By virtual address, of pages that need not be tracked: all are counted. */
static int on_wb_cache_pmem(struct kprobe *probe, struct pt_regs *regs)
{
	size_t len = regs_get_kernel_argument(regs, 1);

	maintain(virt_to_phys((void *)regs_get_kernel_argument(regs, 0)), len, clean_range);
	model_count(MODEL_WB_BYTES, len);
	return 0;
}

/* Whoever has a page next shall not meet what the model kept of it. */
static void on_free_of(struct page *first, unsigned long count)
{
	unsigned long at, from = page_to_pfn(first), flags;
	struct model_page *page;

	if (xa_empty(&tracked))
		return;
	flags = lock_model();
	xa_for_each_range(&tracked, at, page, from, from + count - 1)
		WRITE_ONCE(page->gone, true);
	unlock_model(flags);
}

static int on_free_pages(struct kprobe *probe, struct pt_regs *regs)
{
	struct page *page = (struct page *)regs_get_kernel_argument(regs, 0);
	/* An argument has no more than these bits. */
	unsigned int order = regs_get_kernel_argument(regs, 1);

	if (page_ref_count(page) == 1)
		on_free_of(page, 1UL << order);
	else if (order && !PageHead(page))
		/* Somebody else has the first still, and cannot have the others. */
		on_free_of(page + 1, (1UL << order) - 1);
	return 0;
}

#ifdef CONFIG_CONTIG_ALLOC
static int on_free_contig_range(struct kprobe *probe, struct pt_regs *regs)
{
	on_free_of(pfn_to_page(regs_get_kernel_argument(regs, 0)),
		   regs_get_kernel_argument(regs, 1));
	return 0;
}
#endif

static struct kprobe probes[] = {
	{
		.symbol_name = "__free_pages",
		.pre_handler = on_free_pages,
	},
#ifdef CONFIG_CONTIG_ALLOC
	{
		.symbol_name = "free_contig_range",
		.pre_handler = on_free_contig_range,
	},
#endif
#ifdef CONFIG_ARM64
	{
		.symbol_name = "arch_sync_dma_for_device",
		.pre_handler = on_sync_for_device,
	},
	{
		.symbol_name = "arch_sync_dma_for_cpu",
		.pre_handler = on_sync_for_cpu,
	},
	{
		.symbol_name = "arch_invalidate_pmem",
		.pre_handler = on_invalidate_pmem,
	},
#endif
	{
		.symbol_name = "arch_wb_cache_pmem",
		.pre_handler = on_wb_cache_pmem,
	},
};
#endif

static bool probed;
static bool started;

/* Whether what the architecture maintains for devices is maintained in the model too. */
bool model_has_probes(void)
{
	return READ_ONCE(probed);
}

/*
 * -EBUSY where it was started before, -EOPNOTSUPP where the kernel has no kprobes:
 * nobody would say when a page is freed. What the architecture has nothing to
 * probe for runs without.
 */
int cohbuf_rs_model_start(void)
{
	guard(mutex)(&tracking);
	if (started)
		return -EBUSY;
#ifdef CONFIG_KPROBES
	struct kprobe *list[ARRAY_SIZE(probes)];
	int i, ret;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		/* What an earlier registration left in it. */
		probes[i].addr = NULL;
		probes[i].flags = 0;
		list[i] = &probes[i];
	}
	ret = register_kprobes(list, ARRAY_SIZE(list));
	if (ret)
		return ret;
	WRITE_ONCE(probed, IS_ENABLED(CONFIG_ARM64));
	started = true;
	return 0;
#else
	return -EOPNOTSUPP;
#endif
}

/* No mapping may be live. */
void cohbuf_rs_model_stop(void)
{
#ifdef CONFIG_KPROBES
	struct kprobe *list[ARRAY_SIZE(probes)];
	int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		list[i] = &probes[i];
	WRITE_ONCE(probed, false);
	unregister_kprobes(list, ARRAY_SIZE(list));
#endif
	WARN_ON(cohbuf_rs_model_reset());
	scoped_guard(mutex, &tracking)
		started = false;
}
