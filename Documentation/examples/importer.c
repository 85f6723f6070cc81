// SPDX-License-Identifier: GPL-2.0
/*
 * A platform driver that imports dma-bufs: a camera, which writes frames. The
 * example of Documentation/importer-howto.rst; `make docs` compiles it. The
 * device is made up, what is done with dma-bufs is not.
 */
#include <linux/cleanup.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mod_devicetable.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>

#include <linux/cohbuf.h>

#define CAMERA_ADDRESS		0x00
#define CAMERA_LENGTH		0x08
#define CAMERA_START		0x0c

#define CAMERA_IOCTL_IMPORT	_IOW('c', 1, int)
#define CAMERA_IOCTL_QUEUE	_IO('c', 2)
#define CAMERA_IOCTL_DONE	_IO('c', 3)

struct camera {
	struct device *dev;
	struct miscdevice misc;
	void __iomem *regs;
	u64 context;			/* of its fences */
	struct mutex lock;		/* guards what follows, but for the fence */
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;		/* NULL: nothing is imported */
	u64 frames;
	spinlock_t fence_lock;		/* guards fence */
	struct dma_fence *fence;	/* of the frame that the device writes now */
};

static const char *camera_fence_name(struct dma_fence *fence)
{
	return "camera";
}

static const struct dma_fence_ops camera_fence_ops = {
	.get_driver_name = camera_fence_name,
	.get_timeline_name = camera_fence_name,
};

/* importer-howto: import */
static int camera_import(struct camera *cam, int fd)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;
	struct sg_table *sgt;
	int ret;

	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	/* -EOPNOTSUPP: a coherent buffer, and this device does not snoop. */
	attach = dma_buf_attach(dmabuf, cam->dev);
	if (IS_ERR(attach)) {
		ret = PTR_ERR(attach);
		goto err_put;
	}

	/* What the device does, and no more: here it writes. */
	sgt = dma_buf_map_attachment_unlocked(attach, DMA_FROM_DEVICE);
	if (IS_ERR(sgt)) {
		ret = PTR_ERR(sgt);
		goto err_detach;
	}

	/* Without scatter-gather: dma_set_max_seg_size() has asked for one segment. */
	if (sgt->nents != 1) {
		ret = -EINVAL;
		goto err_unmap;
	}

	cam->dmabuf = dmabuf;
	cam->attach = attach;
	cam->sgt = sgt;
	return 0;

err_unmap:
	dma_buf_unmap_attachment_unlocked(attach, sgt, DMA_FROM_DEVICE);
err_detach:
	dma_buf_detach(dmabuf, attach);
err_put:
	dma_buf_put(dmabuf);
	return ret;
}

/* importer-howto: release */
static void camera_release(struct camera *cam)
{
	struct dma_fence *fence;

	if (!cam->sgt)
		return;

	/* cohbuf waits for it, other exporters do not. */
	scoped_guard(spinlock_irq, &cam->fence_lock)
		fence = cam->fence ? dma_fence_get(cam->fence) : NULL;
	if (fence) {
		dma_fence_wait(fence, false);
		dma_fence_put(fence);
	}

	/* Makes the frame visible. */
	dma_buf_unmap_attachment_unlocked(cam->attach, cam->sgt, DMA_FROM_DEVICE);
	dma_buf_detach(cam->dmabuf, cam->attach);
	dma_buf_put(cam->dmabuf);
	cam->sgt = NULL;
}

/* importer-howto: queue */
static int camera_queue(struct camera *cam)
{
	struct dma_resv *resv = cam->dmabuf->resv;
	struct dma_fence *fence __free(kfree) = NULL;
	int ret;

	if (READ_ONCE(cam->fence))
		return -EBUSY;
	fence = kzalloc_obj(*fence);
	if (!fence)
		return -ENOMEM;

	ret = dma_resv_lock_interruptible(resv, NULL);
	if (ret)
		return ret;

	/* Waits for those who use the buffer, and makes it the device's. */
	ret = cohbuf_sync_for_device(cam->attach, cam->sgt);
	/* Of another exporter: what is mapped is the device's already. */
	if (ret && ret != -EOPNOTSUPP)
		goto unlock;

	ret = dma_resv_reserve_fences(resv, 1);
	if (ret)
		goto unlock;

	dma_fence_init(fence, &camera_fence_ops, NULL, cam->context, ++cam->frames);
	dma_resv_add_fence(resv, fence, DMA_RESV_USAGE_WRITE);
	scoped_guard(spinlock_irq, &cam->fence_lock)
		cam->fence = no_free_ptr(fence);

	writeq(sg_dma_address(cam->sgt->sgl), cam->regs + CAMERA_ADDRESS);
	writel(sg_dma_len(cam->sgt->sgl), cam->regs + CAMERA_LENGTH);
	writel(1, cam->regs + CAMERA_START);
unlock:
	dma_resv_unlock(resv);
	return ret;
}

