// SPDX-License-Identifier: GPL-2.0
/*
 * An importer in C that uses what cohbuf exports, as a driver would. Its devices
 * are models (rust/test_models.c); user space says what they do, see
 * cohbuf_driver.h.
 */
#include <linux/device/faux.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include <linux/cohbuf.h>

#include "cohbuf_driver.h"
#include "helpers.h"
#include "test_models.h"

/* Of each model. */
#define DEVICES	2
#define KINDS	(MODEL_BOUNCED - MODEL_BOUNCE + 1)

/* NULL where this kernel has not what the model needs. */
static struct faux_device *devices[KINDS][DEVICES];

static struct workqueue_struct *jobs_wq;

/* A device that is attached to a dma-buf. */
struct importer {
	struct kref refs;
	struct list_head node;		/* of the session, under its lock */
	u32 handle;
	struct device *dev;
	struct dma_buf *dmabuf;
	bool dynamic;
	struct mutex lock;		/* guards what follows */
	struct dma_buf_attachment *attach;	/* NULL: it is gone */
	struct sg_table *sgt;		/* NULL: not mapped */
	enum dma_data_direction dir;
	struct list_head jobs;
};

/* What the device does later, when nobody waits any more. */
struct job {
	struct dma_fence fence;		/* first: dma_fence_free() */
	struct delayed_work work;
	struct list_head node;
	struct device *dev;
	dma_addr_t addr;
	u32 len;
	bool write;
	u8 bytes[COHBUF_DRIVER_BYTES];
};

/* An open file. */
struct session {
	struct mutex lock;
	struct list_head importers;
	u32 last;
};

static const char *driver_name(struct dma_fence *fence)
{
	return "cohbuf_driver";
}

static const char *timeline_name(struct dma_fence *fence)
{
	return "job";
}

static const struct dma_fence_ops job_ops = {
	.get_driver_name = driver_name,
	.get_timeline_name = timeline_name,
};

/* All of it is in the way of a fence: no lock that waits for one, no allocation. */
static void run_job(struct work_struct *work)
{
	struct job *job = container_of(to_delayed_work(work), struct job, work);
	bool cookie = dma_fence_begin_signalling();
	int ret;

	ret = cohbuf_rs_model_access(job->dev, job->addr, job->bytes, job->len, job->write);
	if (ret)
		dma_fence_set_error(&job->fence, ret);
	dma_fence_signal(&job->fence);
	dma_fence_end_signalling(cookie);
	dma_fence_put(&job->fence);
}

static void end_jobs(struct importer *importer)
{
	struct job *job, *next;

	list_for_each_entry_safe(job, next, &importer->jobs, node) {
		flush_delayed_work(&job->work);
		list_del(&job->node);
		dma_fence_put(&job->fence);
	}
}

static void unmap(struct importer *importer)
{
	if (!importer->sgt)
		return;
	if (importer->dynamic) {
		dma_resv_lock(importer->dmabuf->resv, NULL);
		dma_buf_unmap_attachment(importer->attach, importer->sgt, importer->dir);
		dma_resv_unlock(importer->dmabuf->resv);
	} else {
		dma_buf_unmap_attachment_unlocked(importer->attach, importer->sgt,
						  importer->dir);
	}
	importer->sgt = NULL;
}

static void free_importer(struct kref *refs)
{
	struct importer *importer = container_of(refs, struct importer, refs);

	end_jobs(importer);
	unmap(importer);
	dma_buf_detach(importer->dmabuf, importer->attach);
	dma_buf_put(importer->dmabuf);
	mutex_destroy(&importer->lock);
	kfree(importer);
}

static void put_importer(struct importer *importer)
{
	if (!IS_ERR_OR_NULL(importer))
		kref_put(&importer->refs, free_importer);
}

DEFINE_FREE(put_importer, struct importer *, put_importer(_T))

/* The attachment of that handle, with a reference. */
static struct importer *find_importer(struct session *session, u32 handle)
{
	struct importer *importer;

	guard(mutex)(&session->lock);
	list_for_each_entry(importer, &session->importers, node) {
		if (importer->handle == handle) {
			kref_get(&importer->refs);
			return importer;
		}
	}
	return ERR_PTR(-ENOENT);
}

