# SPDX-License-Identifier: GPL-2.0
#
# COHBUF_DOCS=1: rustdoc of the crates `dma_buf` and `cohbuf` into rustdoc/ of
# the output directory. Follows rust/Makefile of the kernel, which is not included
# in the build of an external module, with the flags of cmd_rustc_o_rs.

quiet_cmd_cohbuf_rustdoc = RUSTDOC $(quiet_modtag) $<
      cmd_cohbuf_rustdoc = \
	OBJTREE=$(abspath $(objtree)) RUST_MODFILE=$(modfile) \
	$(RUSTDOC) $(filter-out --emit=% --remap-path-scope=%,$(rust_flags)) \
		-Zallow-features=$(rust_allowed_features) \
		-Zcrate-attr=no_std \
		-Zcrate-attr='feature($(rust_allowed_features))' \
		-Zunstable-options --generate-link-to-definition \
		--extern pin_init --extern kernel --extern zerocopy --extern zerocopy_derive \
		-L $(objtree)/rust/ --sysroot=/dev/null \
		--crate-name $(cohbuf-rustdoc-crate) $(cohbuf-rustdoc-flags) \
		-D warnings --output $(obj)/rustdoc $<; \
	touch $@

# A crate for other modules: what they can use.
$(obj)/rust/.rustdoc: private part-of-module := y
$(obj)/rust/.rustdoc: private cohbuf-rustdoc-crate := dma_buf
$(obj)/rust/.rustdoc: $(src)/rust/dma_buf.rs $(obj)/rust/dma_buf.o FORCE
	+$(call if_changed,cohbuf_rustdoc)

# A driver: nobody can use it, and what it does is all private.
$(obj)/src/.rustdoc: private part-of-module := y
$(obj)/src/.rustdoc: private cohbuf-rustdoc-crate := cohbuf
$(obj)/src/.rustdoc: private cohbuf-rustdoc-flags := --document-private-items \
	-A rustdoc::private_intra_doc_links -L $(obj)/rust --extern dma_buf
$(obj)/src/.rustdoc: $(src)/src/cohbuf_main.rs $(obj)/rust/dma_buf.o $(obj)/rust/.rustdoc FORCE
	+$(call if_changed,cohbuf_rustdoc)

always-$(if $(COHBUF_DOCS),m) += rust/.rustdoc src/.rustdoc
targets += rust/.rustdoc src/.rustdoc