/* importer-howto: interrupt */
static irqreturn_t camera_interrupt(int irq, void *data)
{
	struct camera *cam = data;
	struct dma_fence *fence;

	scoped_guard(spinlock, &cam->fence_lock) {
		fence = cam->fence;
		cam->fence = NULL;
	}
	if (!fence)
		return IRQ_NONE;
	dma_fence_signal(fence);
	dma_fence_put(fence);
	return IRQ_HANDLED;
}

/* importer-howto: done */
static int camera_done(struct camera *cam)
{
	int ret;

	/* Waits for the fence; the next device that takes the buffer sees the frame. */
	ret = cohbuf_sync_for_cpu_unlocked(cam->attach, cam->sgt);
	return ret == -EOPNOTSUPP ? 0 : ret;
}

/* importer-howto: query */
static void camera_describe(struct camera *cam, struct dma_buf *dmabuf)
{
	struct cohbuf_query query;

	if (!cohbuf_query_dma_buf(dmabuf, &query))
		dev_dbg(cam->dev, "not of cohbuf\n");
	else if (query.coherent)
		dev_dbg(cam->dev, "coherent: the CPU needs no bracket\n");
	else if (query.caching == COHBUF_QUERY_WRITE_COMBINE)
		dev_dbg(cam->dev, "write-combined: slow for the CPU to read\n");
	else
		dev_dbg(cam->dev, "bracketed\n");
}

/* importer-howto: end */
static long camera_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct camera *cam = container_of(file->private_data, struct camera, misc);
	int fd, ret;

	guard(mutex)(&cam->lock);
	if (cmd == CAMERA_IOCTL_IMPORT) {
		if (cam->sgt)
			return -EBUSY;
		if (get_user(fd, (int __user *)arg))
			return -EFAULT;
		ret = camera_import(cam, fd);
		if (!ret)
			camera_describe(cam, cam->dmabuf);
		return ret;
	}
	if (!cam->sgt)
		return -ENOTCONN;
	switch (cmd) {
	case CAMERA_IOCTL_QUEUE:
		return camera_queue(cam);
	case CAMERA_IOCTL_DONE:
		return camera_done(cam);
	default:
		return -ENOTTY;
	}
}

static int camera_close(struct inode *inode, struct file *file)
{
	struct camera *cam = container_of(file->private_data, struct camera, misc);

	guard(mutex)(&cam->lock);
	camera_release(cam);
	return 0;
}

static const struct file_operations camera_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = camera_ioctl,
	.release = camera_close,
};

static int camera_probe(struct platform_device *pdev)
{
	struct camera *cam;
	int irq, ret;

	cam = devm_kzalloc(&pdev->dev, sizeof(*cam), GFP_KERNEL);
	if (!cam)
		return -ENOMEM;
	cam->dev = &pdev->dev;
	mutex_init(&cam->lock);
	spin_lock_init(&cam->fence_lock);
	cam->context = dma_fence_context_alloc(1);
	platform_set_drvdata(pdev, cam);

	cam->regs = devm_platform_ioremap_resource(pdev, 0);
	if (IS_ERR(cam->regs))
		return PTR_ERR(cam->regs);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);

	irq = platform_get_irq(pdev, 0);
	if (irq < 0)
		return irq;
	ret = devm_request_irq(&pdev->dev, irq, camera_interrupt, 0, "camera", cam);
	if (ret)
		return ret;

	cam->misc.minor = MISC_DYNAMIC_MINOR;
	cam->misc.name = "camera";
	cam->misc.fops = &camera_fops;
	cam->misc.parent = &pdev->dev;
	return misc_register(&cam->misc);
}

static void camera_remove(struct platform_device *pdev)
{
	struct camera *cam = platform_get_drvdata(pdev);

	misc_deregister(&cam->misc);
}

static const struct of_device_id camera_ids[] = {
	{ .compatible = "example,camera" },
	{}
};
MODULE_DEVICE_TABLE(of, camera_ids);

static struct platform_driver camera_driver = {
	.probe = camera_probe,
	.remove = camera_remove,
	.driver = {
		.name = "camera",
		.of_match_table = camera_ids,
		.suppress_bind_attrs = true,
	},
};
module_platform_driver(camera_driver);

MODULE_DESCRIPTION("Example of an importer");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