static struct device *find_device(u32 kind, u32 index)
{
	struct faux_device *faux;

	if (kind < MODEL_BOUNCE || kind > MODEL_BOUNCED || index >= DEVICES)
		return ERR_PTR(-EINVAL);
	faux = devices[kind - MODEL_BOUNCE][index];
	return faux ? &faux->dev : ERR_PTR(-ENODEV);
}

/* cohbuf does not move its buffers. */
static void invalidate_mappings(struct dma_buf_attachment *attach)
{
}

static const struct dma_buf_attach_ops dynamic_ops = {
	.invalidate_mappings = invalidate_mappings,
};

static int ioctl_attach(struct session *session, struct cohbuf_driver_attach *arg)
{
	struct importer *importer;
	int ret;

	importer = kzalloc_obj(*importer);
	if (!importer)
		return -ENOMEM;
	kref_init(&importer->refs);
	mutex_init(&importer->lock);
	INIT_LIST_HEAD(&importer->jobs);
	importer->dynamic = arg->dynamic;

	importer->dev = find_device(arg->kind, arg->index);
	if (IS_ERR(importer->dev)) {
		ret = PTR_ERR(importer->dev);
		goto err_free;
	}
	importer->dmabuf = dma_buf_get(arg->fd);
	if (IS_ERR(importer->dmabuf)) {
		ret = PTR_ERR(importer->dmabuf);
		goto err_free;
	}
	if (arg->dynamic)
		importer->attach = dma_buf_dynamic_attach(importer->dmabuf, importer->dev,
							  &dynamic_ops, importer);
	else
		importer->attach = dma_buf_attach(importer->dmabuf, importer->dev);
	if (IS_ERR(importer->attach)) {
		ret = PTR_ERR(importer->attach);
		goto err_put;
	}
	if (arg->autofence != COHBUF_DRIVER_DEFAULT) {
		ret = cohbuf_set_autofence(importer->attach,
					   arg->autofence == COHBUF_DRIVER_ON);
		if (ret)
			goto err_detach;
	}

	scoped_guard(mutex, &session->lock) {
		importer->handle = ++session->last;
		arg->handle = importer->handle;
		list_add_tail(&importer->node, &session->importers);
	}
	return 0;

err_detach:
	dma_buf_detach(importer->dmabuf, importer->attach);
err_put:
	dma_buf_put(importer->dmabuf);
err_free:
	kfree(importer);
	return ret;
}

static int ioctl_detach(struct session *session, u32 *handle)
{
	struct importer *importer __free(put_importer) = find_importer(session, *handle);

	if (IS_ERR(importer))
		return PTR_ERR(importer);

	scoped_guard(mutex, &session->lock) {
		/* Somebody else may have been faster. */
		if (list_empty(&importer->node))
			return -ENOENT;
		list_del_init(&importer->node);
	}
	/* That of the list; whoever else has one ends soon. */
	put_importer(importer);
	return 0;
}

static int ioctl_map(struct session *session, struct cohbuf_driver_map *arg)
{
	struct importer *importer __free(put_importer) = find_importer(session, arg->handle);
	struct dma_resv *resv;
	struct sg_table *sgt;
	int ret;

	if (IS_ERR(importer))
		return PTR_ERR(importer);
	if (arg->direction > DMA_FROM_DEVICE)
		return -EINVAL;

	ACQUIRE(mutex_intr, lock)(&importer->lock);
	if (ACQUIRE_ERR(mutex_intr, &lock))
		return -ERESTARTSYS;
	if (importer->sgt)
		return -EBUSY;

	if (importer->dynamic) {
		resv = importer->dmabuf->resv;
		ret = dma_resv_lock_interruptible(resv, NULL);
		if (ret)
			return ret;
		/* As virtio-gpu does, which cannot follow a buffer that moves. */
		ret = dma_buf_pin(importer->attach);
		if (ret) {
			dma_resv_unlock(resv);
			return ret;
		}
		sgt = dma_buf_map_attachment(importer->attach, arg->direction);
		dma_buf_unpin(importer->attach);
		dma_resv_unlock(resv);
	} else {
		sgt = dma_buf_map_attachment_unlocked(importer->attach, arg->direction);
	}
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);

	importer->sgt = sgt;
	importer->dir = arg->direction;
	return 0;
}

