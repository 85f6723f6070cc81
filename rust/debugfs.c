// SPDX-License-Identifier: GPL-2.0
/*
 * C side of debugfs.rs. The file operations of kernel::debugfs have no owner:
 * debugfs_remove() waits for who reads, but not for who has a file open, and the
 * close of that would find no module any more.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "helpers.h"

static int cohbuf_rs_debugfs_show(struct seq_file *m, void *unused)
{
	int (*show)(struct seq_file *m) = m->private;

	return show(m);
}
DEFINE_SHOW_ATTRIBUTE(cohbuf_rs_debugfs);

/* The directory, or an error that debugfs_remove() takes as well. */
struct dentry *cohbuf_rs_debugfs_register(const char *dir, const char *name,
					  int (*show)(struct seq_file *m))
{
	struct dentry *parent = debugfs_create_dir(dir, NULL);

	debugfs_create_file(name, 0444, parent, show, &cohbuf_rs_debugfs_fops);
	return parent;
}

/* With what is in it. Waits for who reads that. */
void cohbuf_rs_debugfs_unregister(struct dentry *dir)
{
	debugfs_remove(dir);
}
