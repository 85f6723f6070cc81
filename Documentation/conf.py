# SPDX-License-Identifier: GPL-2.0
"""
Sphinx configuration. The extensions, the template of the table of contents and
the style are the kernel's own, from the kernel source that `srctree` names, as
in its Documentation/conf.py; scripts/docs sets it.
"""

import os
import sys

KERNEL_DOCS = os.path.join(os.path.abspath(os.environ["srctree"]), "Documentation")
sys.path.insert(0, os.path.join(KERNEL_DOCS, "sphinx"))

project = "cohbuf"
copyright = "the cohbuf developers"  # pylint: disable=redefined-builtin
language = "en"

extensions = [
    "automarkup",
    "kerneldoc",
    "kernel_include",
    "kfigure",
    "rstFlatTable",
]
include_patterns = ["*.rst"]
exclude_patterns = ["output"]

primary_domain = "c"
highlight_language = "none"
pygments_style = "sphinx"
smartquotes_action = "q"
# Comments of our headers, not of the kernel's.
kerneldoc_srctree = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# With -n every reference must lead somewhere. These are the kernel's, or C's.
nitpick_ignore_regex = [
    ("c:identifier", r"(__[us](8|16|32|64)|bool|dma_buf|dma_buf_attachment|sg_table)"),
]

html_theme = "alabaster"
html_theme_options = {
    "description": "A dma-buf exporter that knows which device can see what",
    "page_width": "75em",
    "sidebar_width": "16em",
    "fixed_sidebar": "true",
    "font_size": "inherit",
    "font_family": "serif",
}
html_static_path = [os.path.join(KERNEL_DOCS, "sphinx-static"), "style"]
html_css_files = ["cohbuf.css"]
templates_path = [os.path.join(KERNEL_DOCS, "sphinx", "templates")]
html_sidebars = {
    "**": ["about.html", "searchbox.html", "kernel-toc.html", "sourcelink.html"]
}
