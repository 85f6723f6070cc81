/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs in C between the kernel series that are supported
 * (scripts/kernel-series). The Rust side is beside this file.
 */
#ifndef _COHBUF_RUST_COMPAT_H
#define _COHBUF_RUST_COMPAT_H

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0)
#error "cohbuf needs Linux 7.2 or newer: scripts/kernel-series has the series that it is tested with"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)

#ifdef CONFIG_CFI
/* A Rust callback that takes an enum has the wrong type for kCFI until 7.3. */
#error "with CONFIG_CFI cohbuf needs Linux 7.3 or newer"
#endif

/* Since 7.3 the kernel crate knows the module of an exporter, and of a misc device. */
struct module *cohbuf_rs_this_module(void);
int cohbuf_rs_own_misc_file(struct file *file, struct miscdevice *misc);

#endif

#endif /* _COHBUF_RUST_COMPAT_H */
