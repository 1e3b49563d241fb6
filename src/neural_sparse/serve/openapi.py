"""The server described in OpenAPI's terms, from the requests' own models."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from neural_sparse.serve.requests import Delete, EncodeDocuments, EncodeQuery, Judge, Request, Search, Upsert

_POST: dict[str, tuple[str, type[Request]]] = {
    "/search": ("The best documents of a query, with its cost and how they were found (`mode`)", Search),
    "/encode/query": ("The tokens of a query with their weights", EncodeQuery),
    "/encode/documents": ("The tokens of texts, as the model weighs them", EncodeDocuments),
    "/documents": ("Add or replace documents; on the disk when the answer comes", Upsert),
    "/judgements": ("Judge a document for a query: kept in BEIR layout", Judge),
}
_DELETE: dict[str, tuple[str, type[Request]]] = {"/documents": ("Delete documents by id", Delete)}
_GET: dict[str, tuple[str, dict[str, bool]]] = {
    "/indexes": ("What can be searched, and how (`modes`, by k)", {}),
    "/document": ("A document whole: text, vector, what a query finds", {"id": True, "index": False, "query": False}),
    "/judgements": ("The judgements of a query", {"query": True}),
    "/healthz": ("Whether the server is up", {}),
    "/metrics": ("Latencies, queue and errors, for Prometheus", {}),
}  # fmt: skip
_REFUSALS = {
    "401": "no key, or a wrong one",
    "404": "no such index or document",
    "413": "the request is too large",
    "422": "the request is no good; the reason says why",
    "429": "too many requests wait already",
}


def description(keyed: bool) -> dict[str, Any]:
    """
    Args:
        keyed: an API key is asked for.
    """
    kinds = list(dict.fromkeys(kind for _, kind in (*_POST.values(), *_DELETE.values())))
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template="#/components/schemas/{model}"
    )
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    components: dict[str, Any] = {"schemas": {**schemas.get("$defs", {}), "Error": error}}
    if keyed:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    responses = {
        "200": {"description": "the answer", "content": {"application/json": {}}},
        **{
            status: {
                "description": reason,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }
            for status, reason in _REFUSALS.items()
        },
    }
    paths: dict[str, dict[str, Any]] = {}
    for method, requests in (("post", _POST), ("delete", _DELETE)):
        for path, (summary, kind) in requests.items():
            schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
            body = {"required": True, "content": {"application/json": {"schema": schema}}}
            operation = {"summary": summary, "requestBody": body, "responses": responses}
            paths.setdefault(path, {})[method] = operation
    for path, (summary, parameters) in _GET.items():
        paths.setdefault(path, {})["get"] = {
            "summary": summary,
            "parameters": [
                {"name": name, "in": "query", "required": required, "schema": {"type": "string"}}
                for name, required in parameters.items()
            ],
            "responses": responses,
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "neural-sparse", "version": version("neural-sparse")},
        "paths": paths,
        "components": components,
        **({"security": [{"key": []}]} if keyed else {}),
    }
