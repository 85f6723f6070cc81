/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel has as inline function or macro only, and the kernel crate
 * does not wrap, and what the DMA core does not say: read by bindgen for the
 * crate `dma_buf`. No policy.
 */
#ifndef _COHBUF_RUST_HELPERS_H
#define _COHBUF_RUST_HELPERS_H

#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched/user.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <uapi/linux/dma-buf.h>

#include "compat/compat.h"

/* device */
bool cohbuf_rs_dev_is_dma_coherent(struct device *dev);
bool cohbuf_rs_would_bounce(struct device *dev, struct page *page, size_t len);
bool cohbuf_rs_has_dma_mask(struct device *dev);
bool cohbuf_rs_is_plain(struct device *dev);
bool cohbuf_rs_reaches(struct device *dev, phys_addr_t last);
dma_addr_t cohbuf_rs_phys_to_dma(struct device *dev, phys_addr_t phys);
uintptr_t cohbuf_rs_own_dma_ops(struct device *dev);
bool cohbuf_rs_has_iommu(struct device *dev);
bool cohbuf_rs_may_be_bounced(struct device *dev);
bool cohbuf_rs_dma_addr_is_bounced(struct device *dev, dma_addr_t addr);
size_t cohbuf_rs_max_segment(struct device *dev);
unsigned long cohbuf_rs_segment_boundary(struct device *dev);
void cohbuf_rs_notice_refused(struct device *dev, const char *exporter,
			      unsigned long ino, const char *why);
void cohbuf_rs_notice_outside(struct dma_buf *dmabuf, const char *exporter, size_t offset,
			      bool write);

/* dma-buf and its reservation object */
void cohbuf_rs_get_dma_buf(struct dma_buf *dmabuf);
unsigned long cohbuf_rs_inode_number(struct dma_buf *dmabuf);
int cohbuf_rs_resv_lock_interruptible(struct dma_resv *resv);
void cohbuf_rs_resv_lock(struct dma_resv *resv);
void cohbuf_rs_resv_assert_held(struct dma_resv *resv);
long cohbuf_rs_resv_wait(struct dma_resv *resv, bool all, bool interruptible);
bool cohbuf_rs_resv_signaled(struct dma_resv *resv, bool all);
bool cohbuf_rs_is_writable(struct dma_buf *dmabuf);

/* memory of what is no page */
struct kmem_cache *cohbuf_rs_cache_create(const char *name, size_t size);
void *cohbuf_rs_cache_alloc(struct kmem_cache *cache);

/* pages and sg tables */
struct scatterlist *cohbuf_rs_sg_seek(struct scatterlist *sg, unsigned int *left, size_t *at,
				      size_t to);
struct scatterlist *cohbuf_rs_sg_seek_dma(struct scatterlist *sg, unsigned int *left, size_t *at,
					  size_t to);
bool cohbuf_rs_fatal_signal_pending(void);
struct page *cohbuf_rs_alloc_pages(unsigned int order, bool best_effort);
struct page *cohbuf_rs_alloc_contiguous(unsigned long count, struct user_struct **user);
void cohbuf_rs_free_contiguous(struct page *page, unsigned long count,
			       struct user_struct *user);
size_t cohbuf_rs_max_charged_contiguous(void);
bool cohbuf_rs_can_write_combine(void);
bool cohbuf_rs_alias_stays_cached(void);
int cohbuf_rs_write_combine(struct page *page, unsigned long count);
int cohbuf_rs_write_back(struct page *page, unsigned long count);
bool cohbuf_rs_can_clean(void);
void cohbuf_rs_clean(struct page *page, unsigned long count);
void cohbuf_rs_invalidate(struct page *page, size_t offset, size_t len);
void cohbuf_rs_write_barrier(void);
void cohbuf_rs_page_read(void *to, struct page *page, size_t offset, size_t len);
bool cohbuf_rs_page_update(struct page *page, size_t offset, const u8 *from, size_t len);
void cohbuf_rs_sg_set_page(struct scatterlist *sg, struct page *page,
			   unsigned int len, unsigned int offset);
phys_addr_t cohbuf_rs_sg_phys(struct scatterlist *sg);
struct page *cohbuf_rs_sg_page(struct scatterlist *sg);
void cohbuf_rs_sg_set_dma(struct scatterlist *sg, dma_addr_t addr);
struct page *cohbuf_rs_nth_page(struct page *page, unsigned long n);
phys_addr_t cohbuf_rs_page_to_phys(struct page *page);
void cohbuf_rs_sync_for_cpu(struct device *dev, struct sg_table *sgt,
			    enum dma_data_direction dir);
void cohbuf_rs_sync_for_device(struct device *dev, struct sg_table *sgt,
			       enum dma_data_direction dir);
bool cohbuf_rs_can_sync_parts(struct device *dev);
void cohbuf_rs_sync_part_for_cpu(struct device *dev, dma_addr_t addr, size_t len,
				 enum dma_data_direction dir);
void cohbuf_rs_sync_part_for_device(struct device *dev, dma_addr_t addr, size_t len,
				    enum dma_data_direction dir);
size_t cohbuf_rs_cache_line_size(void);

/* dirty pages of CPU mappings */
bool cohbuf_rs_can_record_written(void);
int cohbuf_rs_recorded_vmas(struct dma_buf *dmabuf);
void cohbuf_rs_record_written(struct dma_buf *dmabuf, unsigned long first,
			      unsigned long count, unsigned long *bitmap);
void cohbuf_rs_write_protect(struct dma_buf *dmabuf, unsigned long first, unsigned long count);

