// SPDX-License-Identifier: GPL-2.0
/*
 * C side of the crate `dma_buf`, see helpers.h.
 */
#include <linux/cache.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/libnvdimm.h>
#include <linux/mmap_lock.h>
#include <linux/pgtable.h>
#include <linux/rbtree.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/swiotlb.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#ifdef CONFIG_X86
#include <asm/set_memory.h>
#endif

#include "helpers.h"

bool cohbuf_rs_dev_is_dma_coherent(struct device *dev)
{
	return dev_is_dma_coherent(dev);
}

/* Mapped by kernel/dma/direct.c: neither an IOMMU nor ops of its own. */
static bool is_direct(struct device *dev)
{
	return !use_dma_iommu(dev) && !get_dma_ops(dev);
}

/*
 * The question that dma_direct_map_phys() asks, as far as a module can. False
 * does not promise that nothing will be bounced: cohbuf_rs_sg_is_bounced() tells
 * what was done.
 */
bool cohbuf_rs_would_bounce(struct device *dev, struct page *page, size_t len)
{
	dma_addr_t last;

	if (!is_direct(dev) || !dev->dma_mask)
		return false;
	if (is_swiotlb_force_bounce(dev))
		return true;

	last = phys_to_dma(dev, page_to_phys(page)) + len - 1;
	return last > min_not_zero(*dev->dma_mask, dev->bus_dma_limit);
}

/*
 * Whether all that dma_direct_map_phys() does for the device, beside cache
 * maintenance, is to say where it finds memory that cohbuf_rs_reaches(): to every
 * address it adds the same.
 */
bool cohbuf_rs_is_plain(struct device *dev)
{
	return is_direct(dev) && dev->dma_mask && !dev->dma_range_map &&
	       !is_swiotlb_force_bounce(dev);
}

/* Of a buffer that has nothing behind @last. */
bool cohbuf_rs_reaches(struct device *dev, phys_addr_t last)
{
	return cohbuf_rs_is_plain(dev) &&
	       phys_to_dma(dev, last) <= min_not_zero(*dev->dma_mask, dev->bus_dma_limit);
}

dma_addr_t cohbuf_rs_phys_to_dma(struct device *dev, phys_addr_t phys)
{
	return phys_to_dma(dev, phys);
}

/* What is mapped for a device without mask is nothing, and no error either. */
bool cohbuf_rs_has_dma_mask(struct device *dev)
{
	return dev->dma_mask;
}

/* swiotlb_find_pool(), part of which is not exported. */
static bool in_swiotlb(struct device *dev, phys_addr_t addr)
{
#ifdef CONFIG_SWIOTLB
	struct io_tlb_mem *mem = dev->dma_io_tlb_mem;
	struct io_tlb_pool *pool;

	if (!mem)
		return false;
	pool = &mem->defpool;
	if (addr >= pool->start && addr < pool->end)
		return true;
#ifdef CONFIG_SWIOTLB_DYNAMIC
	guard(rcu)();
	list_for_each_entry_rcu(pool, &mem->pools, node)
		if (addr >= pool->start && addr < pool->end)
			return true;
	list_for_each_entry_rcu(pool, &dev->dma_io_tlb_pools, node)
		if (addr >= pool->start && addr < pool->end)
			return true;
#endif
#endif
	return false;
}

/* Tells them apart; 0 where there are none. */
uintptr_t cohbuf_rs_own_dma_ops(struct device *dev)
{
	return use_dma_iommu(dev) ? 0 : (uintptr_t)get_dma_ops(dev);
}

bool cohbuf_rs_has_iommu(struct device *dev)
{
	return use_dma_iommu(dev);
}

/* False where no mapping of the device has been since its mask was set. */
bool cohbuf_rs_may_be_bounced(struct device *dev)
{
	return dma_dev_need_sync(dev);
}

/*
 * Whether a DMA address leads into a bounce buffer. By the address, as the flag
 * in an sg table says "may be", and importers may look at neither flags nor
 * pages. Nothing is known of a device with dma_map_ops of its own.
 */
