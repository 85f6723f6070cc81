// SPDX-License-Identifier: GPL-2.0
/*
 * Pages as page tables have them: which ones user space has mapped, and with
 * which memory type. Not part of cohbuf.ko.
 */
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/sched/signal.h>

#include "helpers.h"
#include "test_models.h"

/* As enum cohbuf_test_memory_type of tests/importer/cohbuf_test.h has them. */
enum model_memory {
	WRITE_BACK = 0,
	WRITE_COMBINING = 1,
	OTHER = 2,
};

#if defined(CONFIG_X86)

/* The PAT bit of a large page is elsewhere, and so moved to where the others are. */
static int prot_type(pgprot_t prot, bool large)
{
	pgprotval_t wc = pgprot_val(pgprot_writecombine(__pgprot(0)));
	pgprotval_t cache;

	if (large)
		prot = pgprot_large_2_4k(prot);
	cache = pgprot_val(prot) & _PAGE_CACHE_MASK;

	if (!cache)
		return WRITE_BACK;
	return cache == (wc & _PAGE_CACHE_MASK) ? WRITE_COMBINING : OTHER;
}

static int kernel_type(unsigned long addr)
{
	unsigned int level;
	pte_t *pte = lookup_address(addr, &level);

	if (!pte || !pte_present(*pte))
		return -EFAULT;
	return prot_type(pte_pgprot(*pte), level != PG_LEVEL_4K);
}

#elif defined(CONFIG_ARM64)

static int prot_type(pgprot_t prot, bool large)
{
	switch (pgprot_val(prot) & PTE_ATTRINDX_MASK) {
	case PTE_ATTRINDX(MT_NORMAL):
	case PTE_ATTRINDX(MT_NORMAL_TAGGED):
		return WRITE_BACK;
	case PTE_ATTRINDX(MT_NORMAL_NC):
		return WRITE_COMBINING;
	default:
		return OTHER;
	}
}

/* Asks the CPU, as nothing that walks the kernel's page tables is exported. */
static int kernel_type(unsigned long addr)
{
	unsigned long flags;
	u64 par;

	local_irq_save(flags);
	asm volatile("at s1e1r, %0" : : "r" (addr));
	isb();
	par = read_sysreg_par();
	local_irq_restore(flags);

	if (par & SYS_PAR_EL1_F)
		return -EFAULT;
	switch (FIELD_GET(SYS_PAR_EL1_ATTR, par)) {
	case MAIR_ATTR_NORMAL:
	case MAIR_ATTR_NORMAL_TAGGED:
		return WRITE_BACK;
	case MAIR_ATTR_NORMAL_NC:
		return WRITE_COMBINING;
	default:
		return OTHER;
	}
}

#else

static int prot_type(pgprot_t prot, bool large)
{
	return -EOPNOTSUPP;
}

static int kernel_type(unsigned long addr)
{
	return -EOPNOTSUPP;
}

#endif

/*
 * The page that the calling task has mapped at @addr from a dma-buf, and the type
 * of that mapping. -EFAULT where nothing like that is mapped.
 */
static int user_page(unsigned long addr, phys_addr_t *phys, int *type)
{
	struct mm_struct *mm = current->mm;
	bool faulted = false;
	int ret;

	if (!mm)
		return -EFAULT;
	mmap_read_lock(mm);
	for (;;) {
		struct follow_pfnmap_args args = {};
		bool unlocked = false;

		ret = -EFAULT;
		args.vma = vma_lookup(mm, addr);
		if (!args.vma || !(args.vma->vm_flags & VM_PFNMAP))
			break;
		args.address = addr;
		if (!follow_pfnmap_start(&args)) {
			*phys = PFN_PHYS(args.pfn);
			*type = prot_type(args.pgprot, args.addr_mask != PAGE_MASK);
			follow_pfnmap_end(&args);
			ret = 0;
			break;
		}
		/* Nobody has touched it yet. */
		if (faulted)
			break;
		ret = fixup_user_fault(mm, addr, 0, &unlocked);
		if (ret)
			break;
		/* Where the lock was dropped, it may be unmapped since. */
		faulted = !unlocked;
		if (fatal_signal_pending(current)) {
			ret = -EINTR;
			break;
		}
	}
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Has the cache model track the pages that the calling task has mapped from a
 * dma-buf.
 *
 * -EINVAL: @addr or @len is not a multiple of the page size, or @len is 0, or too
 * large, or what is mapped is no memory. -EFAULT: a page is not mapped, or not from
 * a dma-buf. -ENOMEM. -EINTR: the task was killed.
 */
int cohbuf_rs_model_track_user(unsigned long addr, size_t len)
{
	unsigned long end;
	int ret;

	if (!len || !PAGE_ALIGNED(addr | len) || check_add_overflow(addr, len, &end))
		return -EINVAL;
	for (; addr < end; addr += PAGE_SIZE) {
		phys_addr_t phys;
		int type;

		ret = user_page(addr, &phys, &type);
		if (!ret)
			ret = model_track(phys, PAGE_SIZE);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/*
 * The memory type that the calling task has a page of a dma-buf mapped with, and
 * that the linear map has the same page with. -EFAULT: nothing is mapped at @addr,
 * or not from a dma-buf, or it is not in the linear map. -EINVAL: it is no memory.
 */
int cohbuf_rs_user_attrs(unsigned long addr, u32 *user, u32 *linear)
{
	phys_addr_t phys;
	int ret, type;

	ret = user_page(addr, &phys, &type);
	if (ret)
		return ret;
	if (type < 0)
		return type;
	if (!pfn_valid(PHYS_PFN(phys)))
		return -EINVAL;
	*user = type;

	type = kernel_type((unsigned long)phys_to_virt(phys));
	if (type < 0)
		return type;
	*linear = type;
	return 0;
}

/* The memory type of a kernel mapping, or -EFAULT where nothing is mapped. */
int cohbuf_rs_kernel_attrs(const void *addr)
{
	return kernel_type((unsigned long)addr);
}
