"""Answers that lack what a shard holds: OpenSearch gives them with status 200."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neural_sparse.errors import InputError
from neural_sparse.opensearch.refusals import cured, reason

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


def missing(answer: Mapping[str, Any]) -> str:
    """How many shards are not in the answer of a search or count, and why; "" of a whole one."""
    shards = answer.get("_shards", {})
    total, failed = int(shards.get("total", 0)), int(shards.get("failed", 0))
    absent = total - int(shards.get("successful", total))  # with those of which no copy is there
    if not max(failed, absent):
        return "the server stopped before the end (timed_out)" if answer.get("timed_out") else ""
    said = {cured(reason(failure.get("reason"))) for failure in shards.get("failures", ())}
    why = f" ({'; '.join(sorted(said))})" if said else ""
    return (
        f"{max(failed, absent)} of {total} shards did not answer{why}, so what they hold is missing: is a node of the "
        "cluster down? GET /_cluster/health says when it is well again (yellow); an index with replicas stays whole"
    )


def require_whole(answer: Mapping[str, Any], where: str) -> None:
    """Raises InputError: an answer without what some shard holds."""
    if said := missing(answer):
        raise InputError(f"{where}: {said}")


def count_documents(client: OpenSearch, index: str) -> int:
    """Documents that searches of an index can find. Raises InputError: shards that do not answer."""
    answer = client.count(index=index)
    require_whole(answer, f"index {index!r}")
    return int(answer["count"])