bool cohbuf_rs_dma_addr_is_bounced(struct device *dev, dma_addr_t addr)
{
	struct iommu_domain *domain;

	if (is_direct(dev))
		return in_swiotlb(dev, dma_to_phys(dev, addr));
	if (!use_dma_iommu(dev))
		return false;

	domain = iommu_get_domain_for_dev(dev);
	return domain && in_swiotlb(dev, iommu_iova_to_phys(domain, addr));
}

size_t cohbuf_rs_max_segment(struct device *dev)
{
	return min_t(size_t, dma_get_max_seg_size(dev), dma_max_mapping_size(dev));
}

/* Where no segment may go across: a power of two, less 1. */
unsigned long cohbuf_rs_segment_boundary(struct device *dev)
{
	return dma_get_seg_boundary(dev);
}

void cohbuf_rs_notice_refused(struct device *dev, const char *exporter,
			      unsigned long ino, const char *why)
{
	dev_notice_ratelimited(dev, "refused by %s buffer %lu: %s\n", exporter, ino, why);
}

/* The names may have any bytes in them. Only the file says which buffer it is. */
void cohbuf_rs_notice_outside(struct dma_buf *dmabuf, const char *exporter, size_t offset,
			      bool write)
{
	char name[DMA_BUF_NAME_LEN] = "";
	char comm[TASK_COMM_LEN];
	int name_len, comm_len;

	spin_lock(&dmabuf->name_lock);
	if (dmabuf->name)
		strscpy(name, dmabuf->name);
	spin_unlock(&dmabuf->name_lock);
	get_task_comm(comm, current);
	name_len = strlen(name);
	comm_len = strlen(comm);

	pr_notice_ratelimited("%s buffer %lu \"%*pE\": %*pE[%d] %s at %#zx outside of its windows\n",
			      exporter, cohbuf_rs_inode_number(dmabuf), name_len, name, comm_len, comm,
			      task_pid_nr(current), write ? "writes" : "reads", offset);
}

void cohbuf_rs_get_dma_buf(struct dma_buf *dmabuf)
{
	get_dma_buf(dmabuf);
}

unsigned long cohbuf_rs_inode_number(struct dma_buf *dmabuf)
{
	return file_inode(dmabuf->file)->i_ino;
}

int cohbuf_rs_resv_lock_interruptible(struct dma_resv *resv)
{
	return dma_resv_lock_interruptible(resv, NULL);
}

void cohbuf_rs_resv_lock(struct dma_resv *resv)
{
	dma_resv_lock(resv, NULL);
}

void cohbuf_rs_resv_assert_held(struct dma_resv *resv)
{
	dma_resv_assert_held(resv);
}

/* For the fences of readers and writers, or, but for @all, for those of writers. */
long cohbuf_rs_resv_wait(struct dma_resv *resv, bool all, bool interruptible)
{
	return dma_resv_wait_timeout(resv, dma_resv_usage_rw(all), interruptible,
				     MAX_SCHEDULE_TIMEOUT);
}

bool cohbuf_rs_resv_signaled(struct dma_resv *resv, bool all)
{
	return dma_resv_test_signaled(resv, dma_resv_usage_rw(all));
}

bool cohbuf_rs_is_writable(struct dma_buf *dmabuf)
{
	return dmabuf->file->f_mode & FMODE_WRITE;
}

struct kmem_cache *cohbuf_rs_cache_create(const char *name, size_t size)
{
	return kmem_cache_create(name, size, 0, 0, NULL);
}

void *cohbuf_rs_cache_alloc(struct kmem_cache *cache)
{
	return kmem_cache_alloc(cache, GFP_KERNEL);
}

bool cohbuf_rs_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

/*
 * Without __GFP_COMP, as ttm_pool_alloc_page() has it: to make and to check a compound
 * page costs as much as all else for each of its pages. Nobody may take a reference to
 * one of them: mappings into user space are of PFNs, and importers must not look at pages.
 * __free_pages() would free the others beside it, and the memory cgroup be given back one.
 */
struct page *cohbuf_rs_alloc_pages(unsigned int order, bool best_effort)
{
	/* No highmem: the kernel accesses it by its own mapping. */
	gfp_t gfp = GFP_USER | __GFP_ZERO | __GFP_ACCOUNT | __GFP_NOWARN;

