"""Builds the documentation site: ``sphinx-build -W -b html docs site``.

Invariant: every page is a file that can also be read without the site, so links between pages are links to files.
"""

from __future__ import annotations

import html
import importlib
import pkgutil
import re
import sys
from enum import Enum
from inspect import Parameter, Signature, get_annotations
from typing import Any

import requests
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

import okta_m2m
from okta_m2m._base.addresses import DOCUMENTATION
from okta_m2m._base.records import Record
from okta_m2m.errors import OktaM2MError

project = "okta-m2m"
author = "the okta-m2m authors"
release = version = okta_m2m.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["examples"]
# In an annotation that is imported for type checkers only, a name such as App may be that of two modules.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
add_module_names = False

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "okta-m2m"
html_baseurl = DOCUMENTATION and f"{DOCUMENTATION}/"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_theme_options = {
    "light_logo": "wordmark-light.svg",
    "dark_logo": "wordmark-dark.svg",
    "sidebar_hide_name": True,
}
html_copy_source = False
html_show_copyright = False

# niquests cannot be installed beside urllib3. Its names are those of requests, so its adapter can be read with that.
sys.modules.setdefault("niquests", requests)
sys.modules.setdefault("niquests.packages", requests.packages)  # type: ignore[attr-defined]

# Some packages load a name on first use, and autodoc sees only what is loaded.
for info in pkgutil.walk_packages(okta_m2m.__path__, "okta_m2m."):
    if "._" not in info.name:
        module = importlib.import_module(info.name)
        vars(module).update({name: getattr(module, name) for name in getattr(module, "__all__", ())})
vars(okta_m2m).update({name: getattr(okta_m2m, name) for name in okta_m2m.__all__})

ENTRY = re.compile(r"^- `(\w+)`: (?!as above)", re.MULTILINE)
CODE = re.compile(r'<code class="[^"]*\bliteral\b[^"]*">.*?</code>')
SHORT_WORD = re.compile(r'<span class="pre">([^<]{1,24})</span>')
STATUS = re.compile(r"[45]\d\d\b")
OKTA_CODE = re.compile(r"\be\d{7}\b")  # the search compares lower case
SECTION = re.compile(r"^## `([\w.]+)`.*\n(?:(?!## ).*\n)*", re.MULTILINE)


def link_to_reference(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turns each name of ``api.md`` into a link to its entry in the reference."""
    if docname == "api":
        source[0] = SECTION.sub(
            lambda section: ENTRY.sub(rf"- {{py:obj}}`\1 <{section[1]}.\1>`: ", section[0]), source[0]
        )


def signature_of_fields(
    app: Sphinx, what: str, name: str, described: Any, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """A record's signature is its fields. A protocol has none, and an error has that of its base class."""
    if not isinstance(described, type):
        return signature, returns
    if getattr(described, "_is_protocol", False) or OktaM2MError in described.__mro__[1:]:
        return "", None
    if not issubclass(described, Record) or "__init__" in vars(described):
        return signature, returns
    kinds = {field: kind for base in reversed(described.__mro__) for field, kind in get_annotations(base).items()}
    fields = [
        Parameter(
            field,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=described._defaults.get(field, Parameter.empty),
            annotation=kinds[field],
        )
        for field in described._fields
    ]
    return stringify_signature(Signature(fields), unqualified_typehints=True), None


def choose_members(app: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """A class's docstring describes its fields, which need no entries of their own. It does not list an enum's members."""
    if type(member).__name__ == "_tuplegetter":
        return True
    return False if isinstance(member, Enum) else None


def link_from_changelog(app: Sphinx, relative: object, parent: str, source: list[str]) -> None:
    """The changelog is written for the root of the repository, and included in a page of ``docs``."""
    source[0] = source[0].replace("](docs/", "](")


def index_codes(app: Sphinx, doctree: nodes.document) -> None:
    """Adds index entries, which the search lists first: it skips numbers, and many pages mention these words. A section about an
    error gets the HTTP status with which its title or its text begins, and the section with Okta's codes gets all of them."""
    page = app.env.current_document.docname
    for section in doctree.findall(nodes.section):
        words = ["rotate"] if page == "rotation" and section.parent is doctree else []
        if page in ("errors", "troubleshooting"):
            words += [child.astext()[:3] for child in section.children[:2] if STATUS.match(child.astext())]
        if page == "errors" and "okta-s-codes" in section["ids"]:
            words += OKTA_CODE.findall(section.astext().lower())
        entries = [("single", word, section["ids"][0], "main", None) for word in sorted({*words})]
        section.insert(1, addnodes.index(entries=entries))


def mark_code(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Short code must not break, and long code may break anywhere. CSS cannot tell them apart."""

    def marked(code: re.Match[str]) -> str:
        length = len(html.unescape(re.sub("<[^>]+>", "", code[0])))
        kind = "short" if length <= 24 else "long" if length > 40 else ""
        return code[0].replace("literal", f"literal {kind}", 1) if kind else code[0]

    body = SHORT_WORD.sub(r'<span class="pre short">\1</span>', context.get("body", ""))
    context["body"] = CODE.sub(marked, body)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", mark_code)
    app.connect("doctree-read", index_codes)
    app.connect("source-read", link_to_reference)
    app.connect("autodoc-process-signature", signature_of_fields)
    app.connect("autodoc-skip-member", choose_members)
    app.connect("include-read", link_from_changelog)
