"""Two kinds of search of one cluster, asked at once, for an interleaving experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neural_sparse.errors import InputError
from neural_sparse.evaluation.interleaving_server import Ask, Hits
from neural_sparse.opensearch.connection import readable_errors
from neural_sparse.opensearch.refusals import cured, reason
from neural_sparse.opensearch.searches import Kind
from neural_sparse.opensearch.shards import missing

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


@dataclass(frozen=True)
class Side:
    """One of the two: an index, and how it is asked."""

    index: str
    kind: Kind


def two_searches(
    client: OpenSearch, a: Side, b: Side, fields: Sequence[str] = (), timeout: float = 10.0
) -> Ask:
    """A function that asks both in one request; a side that fails gives its reason in place of hits.

    Args:
        fields: of the documents, that hits bring along.
        timeout: seconds.
    """

    def ask(text: str, depth: int) -> tuple[Hits | str, Hits | str]:
        lines: list[dict[str, Any]] = []
        for side in (a, b):
            (body,) = side.kind.bodies([text])
            pipeline = {} if side.kind.pipeline is None else {"search_pipeline": side.kind.pipeline}
            lines += [
                {"index": side.index},
                {**body, **pipeline, "size": depth, "_source": list(fields) or False},
            ]
        try:
            with readable_errors(f"{a.index}, {b.index}", timeout):
                answers = client.msearch(body=lines, params={"request_timeout": timeout})["responses"]
        except InputError as error:
            return str(error), str(error)
        first, second = (_hits(answer) for answer in answers)
        return first, second

    return ask


def _hits(answer: Any) -> Hits | str:
    if "error" in answer:
        return cured(reason(answer["error"]))
    if said := missing(answer):
        return said
    return [
        {"id": hit["_id"], **({"fields": hit["_source"]} if "_source" in hit else {})}
        for hit in answer["hits"]["hits"]
    ]