	/* The caller gets -ENOMEM: it is not worth the life of another task. */
	if (best_effort)
		gfp = (gfp | __GFP_NORETRY) & ~__GFP_RECLAIM;
	else
		gfp |= __GFP_RETRY_MAYFAIL;

	return alloc_pages(gfp, order);
}

/* Frees pages that were split: each is one of its own. */
static void free_split(struct page *page, unsigned long count)
{
#ifdef CONFIG_CONTIG_ALLOC
	/* The same, much faster. */
	if (count)
		free_contig_range(page_to_pfn(page), count);
#else
	while (count--)
		__free_page(page++);
#endif
}

#if defined(CONFIG_CONTIG_ALLOC) && defined(CONFIG_NET)
/*
 * Pages that count against RLIMIT_MEMLOCK of the user, as io_uring has it.
 * user_struct has the count with one of several options, of which CONFIG_NET is
 * the usual one.
 */
static struct user_struct *charge_user(unsigned long count)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	struct user_struct *user = current_user();
	long now = atomic_long_read(&user->locked_vm);

	if (capable(CAP_IPC_LOCK))
		limit = LONG_MAX;
	do {
		if (count > limit || now > limit - count)
			return NULL;
	} while (!atomic_long_try_cmpxchg(&user->locked_vm, &now, now + count));
	return get_uid(user);
}

static void uncharge_user(struct user_struct *user, unsigned long count)
{
	atomic_long_sub(count, &user->locked_vm);
	free_uid(user);
}

static struct page *alloc_large(unsigned long count, struct user_struct **user)
{
	/* It begins where such a number of pages does, that no boundary below is crossed. */
	unsigned long whole = ALIGN(count, SZ_2M >> PAGE_SHIFT);
	struct page *page;

	*user = charge_user(count);
	if (!*user)
		return NULL;
	page = alloc_contig_pages(whole, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN,
				  numa_mem_id(), NULL);
	if (!page) {
		uncharge_user(*user, count);
		return NULL;
	}
	free_split(page + count, whole - count);
	return page;
}
#else
static void uncharge_user(struct user_struct *user, unsigned long count)
{
}

static struct page *alloc_large(unsigned long count, struct user_struct **user)
{
	return NULL;
}
#endif

/* Above this, alloc_contig_pages() has the pages, which charges nobody. */
size_t cohbuf_rs_max_charged_contiguous(void)
{
	return PAGE_SIZE << MAX_PAGE_ORDER;
}

/*
 * Zeroed pages that are next to each other, each one of its own. @user: who was
 * charged, where it is not the memory cgroup.
 */
struct page *cohbuf_rs_alloc_contiguous(unsigned long count, struct user_struct **user)
{
	unsigned int order = get_order(count << PAGE_SHIFT);
	struct page *page;

	*user = NULL;
	if (order > MAX_PAGE_ORDER)
		return alloc_large(count, user);

	/* As cohbuf_rs_alloc_pages(), but there is no smaller order to fall back to. */
	page = alloc_pages(GFP_USER | __GFP_ZERO | __GFP_ACCOUNT | __GFP_NOWARN |
			   __GFP_RETRY_MAYFAIL, order);
	if (!page)
		return NULL;
	split_page(page, order);
	free_split(page + count, (1UL << order) - count);
	return page;
}

void cohbuf_rs_free_contiguous(struct page *page, unsigned long count,
			       struct user_struct *user)
{
	free_split(page, count);
	if (user)
		uncharge_user(user, count);
}

/*
 * What set_memory_wc() and its arm64 stand-in need. pat_enabled() aside, x86
 * falls back to uncached memory by itself, which is as good.
 */
bool cohbuf_rs_can_write_combine(void)
{
	return IS_ENABLED(CONFIG_X86) ||
	       (IS_ENABLED(CONFIG_ARM64) && IS_ENABLED(CONFIG_ARCH_HAS_PMEM_API));
}

bool cohbuf_rs_alias_stays_cached(void)
{
	return !IS_ENABLED(CONFIG_X86);
}

