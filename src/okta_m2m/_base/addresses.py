"""The public addresses of the project, without a slash at the end. Each is empty until there is one.

This is the only place for them. The URLs and the README in the package's metadata (``docs/package_metadata.py``), the site's
canonical links (``docs/conf.py``) and the links of errors are made from them.
"""

from __future__ import annotations

from typing import Final

DOCUMENTATION: Final = ""
REPOSITORY: Final = ""
