"""Packages that only some environments have."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest


def needs(*packages: str) -> None:
    """Skips the test if one of ``packages`` of the group ``recipes`` is not installed; in CI it fails."""
    for package in packages:
        if find_spec(package) is None:
            reason = f"{package} is not installed: pip install -e '.[all,okta]' --group recipes"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