/*
 * Takes pages out of the CPU caches, and keeps them out. x86 changes the
 * kernel's own mapping as well, which flushes. arm64 has no such thing, and goes
 * the way of its dma_alloc_coherent(): clean to memory, then never write by the
 * cached mapping again (arch_dma_prep_coherent()). "pmem" has the one clean and
 * the one invalidate that modules can call; persistence is at or beyond the
 * point of coherency. The invalidate leaves no clean line behind that a read
 * could hit.
 */
int cohbuf_rs_write_combine(struct page *page, unsigned long count)
{
#ifdef CONFIG_X86
	return set_memory_wc((unsigned long)page_address(page), count);
#elif defined(CONFIG_ARM64) && defined(CONFIG_ARCH_HAS_PMEM_API)
	arch_wb_cache_pmem(page_address(page), count << PAGE_SHIFT);
	arch_invalidate_pmem(page_address(page), count << PAGE_SHIFT);
	return 0;
#else
	return -EOPNOTSUPP;
#endif
}

int cohbuf_rs_write_back(struct page *page, unsigned long count)
{
#ifdef CONFIG_X86
	return set_memory_wb((unsigned long)page_address(page), count);
#else
	return 0;
#endif
}

bool cohbuf_rs_can_clean(void)
{
	return IS_ENABLED(CONFIG_ARCH_HAS_PMEM_API);
}

/* Dirty lines go to memory, by no mapping of any device. */
void cohbuf_rs_clean(struct page *page, unsigned long count)
{
	arch_wb_cache_pmem(page_address(page), count << PAGE_SHIFT);
}

/* Lines go, dirty or not, by no mapping of any device. */
void cohbuf_rs_invalidate(struct page *page, size_t offset, size_t len)
{
	arch_invalidate_pmem(page_address(page) + offset, len);
}

void cohbuf_rs_write_barrier(void)
{
	/* Empties the write-combining buffers of this CPU, for devices to see. */
	wmb();
}

/* User space may write the page meanwhile, so that no Rust reference may see it. */
void cohbuf_rs_page_read(void *to, struct page *page, size_t offset, size_t len)
{
	memcpy(to, page_address(page) + offset, len);
}

/* Writes what differs, so that no cache line gets dirty for nothing. */
bool cohbuf_rs_page_update(struct page *page, size_t offset, const u8 *from, size_t len)
{
	u8 *to = page_address(page) + offset;
	bool changed = false;
	size_t i;

	if (!memcmp(to, from, len))
		return false;
	for (i = 0; i < len; i++) {
		if (READ_ONCE(to[i]) != from[i]) {
			WRITE_ONCE(to[i], from[i]);
			changed = true;
		}
	}
	return changed;
}

void cohbuf_rs_sg_set_page(struct scatterlist *sg, struct page *page,
			   unsigned int len, unsigned int offset)
{
	sg_set_page(sg, page, len, offset);
}

phys_addr_t cohbuf_rs_sg_phys(struct scatterlist *sg)
{
	return sg_phys(sg);
}

struct page *cohbuf_rs_sg_page(struct scatterlist *sg)
{
	return sg_page(sg);
}

/* As dma_direct_map_sg() leaves it. */
void cohbuf_rs_sg_set_dma(struct scatterlist *sg, dma_addr_t addr)
{
	sg_dma_address(sg) = addr;
	sg_dma_len(sg) = sg->length;
}

struct page *cohbuf_rs_nth_page(struct page *page, unsigned long n)
{
	return page + n;
}

/*
 * From @sg, whose first byte is the one at @at, the entry that has the one at
 * @to, which is not before it; of those that @left counts, or NULL. In C, as the
 * kernel crate calls a function for each step.
 */
struct scatterlist *cohbuf_rs_sg_seek(struct scatterlist *sg, unsigned int *left, size_t *at,
				      size_t to)
{
	for (; *left; sg = sg_next(sg), --*left) {
		if (to - *at < sg->length)
			return sg;
		*at += sg->length;
	}
	return NULL;
}

/* The same, of DMA segments. */
struct scatterlist *cohbuf_rs_sg_seek_dma(struct scatterlist *sg, unsigned int *left, size_t *at,
					  size_t to)
{
	for (; *left; sg = sg_next(sg), --*left) {
		if (to - *at < sg_dma_len(sg))
			return sg;
		*at += sg_dma_len(sg);
	}
	return NULL;
}

