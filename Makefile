# SPDX-License-Identifier: GPL-2.0
# `make help` lists the targets. demo and test set up all that they need; plain
# `make` is the ordinary build of an external module.

KDIR ?= /lib/modules/$(shell uname -r)/build
SCRIPTS := $(CURDIR)/scripts

# ARCH is amd64, arm64 or both for demo and test; the kernel's own names go
# through to the kernel.
arch := $(or $(ARCH),both)
kernel_arch := $(patsubst amd64,x86_64,$(ARCH))

# What the kernel's make shall see. Command line variables get there by themselves.
kmake = $(MAKE) -C $(KDIR) M=$(CURDIR) $(if $(MO),MO=$(MO)) $(if $(LLVM),LLVM=$(LLVM)) \
	$(if $(ARCH),ARCH=$(kernel_arch))

# Which of the kernel series in scripts/kernel-series; by default the first.
ifdef SERIES
export COHBUF_SERIES := $(SERIES)
endif

.DEFAULT_GOAL := modules
.PHONY: modules modules_install check-kdir demo test test-matrix kunit vm-test bench \
	bench-quick bench-record lint host-test tools tools_install docs setup clean distclean help

modules: check-kdir ## Build cohbuf.ko against KDIR (default: the running kernel) [LLVM=1] [MO=dir]
	+$(kmake) modules

modules_install: ## Install cohbuf.ko for KDIR's kernel (as root)
	+$(kmake) modules_install

check-kdir: ## Check that KDIR can build Rust modules with the compilers at hand
	@$(SCRIPTS)/check-kdir '$(KDIR)' '$(LLVM)' '$(CC)' '$(CROSS_COMPILE)'

demo: ## The main job on stock kernels in QEMU; ends with a table and pictures [ARCH=amd64|arm64]
	@$(SCRIPTS)/demo $(arch)

test: ## All checks: lint, host, KUnit, guests; results in reports/ [ARCH=amd64|arm64] [SERIES=7.2]
	@$(SCRIPTS)/test $(arch)

test-matrix: ## All checks on each kernel series of scripts/kernel-series [ARCH=amd64|arm64]
	@$(SCRIPTS)/test-matrix $(arch)

kunit: ## KUnit and the guest tests on debug kernels only [ARCH=amd64|arm64] [SERIES=7.2]
	@$(SCRIPTS)/test $(arch) kunit

vm-test: ## The guest tests on stock kernels only [ARCH=amd64|arm64] [SERIES=7.2]
	@$(SCRIPTS)/test $(arch) vm

bench: ## What it costs beside the system heap and udmabuf; bench.json and curves in reports/ [ARCH=amd64|arm64]
	@$(SCRIPTS)/bench $(arch)

bench-quick: ## A part of it, in less than two minutes [ARCH=amd64|arm64]
	@$(SCRIPTS)/bench $(arch) quick

bench-record: ## Record what the gate (scripts/test both bench) compares
	@$(SCRIPTS)/bench both record

lint: ## rustfmt, clippy, checkpatch, shellcheck and the like only
	@$(SCRIPTS)/test $(arch) lint

host-test: ## The tests that need no kernel only
	@$(SCRIPTS)/test $(arch) host

tools: ## Build cohbufctl and the guest tests, static; prints where they are [ARCH=amd64|arm64]
	@$(SCRIPTS)/setup-buildroot
	@set -e; for a in $(if $(filter both,$(arch)),amd64 arm64,$(arch)); do \
		$(SCRIPTS)/build-tools $$a; done

tools_install: ## Install cohbufctl, man pages, completions, the udev rule [DESTDIR=] [PREFIX=/usr/local]
	@$(SCRIPTS)/setup-buildroot
	@$(SCRIPTS)/install-tools '$(DESTDIR)' '$(PREFIX)'

docs: ## The pages of Documentation/, as HTML; prints where they are
	@$(SCRIPTS)/docs

setup: ## Only what demo needs before its first boot [ARCH=amd64|arm64] [SERIES=7.2]
	@$(SCRIPTS)/setup $(arch)

clean: ## Remove what was built here, and the reports
	@$(SCRIPTS)/clean $(CURDIR) $(if $(MO),'$(MO)')

distclean: clean ## Also remove the cache: build root, downloads, kernels
	@$(SCRIPTS)/clean cache

help: ## This list
	@sed -n 's/^\([a-z_-]*\):.*## /\1\t/p' $(CURDIR)/Makefile | expand -t 18
