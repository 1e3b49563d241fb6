"""Searches on a cluster as load: one connection per worker, bodies made before the clock runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_sparse.errors import InputError
from neural_sparse.evaluation.load import Answer, Send, System
from neural_sparse.io.files import read_json
from neural_sparse.opensearch.connection import readable_errors
from neural_sparse.opensearch.features import best_passage
from neural_sparse.opensearch.shards import missing

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

PLACEHOLDER = "$query"
Body = dict[str, Any]


def search_body(query: Mapping[str, Any], k: int) -> Body:
    """A search for k ids that counts no total, so that Lucene may skip what cannot be among them."""
    return {"size": k, "_source": False, "track_total_hits": False, "query": dict(query)}


def match_body(text: str, field: str, k: int) -> Body:
    """BM25, as OpenSearch does it unless told otherwise."""
    return search_body({"match": {field: {"query": text}}}, k)


def text_body(
    text: str, field: str, k: int, model_id: str | None = None, analyzer: str | None = None
) -> Body:
    """neural_sparse by text: the cluster makes the weights, by a model (None: the search pipeline's) or analyzer."""
    how: dict[str, Any] = {"query_text": text}
    if model_id is not None:
        how["model_id"] = model_id
    if analyzer is not None:
        how["analyzer"] = analyzer
    return search_body(best_passage({"neural_sparse": {field: how}}, field), k)


class Template:
    """Bodies of searches from a JSON file in which the text "$query" stands for the query's.

    Raises:
        InputError: no such file, no JSON object, nothing that says "$query".
    """

    def __init__(self, path: str | Path) -> None:
        self.value = read_json(path)
        if not isinstance(self.value, dict):
            raise InputError(f"{path}: expected a JSON object, the body of a search")
        if self(PLACEHOLDER + "?") == self.value:
            raise InputError(f'{path}: holds no "{PLACEHOLDER}", which stands for the text of the query')

    def __call__(self, text: str) -> Body:
        filled: Body = _filled(self.value, text)
        return filled


def _filled(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return value.replace(PLACEHOLDER, text)
    if isinstance(value, list):
        return [_filled(one, text) for one in value]
    if isinstance(value, dict):
        return {key: _filled(one, text) for key, one in value.items()}
    return value


def search_system(
    name: str,
    client: OpenSearch,
    index: str,
    bodies: Sequence[Body],
    *,
    pipeline: str | None = None,
    timeout: float = 10.0,
) -> System:
    """A system whose query i is `bodies[i]`. The first is asked once, to see what is wrong with it before the load.

    A connection is opensearch-py's own urllib3 one (its login and certificates included), of which every worker has
    one: a client of many threads keeps a single open connection unless told otherwise, and would make a new one for
    every request. Where the client knows several nodes, workers take them in turn.

    Args:
        pipeline: search pipeline; "_none" for none, None for the index's default.
        timeout: seconds.

    Raises:
        InputError: no query; a cluster that is not there, or refuses the first one.
    """
    if not bodies:
        raise InputError("load needs at least one query")
    params = {"request_cache": "false"}
    if pipeline is not None:
        params["search_pipeline"] = pipeline
    sent = [json.dumps(body, ensure_ascii=False).encode("utf-8", "replace") for body in bodies]
    with readable_errors(f"index {index!r}"):
        client.transport.perform_request("POST", f"/{index}/_search", params=params, body=sent[0])

    hosts = itertools.cycle(client.transport.hosts)

    def connect() -> Send:
        transport = client.transport
        connection = transport.connection_class(**{**transport.kwargs, **next(hosts)})
        return _sender(connection, f"/{index}/_search", params=params, bodies=sent, timeout=timeout)

    return System(name, connect)


def _sender(
    connection: Any, path: str, params: Mapping[str, str], bodies: Sequence[bytes], timeout: float
) -> Callable[[int], Answer]:
    from opensearchpy import exceptions

    headers = {"content-type": "application/json"}

    def send(number: int) -> Answer:
        try:
            _, _, raw = connection.perform_request(
                "POST", path, params, bodies[number], timeout=timeout, headers=headers
            )
        except exceptions.ConnectionTimeout:
            return Answer("timeout")
        except exceptions.ConnectionError:
            return Answer("no connection")
        except exceptions.TransportError as error:
            return Answer(str(error.status_code))
        answer = json.loads(raw)
        took = float(answer.get("took", math.nan))
        if answer.get("timed_out"):
            return Answer("timed out on the server", took)
        if missing(answer):
            return Answer("shards failed", took)
        return Answer(took=took)

    return send