phys_addr_t cohbuf_rs_page_to_phys(struct page *page)
{
	return page_to_phys(page);
}

void cohbuf_rs_sync_for_cpu(struct device *dev, struct sg_table *sgt,
			    enum dma_data_direction dir)
{
	dma_sync_sgtable_for_cpu(dev, sgt, dir);
}

void cohbuf_rs_sync_for_device(struct device *dev, struct sg_table *sgt,
			       enum dma_data_direction dir)
{
	dma_sync_sgtable_for_device(dev, sgt, dir);
}

/*
 * Ops that sync a table but not a part of it would leave the part as it is:
 * dma_sync_single_for_cpu() takes a missing op for nothing to do.
 */
bool cohbuf_rs_can_sync_parts(struct device *dev)
{
	const struct dma_map_ops *ops = use_dma_iommu(dev) ? NULL : get_dma_ops(dev);

	return !ops || ((ops->sync_single_for_cpu || !ops->sync_sg_for_cpu) &&
			(ops->sync_single_for_device || !ops->sync_sg_for_device));
}

void cohbuf_rs_sync_part_for_cpu(struct device *dev, dma_addr_t addr, size_t len,
				 enum dma_data_direction dir)
{
	dma_sync_single_for_cpu(dev, addr, len, dir);
}

void cohbuf_rs_sync_part_for_device(struct device *dev, dma_addr_t addr, size_t len,
				    enum dma_data_direction dir)
{
	dma_sync_single_for_device(dev, addr, len, dir);
}

/* A power of two: what maintenance works on. */
size_t cohbuf_rs_cache_line_size(void)
{
	return cache_line_size();
}

/* Without locks of their own, VMAs do not tell that they go: recorded_vmas(). */
bool cohbuf_rs_can_record_written(void)
{
	return IS_ENABLED(CONFIG_MAPPING_DIRTY_HELPERS) && IS_ENABLED(CONFIG_PER_VMA_LOCK);
}

#ifdef CONFIG_MAPPING_DIRTY_HELPERS
/* The entry that a table of PTEs hangs from; NULL where there is none. */
static pmd_t *pmd_of(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;

	if (pgd_none(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d))
		return NULL;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud) || pud_leaf(*pud))
		return NULL;
	return pmd_offset(pud, addr);
}

/*
 * Sets the bits of those of the pages from @first to @end that a VMA has written
 * since its PTEs were cleaned. Its page tables stand still: with i_mmap_rwsem
 * held it stays in the tree, from which free_pgtables() takes it before it frees
 * any, and mremap() moves none; of a VMA with VM_PFNMAP neither madvise() nor
 * khugepaged takes one away.
 */
static void find_written(struct vm_area_struct *vma, pgoff_t first, pgoff_t end,
			 unsigned long *bitmap)
{
	pgoff_t index = max(first, vma->vm_pgoff);
	unsigned long addr = vma->vm_start + ((index - vma->vm_pgoff) << PAGE_SHIFT);
	unsigned long stop, next;
	pmd_t *pmd, value;
	spinlock_t *lock;
	pte_t *pte;

	end = min(end, vma->vm_pgoff + vma_pages(vma));
	if (index >= end)
		return;
	stop = addr + ((end - index) << PAGE_SHIFT);
	for (; addr < stop; addr = next) {
		next = pmd_addr_end(addr, stop);
		pmd = pmd_of(vma->vm_mm, addr);
		value = pmd ? pmdp_get_lockless(pmd) : __pmd(0);
		/* There are no leaves, see cohbuf_rs_record_written(). */
		if (!pmd_present(value) || pmd_leaf(value)) {
			index += (next - addr) >> PAGE_SHIFT;
			continue;
		}
		/* Who moves an entry, or changes it, takes it away for a moment. */
		lock = pte_lockptr(vma->vm_mm, &value);
		spin_lock(lock);
		pte = pte_offset_kernel(&value, addr);
		for (; addr < next; addr += PAGE_SIZE, pte++, index++) {
			/* Once: pte_dirty() is a macro that looks twice. */
			pte_t found = ptep_get(pte);

			if (pte_dirty(found))
				__set_bit(index, bitmap);
		}
		spin_unlock(lock);
	}
}

