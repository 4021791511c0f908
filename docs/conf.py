"""Sphinx configuration."""

from torchmetrics_rl2 import __version__

project = "torchmetrics-rl2"
author = "The torchmetrics-rl2 authors"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
napoleon_google_docstring = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"torchmetrics-rl2 {version}"
html_static_path: list[str] = []
