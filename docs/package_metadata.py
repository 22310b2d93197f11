"""Hooks of hatchling: the package's URLs, its README with links that also work on a package index, and the page on errors, from
which ``okta-m2m explain`` reads. An editable installation has no copy of that page: the command reads the page itself.

Invariant: no link of the package's README leads nowhere. While ``src/okta_m2m/_base/addresses.py`` has no address, there is no
URL, and what would be a link is plain text.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PAGES = "The pages that this text names are in the folder `docs` of the source distribution."
"""Shown while no link leads there."""


class ErrorsPage(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"]["docs/errors.md"] = "okta_m2m/cli/errors.md"


class PackageMetadata(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        addresses = runpy.run_path(str(root / "src" / "okta_m2m" / "_base" / "addresses.py"))
        documentation, repository = addresses["DOCUMENTATION"], addresses["REPOSITORY"]
        urls = {"Documentation": documentation, "Repository": repository}
        metadata["urls"] = {label: url for label, url in urls.items() if url}
        readme = (root / "README.md").read_text("utf-8")
        if documentation:
            readme = re.sub(r"\]\(docs/([\w/-]+)\.md", rf"]({documentation}/\1.html", readme)
        if repository:
            readme = re.sub(r"(!\[[^]]*\]\()(?!https:)", rf"\1{repository}/raw/HEAD/", readme)
            readme = re.sub(r"\]\((?!https:)", f"]({repository}/blob/HEAD/", readme)
        if not (documentation or repository):
            readme = readme.replace("## Documentation\n\n", f"## Documentation\n\n{PAGES}\n\n")
        readme = re.sub(r"!\[[^]]*\]\((?!https:)[^)]*\)\n+", "", readme)
        readme = re.sub(r"\[([^]]*)\]\((?!https:)[^)]*\)", r"\1", readme)
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}