/* Pages between two that were written for whose sake it is not worth to begin again. */
#define NEAR 32
#endif

/*
 * Sets the bits of pages that were written by any mapping of any process, of
 * @count from @first on, and forgets that they were. Whoever writes after that is
 * seen the next time: the TLBs are flushed when this returns. For mappings by
 * single pages.
 *
 * The walk of the mm calls a function for each page. So pages that were written
 * are looked for first, and only these are walked. Who writes another one after
 * that is seen the next time as well.
 */
void cohbuf_rs_record_written(struct dma_buf *dmabuf, unsigned long first,
			      unsigned long count, unsigned long *bitmap)
{
#ifdef CONFIG_MAPPING_DIRTY_HELPERS
	struct address_space *mapping = dmabuf->file->f_mapping;
	const vm_flags_t walked = VM_SHARED | VM_MAYWRITE;
	unsigned long end = first + count;
	unsigned long from, to, next;
	struct vm_area_struct *vma;
	struct rb_node *node;
	pgoff_t low, high;

	i_mmap_lock_read(mapping);
	for (node = rb_first_cached(&mapping->i_mmap); node; node = rb_next(node)) {
		vma = rb_entry(node, struct vm_area_struct, shared.rb);
		if ((READ_ONCE(vma->vm_flags) & walked) == walked)
			find_written(vma, first, end, bitmap);
	}
	i_mmap_unlock_read(mapping);

	for (from = find_next_bit(bitmap, end, first); from < end; from = next) {
		next = from;
		do {
			to = find_next_zero_bit(bitmap, end, next);
			next = find_next_bit(bitmap, end, to);
		} while (next < end && next - to <= NEAR);
		low = high = 0;
		clean_record_shared_mapping_range(mapping, from, to - from, 0, bitmap,
						  &low, &high);
	}
#endif
}

/*
 * Asked after cohbuf_rs_record_written(): how many VMAs map the buffer, if it was
 * told all by their page tables; -1 where it may not have been. munmap detaches a
 * VMA, and exit_mmap() comes when an mm has no users any more; both then empty
 * the page tables, take the VMA out of the tree, and only then call
 * vm_ops->close(). Who is past the tree, and not closed, is missing in the number.
 * Others that walk_page_mapping() does not pass come from importers whose file is
 * not writable: it sees nothing behind them.
 */
int cohbuf_rs_recorded_vmas(struct dma_buf *dmabuf)
{
	struct address_space *mapping = dmabuf->file->f_mapping;
	const vm_flags_t walked = VM_SHARED | VM_MAYWRITE;
	struct vm_area_struct *vma;
	struct rb_node *node;
	int count = 0;

	/* By the nodes, as the iterators of the tree are not for modules. */
	i_mmap_lock_read(mapping);
	for (node = rb_first_cached(&mapping->i_mmap); node; node = rb_next(node)) {
		vma = rb_entry(node, struct vm_area_struct, shared.rb);
		if (!vma_is_attached(vma) || !atomic_read(&vma->vm_mm->mm_users) ||
		    (READ_ONCE(vma->vm_flags) & walked) != walked) {
			count = -1;
			break;
		}
		count++;
	}
	i_mmap_unlock_read(mapping);

	return count;
}

/*
 * Who writes after that faults: what was written stands still until the next
 * fault. For VM_IO.
 */
void cohbuf_rs_write_protect(struct dma_buf *dmabuf, unsigned long first, unsigned long count)
{
#ifdef CONFIG_MAPPING_DIRTY_HELPERS
	wp_shared_mapping_range(dmabuf->file->f_mapping, first, count);
#endif
}

/* As do_mmap() has it for a file that is not writable. */
void cohbuf_rs_vma_never_write(struct vm_area_struct *vma)
{
	vm_flags_clear(vma, VM_MAYWRITE);
}

void cohbuf_rs_vma_write_combine(struct vm_area_struct *vma)
{
	vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
}

