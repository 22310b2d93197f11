"""Parses a resource server's ``WWW-Authenticate`` (RFC 9110 section 11.6.1, RFC 6750 section 3, RFC 9449 section 7.1).

Invariant: parsing never fails. The rest of a header is ignored after anything that is not a challenge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .._base.records import Record

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = rf'(?s)[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))'
_SCHEME = rf"[\s,]*({_TOKEN})(?![^\s,])"
_TOKEN68 = r"\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))"
_ESCAPED = r"(?s)\\(.)"


class Challenge(Record):
    """One challenge: its scheme, in lower case, and its parameters, with names in lower case."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def error(self) -> str | None:
        """The OAuth error code, if it has one."""
        return self.parameters.get("error")


def challenges(values: Iterable[str]) -> list[Challenge]:
    """All challenges of a response, from all its ``WWW-Authenticate`` headers, in order."""
    found: list[Challenge] = []
    a_scheme, a_parameter, a_token68 = re.compile(_SCHEME), re.compile(_PARAMETER), re.compile(_TOKEN68)
    for value in values:
        position = 0
        value = value[:16_384]  # longer headers are not read: a regular expression must not run on unbounded input
        while scheme := a_scheme.match(value, position):
            position = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := a_parameter.match(value, position):
                name, quoted, plain = parameter.groups()
                parameters.setdefault(name.lower(), re.sub(_ESCAPED, r"\1", quoted) if plain is None else plain)
                position = parameter.end()
            if not parameters and (credentials := a_token68.match(value, position)):
                position = credentials.end()
            found.append(Challenge(scheme.group(1).lower(), parameters))
    return found
