"""What a server's refusal means, and what cures it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PERMISSION = re.compile(r"no permissions for \[([^\]]*)\](?: and User \[name=([^,\]]*))?")

# (what the server says, what cures it)
_CURES = (
    (
        "allow_registering_model_via_local_file",
        "an administrator has to set plugins.ml_commons.allow_registering_model_via_local_file to true "
        "(`neural-sparse deploy --allow-settings` does so for the time of the upload)",
    ),
    (
        "no eligible node found",
        "the cluster has no ML nodes: add one (node.roles: [ml]), or an administrator sets "
        "plugins.ml_commons.only_run_on_ml_node to false (`neural-sparse deploy --allow-settings` does)",
    ),
    (
        "Memory Circuit Breaker is open",
        "the node is short of memory: free some or take a larger node; what it may fill before it refuses is "
        "plugins.ml_commons.native_memory_threshold and jvm_heap_memory_threshold, in percent",
    ),
    (
        "Disk Circuit Breaker is open",
        "the node's disk is too full for models: make room (what has to stay free: "
        "plugins.ml_commons.disk_free_space_threshold)",
    ),
    (
        "max local model per node limit",
        "the nodes run as many models as they may (plugins.ml_commons.max_model_on_node, 10): remove one, as "
        "`neural-sparse deploy OLD_EXPORT --remove` does",
    ),
    (
        "flood-stage watermark",
        "the disk of a node is almost full and its indexes are read-only: make room, or an administrator raises "
        "cluster.routing.allocation.disk.watermark.flood_stage; the server lifts the block by itself then",
    ),
    (
        "cluster create-index blocked",
        "the cluster makes no new indexes, as when the disks of all its nodes are too full: make room, or an "
        "administrator raises cluster.routing.allocation.disk.watermark.high and takes cluster.blocks.create_index "
        "back",
    ),
    (
        "not matching the trusted connector endpoint regex",
        "the cluster does not send texts to that address: an administrator has to list a pattern of it in "
        "plugins.ml_commons.trusted_connector_endpoints_regex, such as "
        r'["^https://encoder\\.example\\.org/.*$"], beside those that are to stay',
    ),
    (
        "has private ip address",
        "an administrator has to set plugins.ml_commons.connector.private_ip_enabled to true, for the address of the "
        "endpoint is one of a private network",
    ),
    (
        "Error communicating with remote model",
        "the nodes of the cluster do not reach the endpoint of the remote model: is it running, and does the address "
        "name it from there (localhost is each node itself)?",
    ),
    (
        "contains invalid dot usage",
        'a stored field of token weights holds "."; leave it out of the _source of the mapping ("excludes")',
    ),
)


def of_endpoint(words: str, status: int | str) -> str | None:
    """What it means where the endpoint of a remote model refused what the cluster asked."""
    if "Error from remote service" not in words or status not in (401, 403):
        return None
    return (
        f"the endpoint of the remote model refused the cluster's request ({status}): {words}; it wants another key "
        "(NEURAL_SPARSE_ENDPOINT_KEY) or role"
    )


def reason(error: Any) -> str:
    """The server's own words for what lies at the bottom: "all shards failed" says nothing.

    Args:
        error: the value of "error" in an answer, of one document of a _bulk, or of one search of an _msearch.
    """
    if not isinstance(error, Mapping):
        return str(error)
    words: list[str] = []
    roots = [*error.get("root_cause", ()), *(one.get("reason", {}) for one in error.get("failed_shards", ()))]
    said = _said(error)
    if roots and said in ("all shards failed", "Partial shards failure", ""):
        said = _said(roots[0])
    words.append(said)
    cause: Any = next((one for one in (error, *reversed(roots)) if one.get("caused_by")), {})
    while isinstance(cause := cause.get("caused_by"), Mapping):
        deeper = _said(cause)
        if deeper and not any(deeper in before for before in words):
            words.append(deeper)
    return ": ".join(filter(None, words)) or str(dict(error))


def _said(error: Any) -> str:
    if not isinstance(error, Mapping):
        return str(error or "")
    return str(error.get("reason") or error.get("type") or "")


def lacking(words: str) -> tuple[str, str] | None:
    """(permission, user) where the security plugin says that one is missing."""
    found = _PERMISSION.search(words)
    return (found[1], found[2] or "") if found else None


def cured(words: str) -> str:
    """`words` of the server, with what cures it where that is known."""
    if (missing := lacking(words)) is not None:
        permission, user = missing
        return (
            f"the user {user or 'of this login'} lacks the permission {permission}; an administrator gives it by a "
            f"role ({_role(permission)})"
        )
    cure = next((cure for sign, cure in _CURES if sign.lower() in words.lower()), None)
    return f"{words}: {cure}" if cure else words


def _role(permission: str) -> str:
    if "/ml/" in permission:
        return "ml_full_access holds all of ML Commons"
    if permission.startswith("cluster:admin/settings"):
        return "one with cluster:admin/settings/update"
    if "pipeline" in permission:
        return "one with cluster:admin/ingest/pipeline/* and cluster:admin/search/pipeline/*"
    if permission.startswith("indices:"):
        return "one with the action group crud, create_index or manage of the index"
    return "one that lists it"