/* What is put into a page table by one fill_table(). */
struct fill {
	struct mm_struct *mm;
	pte_t pte;
	unsigned int count;
	bool recorded;
};

#ifdef CONFIG_X86
/*
 * set_ptes(), which takes twice as many instructions: it asks anew of each entry
 * what pte_next_pfn() has to know.
 */
static void fill_ptes(struct mm_struct *mm, unsigned long addr, pte_t *ptep, pte_t pte,
		      unsigned int count)
{
	pteval_t value = pte_val(pte);
	pteval_t step = __pte_needs_invert(value) ? -PAGE_SIZE : PAGE_SIZE;

	page_table_check_ptes_set(mm, addr, ptep, pte, count);
	for (; count; count--) {
		set_pte(ptep++, __pte(value));
		value += step;
	}
}
#else
#define fill_ptes set_ptes
#endif

/*
 * Called with the lock of the page table, for the first of @count entries in it,
 * which are none. "special" is said here for the compiler to see: of such a page
 * arm64 has no MTE tags to sync, by a function that is not for modules.
 */
static int fill_table(pte_t *ptep, unsigned long addr, void *data)
{
	struct fill *fill = data;
	pte_t pte = fill->pte;
	unsigned int i;

	if (!fill->recorded) {
		fill_ptes(fill->mm, addr, ptep, pte_mkspecial(pte), fill->count);
		return 0;
	}
	/* Not at once: contiguous entries of arm64 have one dirty bit for all. */
	for (i = 0; i < fill->count; i++) {
		set_pte_at(fill->mm, addr + i * PAGE_SIZE, ptep + i, pte_mkspecial(pte));
		pte = pte_next_pfn(pte);
	}
	return 0;
}

/*
 * Does to a VMA of cohbuf_rs_vma_pfnmap() what remap_pfn_range() does, a page
 * table at once. That is dear: on x86 it asks for the cache mode of each page,
 * which the buffer knows. But for @recorded the pages count as written: that
 * saves the fault of the first write where the CPU does not set the bit.
 */
int cohbuf_rs_mmap_pages(struct vm_area_struct *vma, unsigned long addr,
			 struct page *page, unsigned long size, bool recorded)
{
	const vm_flags_t written = VM_SHARED | VM_WRITE;
	unsigned long next, end = addr + size, pfn = page_to_pfn(page);
	struct fill fill = { .mm = vma->vm_mm, .recorded = recorded };
	int error;

	for (; addr != end; addr = next) {
		next = pmd_addr_end(addr, end);
		fill.pte = pfn_pte(pfn, vma->vm_page_prot);
		if (!recorded && (vma->vm_flags & written) == written)
			fill.pte = pte_mkdirty(fill.pte);
		fill.count = (next - addr) >> PAGE_SHIFT;
		/* Of one page: it allocates the table, and calls once. */
		error = apply_to_page_range(fill.mm, addr, PAGE_SIZE, fill_table, &fill);
		if (error)
			return error;
		pfn += fill.count;
	}
	return 0;
}

/* What remap_pfn_range() would set. */
void cohbuf_rs_vma_pfnmap(struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
}

/*
 * dup_mmap() calls vm_ops->open() before it copies page tables, and copies none
 * with this flag: a child gets no page that it has not asked for. Set here, and
 * not by mmap, as MADV_KEEPONFORK would clear it.
 */
void cohbuf_rs_vma_forked(struct vm_area_struct *vma)
{
	if (vma->vm_mm != current->mm)
		vm_flags_set(vma, VM_WIPEONFORK);
}

/*
 * Takes the reservation lock in a fault handler, as ttm_bo_vm_reserve() does:
 * whoever has it may keep it long, and the mmap lock is given up meanwhile where
 * that is allowed. It is not in vm_ops->pfn_mkwrite(): wp_pfn_shared() takes
 * VM_FAULT_RETRY for success, and goes on with a VMA that may be gone. The core
 * never calls with a VMA lock alone, as there is no vm_ops->map_pages
 * (vmf_can_call_fault()). 0, or what to return.
 */
