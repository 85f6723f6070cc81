// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel crate of an older series lacks: see compat.h.
 */
#include "compat.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)

struct module *cohbuf_rs_this_module(void)
{
	return THIS_MODULE;
}

/*
 * The operations of a misc device in Rust have no owner: its module could be
 * unloaded while the device is open. This gives the file operations that have
 * one, from within open() of the device. misc_open() holds a lock there that
 * misc_deregister() takes as well, so that the module is here until we return;
 * and from then on until __fput() has put the owner, after release().
 */
int cohbuf_rs_own_misc_file(struct file *file, struct miscdevice *misc)
{
	/* Of the device that is opened first. Written then, under that lock. */
	static const struct file_operations *without_owner;
	static struct file_operations owned;

	/* Not from within open(), which puts something else there. */
	if (READ_ONCE(file->private_data) != misc || file->f_op->owner)
		return -EINVAL;
	if (without_owner && without_owner != file->f_op) {
		pr_err_once("a module has one misc device that keeps it, no more\n");
		file->f_op = &generic_ro_fops;
		return -EINVAL;
	}
	if (!try_module_get(THIS_MODULE)) {
		/* Whoever cleans up looks for an owner when the lock is gone, and maybe we are. */
		file->f_op = &generic_ro_fops;
		return -ENODEV;
	}
	if (!without_owner) {
		without_owner = file->f_op;
		owned = *without_owner;
		owned.owner = THIS_MODULE;
	}
	file->f_op = &owned;
	return 0;
}

#endif