static int ioctl_unmap(struct session *session, struct cohbuf_driver_map *arg)
{
	struct importer *importer __free(put_importer) = find_importer(session, arg->handle);

	if (IS_ERR(importer))
		return PTR_ERR(importer);

	guard(mutex)(&importer->lock);
	if (!importer->sgt)
		return -ENOTCONN;
	if (arg->careless && !model_has_ops(importer->dev))
		return -EINVAL;
	if (!arg->careless)
		end_jobs(importer);
	unmap(importer);
	return 0;
}

/* Where the device finds @len bytes from @offset on. */
static int find_address(struct importer *importer, u64 offset, u32 len, dma_addr_t *addr)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(importer->sgt, sg, i) {
		if (offset < sg_dma_len(sg)) {
			if (len > sg_dma_len(sg) - offset)
				return -EINVAL;
			*addr = sg_dma_address(sg) + offset;
			return 0;
		}
		offset -= sg_dma_len(sg);
	}
	return -EINVAL;
}

/* Checks what the device is to do. The caller holds the lock of the importer. */
static int prepare_dma(struct importer *importer, const struct cohbuf_driver_dma *arg,
		       dma_addr_t *addr)
{
	if (!importer->sgt)
		return -ENOTCONN;
	if (!arg->len || arg->len > COHBUF_DRIVER_BYTES)
		return -EINVAL;
	if (importer->dir == (arg->write ? DMA_TO_DEVICE : DMA_FROM_DEVICE))
		return -EACCES;
	return find_address(importer, arg->offset, arg->len, addr);
}

static int ioctl_dma(struct session *session, struct cohbuf_driver_dma *arg)
{
	struct importer *importer __free(put_importer) = find_importer(session, arg->handle);
	dma_addr_t addr;
	int ret;

	if (IS_ERR(importer))
		return PTR_ERR(importer);

	guard(mutex)(&importer->lock);
	ret = prepare_dma(importer, arg, &addr);
	if (ret)
		return ret;
	return cohbuf_rs_model_access(importer->dev, addr, arg->bytes, arg->len, arg->write);
}

static int ioctl_job(struct session *session, struct cohbuf_driver_dma *arg)
{
	struct importer *importer __free(put_importer) = find_importer(session, arg->handle);
	struct job *job __free(kfree) = NULL;
	struct dma_resv *resv;
	int ret;

	if (IS_ERR(importer))
		return PTR_ERR(importer);
	job = kzalloc_obj(*job);
	if (!job)
		return -ENOMEM;

	guard(mutex)(&importer->lock);
	ret = prepare_dma(importer, arg, &job->addr);
	if (ret)
		return ret;
	INIT_DELAYED_WORK(&job->work, run_job);
	job->dev = importer->dev;
	job->len = arg->len;
	job->write = arg->write;
	memcpy(job->bytes, arg->bytes, sizeof(job->bytes));

	resv = importer->dmabuf->resv;
	ret = dma_resv_lock_interruptible(resv, NULL);
	if (ret)
		return ret;
	ret = dma_resv_reserve_fences(resv, 1);
	if (ret) {
		dma_resv_unlock(resv);
		return ret;
	}
	dma_fence_init(&job->fence, &job_ops, NULL, dma_fence_context_alloc(1), 1);
	dma_resv_add_fence(resv, &job->fence,
			   arg->write ? DMA_RESV_USAGE_WRITE : DMA_RESV_USAGE_READ);
	/* The first reference is the list's. This one is the work's. */
	dma_fence_get(&job->fence);
	queue_delayed_work(jobs_wq, &job->work, msecs_to_jiffies(arg->delay_ms));
	dma_resv_unlock(resv);

	list_add_tail(&job->node, &importer->jobs);
	retain_and_null_ptr(job);
	return 0;
}

