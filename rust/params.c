// SPDX-License-Identifier: GPL-2.0
/*
 * Module parameters of the exporter. In C, as those of the kernel crate cannot
 * be written after the module is loaded.
 */
#include <linux/compiler.h>
#include <linux/moduleparam.h>

#include "helpers.h"

static unsigned int max_size_mb = 1024;
module_param(max_size_mb, uint, 0644);
MODULE_PARM_DESC(max_size_mb, "Largest buffer in MiB, read at each CREATE (default 1024)");

unsigned int cohbuf_rs_max_size_mb(void)
{
	return READ_ONCE(max_size_mb);
}
