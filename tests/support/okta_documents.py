"""Okta's published OpenAPI documents: where they are, and whether a request and its answer are what they describe.

Invariant: a body is validated whole against the schema of its operation and status; what is not described fails.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

__all__ = ["Documents", "load_document", "okta_documents_folder"]

# The document names 200 for what Okta was recorded to answer with 201.
OTHER_STATUS = {("/oauth2/v1/clients/{clientId}/roles", "post", "201"): "200"}


def okta_documents_folder() -> Path:
    """The folder with Okta's documents: ``OKTA_SPEC``, or ``shared/okta-spec`` in a folder above this repository.

    Skips the test where there is neither.
    """
    above = [folder / "shared" / "okta-spec" for folder in Path(__file__).parents[3:]]
    named = os.environ.get("OKTA_SPEC")
    for folder in [Path(named)] if named else above:
        if (folder / "oauth.yaml").exists():
            return folder
    pytest.skip("Okta's published documents are not on this machine; set OKTA_SPEC to their folder")


@cache
def load_document(name: str) -> dict[str, Any]:
    """One of the documents: ``management.yaml``. Callers share it, so they must not change it."""
    yaml = pytest.importorskip("yaml")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (okta_documents_folder() / name).read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.load(text, loader)
    return document


@cache
def _schemas(name: str) -> dict[str, Any]:
    return _without_circles(_as_json_schema(load_document(name)["components"]["schemas"]))


class Documents:
    """The documents of the management API and of OAuth; skips the test where they are missing."""

    def __init__(self) -> None:
        pytest.importorskip("jsonschema")
        okta_documents_folder()

    def check(self, response: requests.Response) -> str:
        """Fails unless the request and its answer are described; returns the operation: ``GET /api/v1/apps/{appId}``."""
        method, path = str(response.request.method), urlsplit(str(response.request.url)).path
        name, template = self._find(method, path)
        document = load_document(name)
        operation = document["paths"][template][method.lower()]
        if response.request.body:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            self._validate(name, schema, json.loads(response.request.body), f"sent to {method} {template}")
        status = str(response.status_code)
        answer = operation["responses"][OTHER_STATUS.get((template, method.lower(), status), status)]
        while "$ref" in answer:
            answer = _resolve(document, answer["$ref"])
        content = answer.get("content", {}).get("application/json", {})
        if "schema" not in content:
            # Okta answers {} where its document has no body.
            assert response.content in (b"", b"{}"), f"{method} {template} has no body in Okta's document"
        elif response.content:
            schema = content["schema"]
            self._validate(name, schema, response.json(), f"answered by {method} {template}")
        return f"{method} {template}"

    def _find(self, method: str, path: str) -> tuple[str, str]:
        for name in ("management.yaml", "oauth.yaml"):
            paths = load_document(name)["paths"]
            # A template without parameters takes precedence over one with parameters.
            for template in sorted(paths, key=lambda one: one.count("{")):
                pattern = re.sub(r"\\{[^/]+?\\}", "[^/]+", re.escape(template))
                if re.fullmatch(pattern, path) and method.lower() in paths[template]:
                    return name, template
        raise AssertionError(f"Okta's documents do not have {method} {path}")

    def _validate(self, name: str, schema: dict[str, Any], value: object, what: str) -> None:
        import jsonschema  # optional: __init__ skips without it

        whole = {"components": {"schemas": _schemas(name)}, **_as_json_schema(schema)}
        error = jsonschema.exceptions.best_match(jsonschema.Draft4Validator(whole).iter_errors(value))
        assert error is None, (what, [(leaf.message[:200], list(leaf.absolute_path)) for leaf in _leaves(error)])


def _as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema, which lacks ``nullable`` and a ``discriminator`` that selects from ``oneOf``."""
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: _as_json_schema(item) for name, item in node.items() if name not in ("example", "examples")}
    mapping = node.get("discriminator", {}).get("mapping")
    if "oneOf" in node:
        node["anyOf"] = node.pop("oneOf")
    if "anyOf" in node and mapping:
        member = node["discriminator"]["propertyName"]
        node["anyOf"] = [
            {"allOf": [{"properties": {member: {"enum": [value]}}}, {"$ref": ref}]} for value, ref in mapping.items()
        ]
    if node.get("nullable"):
        return {"anyOf": [{"type": "null"}, {name: item for name, item in node.items() if name != "nullable"}]}
    return node


def _without_circles(schemas: dict[str, Any]) -> dict[str, Any]:
    """Removes the list of children from each parent that its children refer back to: a validator would never end."""
    for name, schema in schemas.items():
        children = [child.get("$ref", "").rpartition("/")[2] for child in schema.get("anyOf", [])]
        parent = {"$ref": f"#/components/schemas/{name}"}
        if any(parent in schemas[child].get("allOf", []) for child in children if child in schemas):
            del schema["anyOf"]
    return schemas


def _resolve(document: dict[str, Any], ref: str) -> Any:
    found: Any = document
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _leaves(error: Any) -> list[Any]:
    return [leaf for inner in error.context for leaf in _leaves(inner)] if error.context else [error]
