# SPDX-License-Identifier: GPL-2.0
#
# How bindgen is called for rust/helpers.h, the trace events and the uapi header. Follows
# rust/Makefile of the kernel; see there for the reason of each flag.

ifdef CONFIG_CC_IS_CLANG
cohbuf-bindgen-cflags = $(c_flags)
else
# libclang does not know all flags of gcc.
cohbuf-bindgen-skip := -mno-fp-ret-in-387 -mpreferred-stack-boundary=% \
	-mskip-rax-setup -mgeneral-regs-only -msign-return-address=% \
	-mindirect-branch=thunk-extern -mindirect-branch-register \
	-mfunction-return=thunk-extern -mrecord-mcount -mabi=lp64 \
	-mindirect-branch-cs-prefix -mstack-protector-guard% -mtraceback=no \
	-mno-string -mno-strict-align -mstrict-align -mdirect-extern-access \
	-mexplicit-relocs -mno-check-zero-division \
	-fconserve-stack -falign-jumps=% -falign-loops=% \
	-femit-struct-debug-baseonly -fno-ipa-cp-clone -fno-ipa-sra \
	-fno-partial-inlining -fplugin-arg-arm_ssp_per_task_plugin-% \
	-fno-reorder-blocks -fno-allow-store-data-races -fasan-shadow-offset=% \
	-fzero-call-used-regs=% -fno-stack-clash-protection \
	-fno-inline-functions-called-once -fsanitize=bounds-strict \
	-fstrict-flex-arrays=% -fmin-function-alignment=% \
	-fzero-init-padding-bits=% \
	-fdiagnostics-show-context -fdiagnostics-show-context=% \
	--param=% --param asan-% -fno-isolate-erroneous-paths-dereference
cohbuf-bindgen-target-x86 := x86_64-linux-gnu
cohbuf-bindgen-target-arm64 := aarch64-linux-gnu
cohbuf-bindgen-cflags = $(filter-out $(cohbuf-bindgen-skip),$(c_flags)) \
	-w --target=$(cohbuf-bindgen-target-$(SRCARCH))
endif

cohbuf-bindgen-common := --rust-target 1.85 --use-core --ctypes-prefix ffi \
	--no-layout-tests --no-debug '.*' --no-doc-comments \
	--enable-function-attribute-detection

quiet_cmd_cohbuf_bindgen = BINDGEN $(quiet_modtag) $@
      cmd_cohbuf_bindgen = mkdir -p $(dir $@); \
	$(BINDGEN) $< $(cohbuf-bindgen-flags) $(cohbuf-bindgen-common) -o $@ -- \
		$(filter-out $(CC_FLAGS_LTO),$(cohbuf-bindgen-cflags)) -fno-builtin -D__BINDGEN__ -DMODULE

$(obj)/rust/helpers_generated.rs: private cohbuf-bindgen-flags = \
	--blocklist-type '.*' --allowlist-var 'DMA_BUF_SYNC_.*' --allowlist-function 'cohbuf_rs_.*'
$(obj)/rust/helpers_generated.rs: $(src)/rust/helpers.h FORCE
	$(call if_changed_dep,cohbuf_bindgen)

# Whatever else these structures are made of comes from the kernel crate.
$(obj)/rust/trace_generated.rs: private cohbuf-bindgen-flags = \
	--no-recursive-allowlist --allowlist-type 'cohbuf_trace_.*' \
	--allowlist-var '__tracepoint_cohbuf_.*' --allowlist-function 'rust_do_trace_cohbuf_.*'
$(obj)/rust/trace_generated.rs: $(src)/include/trace/events/cohbuf.h FORCE
	$(call if_changed_dep,cohbuf_bindgen)

$(obj)/rust/uapi_generated.rs: private cohbuf-bindgen-flags = --with-derive-default --with-derive-partialeq \
	--allowlist-type 'cohbuf_.*' --allowlist-var 'COHBUF_.*'
$(obj)/rust/uapi_generated.rs: $(src)/include/uapi/linux/cohbuf.h FORCE
	$(call if_changed_dep,cohbuf_bindgen)

targets += rust/helpers_generated.rs rust/trace_generated.rs rust/uapi_generated.rs
clean-files += rust/helpers_generated.rs rust/trace_generated.rs rust/uapi_generated.rs
