// SPDX-License-Identifier: GPL-2.0

//! What can be tested of cohbuf without its kernel module, see `tests/`.