static int ioctl_sync(struct session *session, struct cohbuf_driver_sync *arg)
{
	struct importer *importer __free(put_importer) = find_importer(session, arg->handle);
	struct importer *other __free(put_importer) = NULL;
	bool for_device = arg->flags & COHBUF_DRIVER_FOR_DEVICE;
	struct sg_table *sgt;
	struct dma_resv *resv;
	int ret;

	if (IS_ERR(importer))
		return PTR_ERR(importer);
	ACQUIRE(mutex_intr, lock)(&importer->lock);
	if (ACQUIRE_ERR(mutex_intr, &lock))
		return -ERESTARTSYS;

	sgt = importer->sgt;
	if (arg->table_of) {
		other = find_importer(session, arg->table_of);
		if (IS_ERR(other))
			return PTR_ERR(other);
		/* Who asks for this does nothing else meanwhile. */
		sgt = READ_ONCE(other->sgt);
	}

	if (!(arg->flags & COHBUF_DRIVER_LOCKED))
		return for_device ? cohbuf_sync_for_device_unlocked(importer->attach, sgt) :
				    cohbuf_sync_for_cpu_unlocked(importer->attach, sgt);

	resv = importer->dmabuf->resv;
	ret = dma_resv_lock_interruptible(resv, NULL);
	if (ret)
		return ret;
	ret = for_device ? cohbuf_sync_for_device(importer->attach, sgt) :
			   cohbuf_sync_for_cpu(importer->attach, sgt);
	dma_resv_unlock(resv);
	return ret;
}

static int ioctl_autofence(struct session *session,
			    struct cohbuf_driver_autofence_arg *arg)
{
	struct importer *importer __free(put_importer) = find_importer(session, arg->handle);

	if (IS_ERR(importer))
		return PTR_ERR(importer);
	return cohbuf_set_autofence(importer->attach, arg->autofence);
}

static int ioctl_query(struct session *session, struct cohbuf_driver_query *arg)
{
	struct cohbuf_query query = { .coherent = arg->coherent, .caching = arg->caching };
	struct dma_buf *dmabuf = dma_buf_get(arg->fd);

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	arg->known = cohbuf_query_dma_buf(dmabuf, &query);
	/* Who only wants to know whether gets the same answer. */
	if (WARN_ON(cohbuf_query_dma_buf(dmabuf, NULL) != arg->known))
		arg->known = -1;
	arg->coherent = query.coherent;
	arg->caching = query.caching;
	dma_buf_put(dmabuf);
	return 0;
}

static int ioctl_model(struct session *session, struct cohbuf_driver_model *arg)
{
	switch (arg->op) {
	case 0:
		return cohbuf_rs_model_reset();
	case 1:
		return cohbuf_rs_model_track_user(arg->addr, arg->len);
	default:
		return -EINVAL;
	}
}

static int ioctl_put_lost(struct cohbuf_driver_lost *arg)
{
	struct dma_buf *dmabuf = dma_buf_get(arg->fd);
	int ret = 0;

	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);
	/* That of the descriptor, ours, and the lost one. */
	if (file_count(dmabuf->file) >= 3)
		dma_buf_put(dmabuf);
	else
		ret = -EINVAL;
	dma_buf_put(dmabuf);
	return ret;
}

union argument {
	u32 handle;
	struct cohbuf_driver_attach attach;
	struct cohbuf_driver_map map;
	struct cohbuf_driver_dma dma;
	struct cohbuf_driver_sync sync;
	struct cohbuf_driver_autofence_arg autofence;
	struct cohbuf_driver_query query;
	struct cohbuf_driver_model model;
	struct cohbuf_driver_lost lost;
};