vm_fault_t cohbuf_rs_fault_lock(struct vm_fault *vmf, struct dma_buf *dmabuf)
{
	if (dma_resv_trylock(dmabuf->resv))
		return 0;

	if (!(vmf->flags & FAULT_FLAG_MKWRITE) && fault_flag_allow_retry_first(vmf->flags)) {
		if (!(vmf->flags & FAULT_FLAG_RETRY_NOWAIT)) {
			get_dma_buf(dmabuf);
			mmap_read_unlock(vmf->vma->vm_mm);
			if (!dma_resv_lock_interruptible(dmabuf->resv, NULL))
				dma_resv_unlock(dmabuf->resv);
			dma_buf_put(dmabuf);
		}
		return VM_FAULT_RETRY;
	}

	return dma_resv_lock_interruptible(dmabuf->resv, NULL) ? VM_FAULT_NOPAGE : 0;
}

/* As pgprot_modify() looks; that of x86 is not for modules (cc_mask). */
static bool is_write_combine(pgprot_t prot)
{
	return pgprot_val(prot) == pgprot_val(pgprot_writecombine(prot));
}

/*
 * The page protection of the VMA has no write bit, as vm_ops->pfn_mkwrite() wants
 * to know of the first write; it has the cache mode. @writable gives what the VMA
 * allows. @dirty: of a page that is about to be written, which saves arm64 without
 * DBM a fault.
 */
vm_fault_t cohbuf_rs_insert_page(struct vm_area_struct *vma, unsigned long addr,
				 struct page *page, bool writable, bool dirty)
{
	vm_flags_t flags = writable ? vma->vm_flags : vma->vm_flags & ~VM_SHARED;
	pgprot_t prot = vm_get_page_prot(flags);

	if (is_write_combine(vma->vm_page_prot))
		prot = pgprot_writecombine(prot);
	if (writable && dirty)
		prot = pte_pgprot(pte_mkdirty(pfn_pte(page_to_pfn(page), prot)));

	return vmf_insert_pfn_prot(vma, addr, page_to_pfn(page), prot);
}

/* Of all address spaces. */
void cohbuf_rs_zap(struct dma_buf *dmabuf, unsigned long first, unsigned long count)
{
	unmap_mapping_pages(dmabuf->file->f_mapping, first, count, true);
}

void *cohbuf_rs_vmap(struct page **pages, unsigned int count, bool write_combine)
{
	pgprot_t prot = write_combine ? pgprot_writecombine(PAGE_KERNEL) : PAGE_KERNEL;

	return vmap(pages, count, VM_MAP, prot);
}

void cohbuf_rs_vunmap(void *addr)
{
	vunmap(addr);
}

void cohbuf_rs_iosys_map_set_vaddr(struct iosys_map *map, void *addr)
{
	iosys_map_set_vaddr(map, addr);
}

void cohbuf_rs_iosys_map_clear(struct iosys_map *map)
{
	iosys_map_clear(map);
}

/* False once the last user is gone, and with it all that could access memory. */
bool cohbuf_rs_mm_has_users(struct mm_struct *mm)
{
	return atomic_read(&mm->mm_users);
}

/*
 * The address of the calling task's mm_struct gets, and loses, its lowest bit. In
 * C, as it is all of most STARTs and ENDs, and the kernel crate calls a function
 * for each step. False where the word is another, or the task has no mm_struct.
 */
bool cohbuf_rs_flag_mm(unsigned long *word)
{
	unsigned long mm = (unsigned long)current->mm;

	return mm && try_cmpxchg(word, &mm, mm | 1);
}

/* True also where the word is another, but 0. */
bool cohbuf_rs_unflag_mm(unsigned long *word)
{
	unsigned long mm = (unsigned long)current->mm;
	unsigned long old = mm | 1;

	return mm && (try_cmpxchg(word, &old, mm) || old);
}

int cohbuf_rs_copy_struct_from_user(void *dst, size_t ksize, unsigned long src,
				    size_t usize)
{
	return copy_struct_from_user(dst, ksize, (const void __user *)src, usize);
}

int cohbuf_rs_copy_struct_to_user(unsigned long dst, size_t usize,
				  const void *src, size_t ksize)
{
	return copy_struct_to_user((void __user *)dst, usize, src, ksize, NULL);
}
