"""Completes an SBOM of cyclonedx-py, in place: complete_sbom.py SBOM WHEEL PINS...

okta-m2m becomes the main component, with the hash of the wheel. Every other component gets the SHA-256 of each file that the pins
allow for it, one of which was installed. Paths of this machine are removed. Python's own pip is not pinned, and has no hash.
"""

from __future__ import annotations

import json
import re
import sys
from hashlib import sha256
from pathlib import Path


def pinned_hashes(pins: str) -> dict[str, list[str]]:
    """The hashes in a file of pins, by package and version."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", pins):
        named = re.match(r"([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", entry)
        if named is not None:
            found[_key(named[1], named[2])] = sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return found


def _key(name: str, version: str) -> str:
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def complete(sbom: dict[str, object], wheel_hash: str, hashes: dict[str, list[str]]) -> None:
    components: list[dict[str, object]] = sbom["components"]  # type: ignore[assignment]
    (main,) = [component for component in components if component["name"] == "okta-m2m"]
    components.remove(main)
    sbom["metadata"]["component"] = main  # type: ignore[index]
    for component in [main, *components]:
        references: list[dict[str, str]] = component.pop("externalReferences", [])  # type: ignore[assignment]
        public = [reference for reference in references if not reference["url"].startswith("file:")]
        if public:
            component["externalReferences"] = public
        known = (
            [wheel_hash]
            if component is main
            else hashes.get(_key(str(component["name"]), str(component["version"])), [])
        )
        if known:
            component["hashes"] = [{"alg": "SHA-256", "content": one} for one in known]
        elif component["name"] not in ("pip", "setuptools"):
            raise SystemExit(f"{component['bom-ref']} is not pinned, so its hash is not known.")


def main() -> None:
    path, wheel, *pins = map(Path, sys.argv[1:])
    sbom = json.loads(path.read_text("utf-8"))
    complete(
        sbom, sha256(wheel.read_bytes()).hexdigest(), pinned_hashes("\n".join(one.read_text("utf-8") for one in pins))
    )
    text = json.dumps(sbom, indent=2) + "\n"
    if "file:" in text or str(Path.cwd()) in text:
        raise SystemExit(f"{path.name} names a path of this machine.")
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