static int dispatch(struct session *session, unsigned int cmd, union argument *arg)
{
	switch (cmd) {
	case COHBUF_DRIVER_ATTACH:
		return ioctl_attach(session, &arg->attach);
	case COHBUF_DRIVER_DETACH:
		return ioctl_detach(session, &arg->handle);
	case COHBUF_DRIVER_MAP:
		return ioctl_map(session, &arg->map);
	case COHBUF_DRIVER_UNMAP:
		return ioctl_unmap(session, &arg->map);
	case COHBUF_DRIVER_DMA:
		return ioctl_dma(session, &arg->dma);
	case COHBUF_DRIVER_JOB:
		return ioctl_job(session, &arg->dma);
	case COHBUF_DRIVER_SYNC:
		return ioctl_sync(session, &arg->sync);
	case COHBUF_DRIVER_AUTOFENCE:
		return ioctl_autofence(session, &arg->autofence);
	case COHBUF_DRIVER_QUERY:
		return ioctl_query(session, &arg->query);
	case COHBUF_DRIVER_MODEL:
		return ioctl_model(session, &arg->model);
	case COHBUF_DRIVER_PUT_LOST:
		return ioctl_put_lost(&arg->lost);
	default:
		return -ENOTTY;
	}
}

static long driver_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	union argument value = {};
	int ret;

	if (_IOC_SIZE(cmd) > sizeof(value))
		return -ENOTTY;
	if (copy_from_user(&value, user, _IOC_SIZE(cmd)))
		return -EFAULT;
	ret = dispatch(file->private_data, cmd, &value);
	if (ret)
		return ret;
	if ((_IOC_DIR(cmd) & _IOC_READ) && copy_to_user(user, &value, _IOC_SIZE(cmd)))
		return -EFAULT;
	return 0;
}

static int driver_open(struct inode *inode, struct file *file)
{
	struct session *session = kzalloc_obj(*session);

	if (!session)
		return -ENOMEM;
	mutex_init(&session->lock);
	INIT_LIST_HEAD(&session->importers);
	file->private_data = session;
	return 0;
}

static int driver_release(struct inode *inode, struct file *file)
{
	struct session *session = file->private_data;
	struct importer *importer, *next;

	list_for_each_entry_safe(importer, next, &session->importers, node) {
		list_del_init(&importer->node);
		put_importer(importer);
	}
	mutex_destroy(&session->lock);
	kfree(session);
	return 0;
}

static const struct file_operations driver_fops = {
	.owner = THIS_MODULE,
	.open = driver_open,
	.release = driver_release,
	.unlocked_ioctl = driver_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice driver_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "cohbuf_driver",
	.fops = &driver_fops,
};

static void destroy_devices(void)
{
	int i;

	for (i = 0; i < KINDS * DEVICES; i++)
		if (devices[i / DEVICES][i % DEVICES])
			faux_device_destroy(devices[i / DEVICES][i % DEVICES]);
}

static int create_devices(void)
{
	char name[32];
	int i, ret;

	for (i = 0; i < KINDS * DEVICES; i++) {
		u32 kind = MODEL_BOUNCE + i / DEVICES;
		struct faux_device *faux;

		snprintf(name, sizeof(name), "cohbuf-driver-%u-%d", kind, i % DEVICES);
		faux = faux_device_create(name, NULL, NULL);
		if (!faux)
			return -ENODEV;
		ret = cohbuf_rs_model_setup(&faux->dev, kind);
		if (ret) {
			faux_device_destroy(faux);
			if (ret == -EOPNOTSUPP)
				continue;
			return ret;
		}
		devices[i / DEVICES][i % DEVICES] = faux;
	}
	return 0;
}

static int __init cohbuf_driver_init(void)
{
	int ret;

	jobs_wq = alloc_workqueue("cohbuf_driver", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!jobs_wq)
		return -ENOMEM;
	ret = cohbuf_rs_model_start();
	if (ret)
		goto err_wq;
	ret = create_devices();
	if (ret)
		goto err_devices;
	ret = misc_register(&driver_misc);
	if (ret)
		goto err_devices;
	return 0;

err_devices:
	destroy_devices();
	cohbuf_rs_model_stop();
err_wq:
	destroy_workqueue(jobs_wq);
	return ret;
}
module_init(cohbuf_driver_init);

static void __exit cohbuf_driver_exit(void)
{
	misc_deregister(&driver_misc);
	destroy_devices();
	cohbuf_rs_model_stop();
	destroy_workqueue(jobs_wq);
}
module_exit(cohbuf_driver_exit);

MODULE_DESCRIPTION("An importer that uses the in-kernel interface of cohbuf");
MODULE_AUTHOR("The cohbuf developers");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
