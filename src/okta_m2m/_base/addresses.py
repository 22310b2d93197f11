"""The public addresses of the project, without a slash at the end. Each is empty until there is one.

This is the only place for them. The URLs and the README in the package's metadata (``docs/package_metadata.py``), the site's
canonical links (``docs/conf.py``), and the links and the install commands in errors are made from them.
"""

from __future__ import annotations

from typing import Final

DOCUMENTATION: Final = ""
REPOSITORY: Final = ""
PACKAGE: Final = ""
"""The name on the package index. Until it is ours, someone else could take it, so no message may say to install it."""
