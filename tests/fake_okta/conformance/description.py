"""Where a request or an answer contradicts Okta's published OpenAPI documents.

Invariant: method, path, status and media type select a schema, and the whole body is validated against it. What the
document does not describe is a contradiction too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from openapi_schema_validator import OAS30ReadValidator, OAS30WriteValidator
from referencing import Registry, Resource, Specification

__all__ = ["Description", "Exchange"]

_NAME = "urn:okta"


@dataclass(frozen=True)
class Exchange:
    """A request and its answer, as sent."""

    method: str
    path: str
    request_type: str | None
    request_body: bytes
    status: int = 0
    answer_type: str | None = None
    answer_body: bytes = b""


class Description:
    """One of the documents. ``version`` is its own version."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.version: str = document["info"]["version"]
        _end_circles(document["components"]["schemas"])
        resource = Resource(contents=document, specification=Specification.OPAQUE)
        self._registry: Registry[Any] = Registry().with_resource(_NAME, resource)
        self._templates = {
            template: re.compile(re.sub(r"\\{[^{}]*\\}", "[^/]+", re.escape(template)))
            for template in document["paths"]
        }

    def of_request(self, exchange: Exchange) -> list[str]:
        """The contradictions between the document and the request."""
        found = self._operation(exchange)
        if found is None:
            return [f"{exchange.method} {exchange.path}: not described"]
        where, operation = found
        if "requestBody" not in operation:
            return [f"{self._name(exchange)}: a body is not described"] if exchange.request_body else []
        return [
            f"{self._name(exchange)}: {problem}"
            for problem in self._content(
                (*where, "requestBody"),
                operation["requestBody"],
                exchange.request_type,
                exchange.request_body,
                OAS30WriteValidator,
            )
        ]

    def of_answer(self, exchange: Exchange) -> list[str]:
        """The contradictions between the document and the answer."""
        found = self._operation(exchange)
        if found is None:
            return [f"{exchange.method} {exchange.path}: not described"]
        where, operation = found
        status = str(exchange.status)
        name = f"{self._name(exchange)} {status}"
        if status not in operation["responses"]:
            return [f"{name}: status not described"]
        return [
            f"{name}: {problem}"
            for problem in self._content(
                (*where, "responses", status),
                operation["responses"][status],
                exchange.answer_type,
                exchange.answer_body,
                OAS30ReadValidator,
            )
        ]

    def _name(self, exchange: Exchange) -> str:
        return f"{exchange.method} {self._template(exchange.path)}"

    def _template(self, path: str) -> str | None:
        """The template of a path. A template without parameters takes precedence over one with parameters."""
        fitting = [template for template, pattern in self._templates.items() if pattern.fullmatch(path)]
        return min(fitting, key=lambda template: template.count("{"), default=None)

    def _operation(self, exchange: Exchange) -> tuple[tuple[str, ...], Mapping[str, Any]] | None:
        template = self._template(exchange.path)
        method = exchange.method.lower()
        if template is None or method not in self.document["paths"][template]:
            return None
        return ("paths", template, method), self.document["paths"][template][method]

    def _content(
        self, where: tuple[str, ...], described: Mapping[str, Any], kind: str | None, body: bytes, validator: Any
    ) -> Iterator[str]:
        if "$ref" in described:
            where = tuple(described["$ref"].removeprefix("#/").split("/"))
            described = self.document
            for step in where:
                described = described[step]
        kinds = described.get("content", {})
        media_type = (kind or "").partition(";")[0]
        if not body:
            if kinds:
                yield "empty body"
            return
        if media_type not in kinds:
            yield f"{media_type or 'no media type'} not described"
            return
        form = media_type == "application/x-www-form-urlencoded"
        content = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True)) if form else json.loads(body)
        pointer = "/".join(
            part.replace("~", "~0").replace("/", "~1") for part in (*where, "content", media_type, "schema")
        )
        schema = {"$ref": f"{_NAME}#/{pointer}"}
        for error in validator(schema, registry=self._registry).iter_errors(content):
            yield f"{'.'.join(map(str, error.absolute_path)) or 'body'}: {_said(error)}"


def _end_circles(schemas: dict[str, Any]) -> None:
    """Ends the circle of a base type that is one of its subtypes, each of which is all of the base type.

    A subtype means its base type without the list of subtypes.
    """
    for name, schema in list(schemas.items()):
        ref = {"$ref": f"#/components/schemas/{name}"}
        for choice in schema.get("oneOf", []):
            subtype = schemas.get(choice.get("$ref", "").rpartition("/")[2], {})
            if ref in subtype.get("allOf", []):
                base = {key: value for key, value in schema.items() if key != "oneOf"}
                subtype["allOf"] = [base if part == ref else part for part in subtype["allOf"]]


def _said(error: Any) -> str:
    """The validation error without the value, which may be a token."""
    if error.validator in ("required", "enum", "type", "format", "pattern"):
        return f"{error.validator} {error.validator_value!r}"
    return f"{error.validator}"