/* CPU mappings */
void cohbuf_rs_vma_write_combine(struct vm_area_struct *vma);
int cohbuf_rs_mmap_pages(struct vm_area_struct *vma, unsigned long addr,
			 struct page *page, unsigned long size, bool recorded);
void cohbuf_rs_vma_never_write(struct vm_area_struct *vma);
void cohbuf_rs_vma_pfnmap(struct vm_area_struct *vma);
void cohbuf_rs_vma_forked(struct vm_area_struct *vma);
vm_fault_t cohbuf_rs_fault_lock(struct vm_fault *vmf, struct dma_buf *dmabuf);
vm_fault_t cohbuf_rs_insert_page(struct vm_area_struct *vma, unsigned long addr,
				 struct page *page, bool writable, bool dirty);
void cohbuf_rs_zap(struct dma_buf *dmabuf, unsigned long first, unsigned long count);
void *cohbuf_rs_vmap(struct page **pages, unsigned int count, bool write_combine);
void cohbuf_rs_vunmap(void *addr);
void cohbuf_rs_iosys_map_set_vaddr(struct iosys_map *map, void *addr);
void cohbuf_rs_iosys_map_clear(struct iosys_map *map);

/* rust/cpu_access.c */
bool cohbuf_rs_is_readable(struct dma_buf *dmabuf);
int cohbuf_rs_end_cpu_access(struct dma_buf *dmabuf, enum dma_data_direction dir);
void cohbuf_rs_iosys_move(const struct iosys_map *dst, size_t to,
			  const struct iosys_map *src, size_t from, size_t len);
void cohbuf_rs_iosys_read(void *to, const struct iosys_map *src, size_t from, size_t len);
void cohbuf_rs_iosys_write(const struct iosys_map *dst, size_t to, const void *from, size_t len);
void *cohbuf_rs_scratch_alloc(size_t size);
void cohbuf_rs_cond_resched(void);

/* rust/debugfs.c */
struct dentry *cohbuf_rs_debugfs_register(const char *dir, const char *name,
					  int (*show)(struct seq_file *m));
void cohbuf_rs_debugfs_unregister(struct dentry *dir);

/* address spaces and user memory */
bool cohbuf_rs_mm_has_users(struct mm_struct *mm);
bool cohbuf_rs_flag_mm(unsigned long *word);
bool cohbuf_rs_unflag_mm(unsigned long *word);
int cohbuf_rs_copy_struct_from_user(void *dst, size_t ksize, unsigned long src,
				    size_t usize);
int cohbuf_rs_copy_struct_to_user(unsigned long dst, size_t usize,
				  const void *src, size_t ksize);

/* rust/test_device.c; modules of the tests only */
int cohbuf_rs_test_device_setup_dma(struct device *dev, u64 mask, bool coherent);
void cohbuf_rs_test_device_noncoherent(struct device *dev);
void cohbuf_rs_test_device_limit(struct device *dev, u64 limit);
int cohbuf_rs_test_device_segments(struct device *dev, unsigned int max,
				   unsigned long boundary);

/* rust/test_models.c; modules of the tests only */
int cohbuf_rs_model_setup(struct device *dev, u32 kind);
int cohbuf_rs_model_access(struct device *dev, dma_addr_t addr, void *buf, size_t len,
			   bool write);

/* rust/test_cache_model.c; modules of the tests only */
int cohbuf_rs_model_start(void);
void cohbuf_rs_model_stop(void);
void cohbuf_rs_model_counts(u64 *to, size_t n);
void cohbuf_rs_model_zero_counts(void);
void cohbuf_rs_model_evict(void);
void cohbuf_rs_model_drop_clean(void);
int cohbuf_rs_model_track_page(struct page *page);
int cohbuf_rs_model_reset(void);

/* rust/test_pages.c; modules of the tests only */
int cohbuf_rs_model_track_user(unsigned long addr, size_t len);
int cohbuf_rs_user_attrs(unsigned long addr, u32 *user, u32 *linear);
int cohbuf_rs_kernel_attrs(const void *addr);

/* module parameters, rust/params.c */
unsigned int cohbuf_rs_max_size_mb(void);

/* trace events, rust/trace.c */
int cohbuf_rs_current_tgid(void);

/* KUnit, rust/test_exporter.c */
struct dma_buf *cohbuf_rs_test_exporter_new(size_t size, u32 how, int flags);
void cohbuf_rs_test_exporter_calls(struct dma_buf *dmabuf, u32 *calls);
void *cohbuf_rs_test_exporter_memory(struct dma_buf *dmabuf);

/* KUnit, rust/kunit_support.c */
struct dma_fence *cohbuf_rs_test_fence_new(void);
int cohbuf_rs_test_fence_add(struct dma_buf *dmabuf, struct dma_fence *fence, bool write);
void cohbuf_rs_test_fence_put(struct dma_fence *fence);
struct dma_buf_attachment *cohbuf_rs_test_unlist(struct dma_buf *dmabuf);
void cohbuf_rs_test_list(struct dma_buf *dmabuf, struct dma_buf_attachment *attach);
struct dma_buf_attachment *cohbuf_rs_test_map(struct dma_buf *dmabuf, struct device *dev,
					      enum dma_data_direction dir);
unsigned long cohbuf_rs_test_user_page(void);
void cohbuf_rs_test_user_page_put(void);
unsigned long cohbuf_rs_test_copy_to_user(unsigned long to, const void *from, size_t len);
unsigned long cohbuf_rs_test_copy_from_user(void *to, unsigned long from, size_t len);
void cohbuf_rs_test_set_signal(bool pending);

#endif /* _COHBUF_RUST_HELPERS_H */
