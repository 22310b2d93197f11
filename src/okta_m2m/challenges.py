"""What a resource server says in ``WWW-Authenticate`` (RFC 9110 section 11.6.1, RFC 6750 section 3, RFC 9449 section 7.1).

Invariant: reading never fails; what is not a challenge is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Challenge", "challenges"]

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))', re.DOTALL)
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?![^\s,])")
_TOKEN68 = re.compile(r"\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: its scheme in lower case, its parameters with their names in lower case."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def error(self) -> str | None:
        """The OAuth error code, if it names one."""
        return self.parameters.get("error")


def challenges(values: Iterable[str]) -> list[Challenge]:
    """All challenges of a response, from all its ``WWW-Authenticate`` headers, in order."""
    found: list[Challenge] = []
    for value in values:
        position = 0
        value = value[:16_384]  # a header is no place for more, and regular expressions are no place for a flood
        while scheme := _SCHEME.match(value, position):
            position = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(value, position):
                name, quoted, plain = parameter.groups()
                parameters.setdefault(name.lower(), _ESCAPED.sub(r"\1", quoted) if plain is None else plain)
                position = parameter.end()
            if not parameters and (credentials := _TOKEN68.match(value, position)):
                position = credentials.end()
            found.append(Challenge(scheme.group(1).lower(), parameters))
    return found
