"""Models of ML Commons: found by their content, uploaded where something is missing, deployed, removed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from neural_sparse.errors import InputError
from neural_sparse.opensearch.deploy.server import Server
from neural_sparse.opensearch.packages import CHUNK_BYTES, Package
from neural_sparse.opensearch.refusals import cured

logger = logging.getLogger(__name__)

RUNS = ("DEPLOYED", "PARTIALLY_DEPLOYED")
_LOADED = (*RUNS, "DEPLOYING")
_UNDEPLOYS_WITHIN = 10.0  # seconds, after which it is asked to once more
_HALF = ("REGISTERING", "UPLOADING")
_ORDER = (*RUNS, "DEPLOYING", "REGISTERED", "UNDEPLOYED", "DEPLOY_FAILED", *_HALF)
_UNDER_WAY = "Duplicate deploy model task"  # a node that restarted does it by itself
# What the versions say of a model that lacks a chunk.
_INCOMPLETE = ("Fail to find model chunk", "Failed to deploy model", "Failed to retrieve model chunk")


@dataclass(frozen=True)
class Running:
    """A model that answers.

    Attributes:
        how: it came there: "there already", "upload finished", "uploaded", or "deployed again".
    """

    model_id: str
    how: str


class Models:
    """The models of a cluster."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.api = server.client.plugins.ml

    def find(self, package: Package) -> dict[str, str]:
        """{id: state} of the models with this name and content, the best first."""
        terms = {"model_content_hash_value": package.sha256, "name.keyword": package.name}
        body = {
            "size": 100,
            "query": {"bool": {"filter": [{"term": {key: value}} for key, value in terms.items()]}},
        }
        found = self.search(body)
        states = {hit["_id"]: self.state(hit["_id"]) for hit in found}
        there = {model_id: state for model_id, state in states.items() if state is not None}
        return dict(sorted(there.items(), key=lambda pair: _rank(pair[1])))

    def answers(self, package: Package) -> bool:
        """Whether a model with this content is deployed."""
        return any(state in RUNS for state in self.find(package).values())

    def state(self, model_id: str) -> str | None:
        """None: there is no such model."""
        from opensearchpy import exceptions

        def asked() -> str | None:
            try:
                return str(self.api.get_model(model_id=model_id)["model_state"])
            except exceptions.NotFoundError:
                return None

        return self.server.ask(asked)

    def ensure(self, package: Package) -> Running:
        """Have the package's model answer, with as little as is needed for that.

        Raises:
            InputError: the server refuses, or a time limit passed.
        """
        there = self.find(package)
        model_id, state = next(iter(there.items()), (None, None))
        how = "deployed again"
        if model_id is None:
            model_id, state, how = self._register(package), "REGISTERING", "uploaded"
        elif state in RUNS:
            return Running(model_id, "there already")
        if self._upload(model_id, package, complete=state not in _HALF) and how == "deployed again":
            how = "upload finished"
        try:
            self.deploy(model_id)
        except _ChunkMissing:
            logger.info("%s: parts of it are missing", package.name)
            self._upload(model_id, package, all_of_it=True)
            self.deploy(model_id)
            how = "upload finished"
        except _OtherContent:
            logger.info("%s: what was uploaded is not its content; once more from the start", package.name)
            self.delete(model_id)
            model_id, how = self._register(package), "uploaded"
            self._upload(model_id, package)
            self.deploy(model_id)
        return Running(model_id, how)

    def weights(self, function: str, model_id: str, text: str) -> dict[str, float]:
        """{token: weight} that a deployed model answers with. function: sparse_encoding or sparse_tokenize."""
        answer = self.server.ask(
            self.api.predict, algorithm_name=function, model_id=model_id, body={"text_docs": [text]}
        )
        try:
            (weights,) = answer["inference_results"][0]["output"][0]["dataAsMap"]["response"]
            return {str(token): float(weight) for token, weight in weights.items()}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise InputError(
                f"{self.server.where}: the model {model_id} answers no {{token: weight}} for a text but "
                f"{json.dumps(answer)[:300]}"
            ) from None

    def delete(self, model_id: str) -> None:
        """Undeploy and delete; nothing happens where it is gone already."""
        from opensearchpy import exceptions

        state = self.state(model_id)
        if state is None:
            return
        if state in (*_LOADED, "DEPLOY_FAILED"):
            self._undeploy(model_id)

        def deleted() -> None:
            try:
                self.api.delete_model(model_id=model_id)
            except exceptions.NotFoundError:
                return

        self.server.ask(deleted)

    def _register(self, package: Package) -> str:
        answer = self.server.ask(self.api.register_model_meta, body=package.registration())
        return str(answer["model_id"])

    def _upload(
        self, model_id: str, package: Package, complete: bool = False, all_of_it: bool = False
    ) -> bool:
        """Send the chunks that are not there; whether there were any.

        Args:
            complete: the server takes the model for complete, as it does when the last chunk has come, whatever is
                missing. If it does not, the last one goes again, at the end.
        """
        total = package.total_chunks
        have = set() if all_of_it else self._chunks(model_id)
        if not complete:
            have.discard(total - 1)
        missing = [number for number in range(total) if number not in have]
        if not missing:
            return False
        with (
            package.path.open("rb") as content,
            tqdm(total=package.size, unit="B", unit_scale=True, desc=package.name, disable=None) as bar,
        ):
            bar.update(package.size - sum(_length(package, number) for number in missing))
            for number in missing:
                content.seek(number * CHUNK_BYTES)
                chunk = content.read(CHUNK_BYTES)
                self.server.ask(
                    self.api.upload_chunk,
                    model_id=model_id,
                    chunk_number=number,
                    body=chunk,
                    params={"request_timeout": 300},
                )
                bar.update(len(chunk))
        self._wait_while(model_id, _HALF)
        return True

    def _chunks(self, model_id: str) -> set[int]:
        """Numbers of the chunks that are there, those of the last second perhaps not among them."""
        body = {"size": 10_000, "_source": ["chunk_number"], "query": {"term": {"model_id": model_id}}}
        sources = (hit["_source"] for hit in self.search(body))
        return {int(source["chunk_number"]) for source in sources if "chunk_number" in source}

    def search(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Hits among models and their chunks, those of the last second perhaps not among them."""

        def asked() -> Any:
            return self.api.transport.perform_request("POST", "/_plugins/_ml/models/_search", body=body)

        hits: list[dict[str, Any]] = self.server.ask(asked)["hits"]["hits"]
        return hits

    def deploy(self, model_id: str) -> None:
        """Deploy and wait until the model answers. Raises InputError: it cannot, or not in time."""
        patience = self.server.patience
        end = patience.clock() + patience.task
        while True:
            outages, under_way = self.server.outages, False
            task_id = self.server.ask(self.api.deploy_model, model_id=model_id)["task_id"]
            # A server that was away forgot what it was doing.
            while self.server.outages == outages and not under_way:
                task = self._task(task_id)
                state = self.state(model_id)
                if state in RUNS and task.get("state") not in ("CREATED", "RUNNING"):
                    if task.get("state") == "COMPLETED_WITH_ERROR":
                        logger.warning("not on every node: %s", _task_error(task))
                    return
                if task.get("state", state) in ("FAILED", "CANCELLED", "DEPLOY_FAILED"):
                    under_way = _UNDER_WAY in _task_error(task)
                    if not under_way:
                        self._refused(task)
                if patience.clock() > end:
                    raise InputError(
                        f"{self.server.where}: the model {model_id} is still {state} after {patience.task:g} s; look "
                        f"at GET /_plugins/_ml/tasks/{task_id}, and run this again or allow more time"
                    )
                patience.wait(patience.look)
            if not under_way and self.state(model_id) in RUNS:
                return

    def _task(self, task_id: str) -> Mapping[str, Any]:
        from opensearchpy import exceptions

        def asked() -> Mapping[str, Any]:
            try:
                task: Mapping[str, Any] = self.api.get_task(task_id=task_id)
                return task
            except exceptions.NotFoundError:
                return {}

        return self.server.ask(asked)

    def _refused(self, task: Mapping[str, Any]) -> None:
        words = _task_error(task)
        if any(sign in words for sign in _INCOMPLETE):
            raise _ChunkMissing(words)
        if "content changed" in words:
            raise _OtherContent(words)
        raise InputError(f"{self.server.where}: the model could not be deployed: {cured(words)}")

    def _undeploy(self, model_id: str) -> None:
        """Asked again where the model stays: the server's look at its nodes may put back what it has just undone."""
        patience = self.server.patience
        end = patience.clock() + patience.task
        while True:
            self.server.ask(self.api.undeploy_model, body={"model_ids": [model_id]})
            soon = min(end, patience.clock() + _UNDEPLOYS_WITHIN)
            while self.state(model_id) in _LOADED:
                if patience.clock() > soon:
                    break
                patience.wait(patience.look)
            else:
                return
            if patience.clock() > end:
                raise self._late(model_id)

    def _late(self, model_id: str) -> InputError:
        seconds, state = self.server.patience.task, self.state(model_id)
        return InputError(
            f"{self.server.where}: the model {model_id} is still {state} after {seconds:g} s; "
            "run this again, or see what its node logs"
        )

    def _wait_while(self, model_id: str, states: tuple[str, ...]) -> None:
        patience = self.server.patience
        end = patience.clock() + patience.task
        while self.state(model_id) in states:
            if patience.clock() > end:
                raise self._late(model_id)
            patience.wait(patience.look)


class _ChunkMissing(Exception):
    pass


class _OtherContent(Exception):
    pass


def _rank(state: str) -> int:
    return _ORDER.index(state) if state in _ORDER else len(_ORDER)


def _length(package: Package, number: int) -> int:
    return min(CHUNK_BYTES, package.size - number * CHUNK_BYTES)


def _task_error(task: Mapping[str, Any]) -> str:
    """What its nodes say; ML Commons writes {node: reason} as JSON into a string."""
    error = task.get("error") or f"its task is {task.get('state', 'gone')}"
    try:
        by_node = json.loads(error)
    except (TypeError, ValueError):
        return str(error)
    return (
        "; ".join(sorted({str(words) for words in by_node.values()}))
        if isinstance(by_node, dict)
        else str(error)
    )
