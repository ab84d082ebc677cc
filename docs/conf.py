"""The settings of the documentation: `sphinx-build -W -b html docs build/site`."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ssmspec  # noqa: E402 - after the settings of BLAS

project = "ssmspec"
author = copyright = "The ssmspec authors"
version = release = ssmspec.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference_pages"]
exclude_patterns = ["_ext", "Thumbs.db"]
smartquotes = False  # --option stays --option
default_role = "code"  # what docstrings have in single backticks

# Formulas are plain text, so that no page needs a script for them.
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
nb_execution_mode = os.environ.get("SSMSPEC_NOTEBOOKS", "cache")  # "off" builds without running the notebooks
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")

autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"ssmspec {release}"
html_static_path = ["_static"]
html_css_files = ["ssmspec.css"]
html_copy_source = False
html_show_sourcelink = False
html_baseurl = os.environ.get("SSMSPEC_SITE", "")  # the public address of the site; none is known
