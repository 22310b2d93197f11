"""Builds the documentation site: ``sphinx-build -W -b html docs site``.

Invariant: every page is a file that can also be read without the site, so links between pages are links to files.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys

import requests
from sphinx.application import Sphinx

import okta_m2m
from okta_m2m._core.addresses import DOCUMENTATION

project = "okta-m2m"
author = "the okta-m2m authors"
release = version = okta_m2m.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["examples"]
# In an annotation that is imported for type checkers only, a name such as App may be that of two modules.
suppress_warnings = ["ref.python"]

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "okta-m2m"
html_baseurl = DOCUMENTATION and f"{DOCUMENTATION}/"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_copyright = False

# niquests cannot be installed beside urllib3. Its names are those of requests, so its adapter can be read with that.
sys.modules.setdefault("niquests", requests)
sys.modules.setdefault("niquests.packages", requests.packages)  # type: ignore[attr-defined]

# Some packages load a name on first use, and autodoc sees only what is loaded.
for info in pkgutil.walk_packages(okta_m2m.__path__, "okta_m2m."):
    if "._" not in info.name:
        module = importlib.import_module(info.name)
        vars(module).update({name: getattr(module, name) for name in module.__all__})
vars(okta_m2m).update({name: getattr(okta_m2m, name) for name in okta_m2m.__all__})

ENTRY = re.compile(r"^- `(\w+)`: (?!as above)", re.MULTILINE)
SECTION = re.compile(r"^## `([\w.]+)`.*\n(?:(?!## ).*\n)*", re.MULTILINE)


def link_to_reference(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turns each name of ``api.md`` into a link to its entry in the reference."""
    if docname == "api":
        source[0] = SECTION.sub(
            lambda section: ENTRY.sub(rf"- {{py:obj}}`\1 <{section[1]}.\1>`: ", section[0]), source[0]
        )


def link_from_changelog(app: Sphinx, relative: object, parent: str, source: list[str]) -> None:
    """The changelog is written for the root of the repository, and included in a page of ``docs``."""
    source[0] = source[0].replace("](docs/", "](")


def setup(app: Sphinx) -> None:
    app.connect("source-read", link_to_reference)
    app.connect("include-read", link_from_changelog)
