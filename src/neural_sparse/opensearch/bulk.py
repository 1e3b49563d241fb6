"""Sending many documents: in batches the server can take, each again until it is in, and on from where it stopped."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, write_json
from neural_sparse.opensearch.connection import readable_errors
from neural_sparse.opensearch.refusals import cured, of_endpoint, reason

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

logger = logging.getLogger(__name__)

_BUSY = {429, 502, 503, 504}  # worth another try, of a request as of one of its documents
_TOO_LARGE = 413
_NODE_LOST = {  # between the node that was asked and the one that holds the shard; status 500
    "connect_transport_exception",
    "node_closed_exception",
    "node_disconnected_exception",
    "node_not_connected_exception",
    "send_request_transport_exception",
}


@dataclass(frozen=True)
class BulkSettings:
    """How documents are sent.

    Attributes:
        documents, bytes: most of one request. Fewer are sent after the server said that it is busy.
        retries: of one request before giving up; first_wait: seconds before the first, doubled each time.
        longest_wait: seconds.
        copies: of its shard, the primary one among them, that have to be in place before a document is taken; None: as
            the index says, which is the primary one alone. A document that was taken is on the disk of every copy that
            was in place.
        shard_wait: seconds that the server may wait for such a shard before it answers that it is not there (503).
        wait: how to wait.
    """

    documents: int = 500
    bytes: int = 5_000_000
    retries: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    copies: int | Literal["all"] | None = None
    shard_wait: float = 20.0
    wait: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if self.documents < 1 or self.bytes < 1 or self.retries < 0:
            raise InputError("bulk requests need at least one document and one byte, and no negative retries")
        if isinstance(self.copies, int) and self.copies < 1:
            raise InputError(f'copies is "all" or at least 1, not {self.copies}')

    def parameters(self, client: OpenSearch) -> dict[str, Any]:
        """Of a bulk request."""
        copies = {} if self.copies is None else {"wait_for_active_shards": str(self.copies)}
        # Without a request_timeout beside it, opensearch-py takes "timeout" for its own.
        own = client.transport.kwargs.get("timeout", 10.0)
        return {"request_timeout": own, "timeout": f"{max(1, round(1000 * self.shard_wait))}ms", **copies}


@dataclass(frozen=True)
class FailedDocument:
    """A document that the server refused, its HTTP status and its reason."""

    doc_id: str
    status: int
    reason: str


@dataclass
class BulkReport:
    """What became of the documents.

    Attributes:
        indexed: sent and accepted now. resumed: dealt with by an earlier run.
        failed: refused, of both runs; sending them again would not help.
        retries: requests, or parts of them, that were sent again.
    """

    indexed: int = 0
    resumed: int = 0
    failed: list[FailedDocument] = field(default_factory=list)
    retries: int = 0


class Progress:
    """The resume file: how many leading documents are dealt with, and which of them the server refused.

    Args:
        path: None keeps no file. The file is replaced as a whole after every request.
        about: what the documents are and where they go; of an existing file it has to be the same, but for
            "uuid": an index made anew starts from its first document.

    Raises:
        InputError: the file belongs to other documents.
    """

    def __init__(self, path: Path | None, about: dict[str, Any]) -> None:
        self.path = path
        self.about = about
        self.done = 0
        self.failed: list[FailedDocument] = []
        if path is None or not path.exists():
            return
        before = read_json(path)
        changed = [key for key in about if key != "uuid" and before.get(key) != about[key]]
        if changed:
            raise InputError(
                f"{path} is the resume file of other work ({', '.join(changed)} differ); delete it or name another"
            )
        if before["uuid"] != about["uuid"]:
            logger.warning(
                "the index was made anew since %s was written; starting from its first document", path
            )
            return
        self.done = before["done"]
        self.failed = [FailedDocument(**row) for row in before["failed"]]

    def add(self, count: int, failed: Sequence[FailedDocument]) -> None:
        self.done += count
        self.failed += failed
        if self.path is not None:
            rows = [asdict(one) for one in self.failed]
            write_json(self.path, {**self.about, "done": self.done, "failed": rows})


def send(
    client: OpenSearch,
    index: str,
    doc_ids: Sequence[str],
    sources: Callable[[int], Iterator[str]],
    progress: Progress,
    settings: BulkSettings,
    show_progress: bool = True,
    pipeline: str = "_none",
) -> BulkReport:
    """Index documents under their own ids, so that one sent twice is there once.

    Args:
        sources: sources(row) yields the documents' JSON from that row on.
        pipeline: ingest pipeline; none, unless named: documents that bring their vectors are not to be encoded again by
            a default pipeline of the index.

    Raises:
        InputError: the server went on being busy or away through all retries, or refused a whole request (as where the
            user may not write, or the index is read-only). What
            was accepted before stays, and the resume file says where to go on.
    """
    sender = _Sender(
        client,
        index,
        settings=settings,
        report=BulkReport(resumed=progress.done),
        size=settings.documents,
        pipeline=pipeline,
    )
    documents = (
        (doc_id, f'{{"index":{{"_id":{json.dumps(doc_id)}}}}}\n{source}\n')
        for doc_id, source in zip(doc_ids[progress.done :], sources(progress.done), strict=True)
    )
    with tqdm(
        total=len(doc_ids),
        initial=progress.done,
        desc="indexing",
        unit="doc",
        disable=None if show_progress else True,
    ) as bar:
        for batch in sender.batches(documents):
            failed = sender.send(batch)
            progress.add(len(batch), failed)
            sender.report.indexed += len(batch) - len(failed)
            bar.update(len(batch))
    sender.report.failed = list(progress.failed)
    return sender.report


def delete(client: OpenSearch, index: str, doc_ids: Sequence[str], settings: BulkSettings) -> int:
    """Delete documents by id; returns how many were there, as far as the server's answers came.

    Raises:
        InputError: as `send`; a document that the server refuses to delete. What was deleted before stays deleted.
    """
    sender = _Sender(
        client, index, settings=settings, report=BulkReport(), size=settings.documents, pipeline="_none"
    )
    lines = ((doc_id, f'{{"delete":{{"_id":{json.dumps(doc_id)}}}}}\n') for doc_id in doc_ids)
    for batch in sender.batches(lines):
        if failed := sender.send(batch):
            raise InputError(f"index {index!r}: {failed[0].doc_id!r} was not deleted: {failed[0].reason}")
    return sender.deleted


@dataclass
class _Sender:
    """Requests of a size that the server can take: halved when it is too busy, slowly larger when it is not."""

    client: OpenSearch
    index: str
    settings: BulkSettings
    report: BulkReport
    size: int
    pipeline: str
    deleted: int = 0

    def batches(self, documents: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
        """(id, its lines of a bulk request) in groups within both limits, or of one document."""
        batch: list[tuple[str, str]] = []
        total = 0
        for doc_id, lines in documents:
            length = len(lines.encode())
            if batch and (len(batch) >= self.size or total + length > self.settings.bytes):
                yield batch
                batch, total = [], 0
            batch.append((doc_id, lines))
            total += length
        if batch:
            yield batch

    def send(self, batch: list[tuple[str, str]]) -> list[FailedDocument]:
        """Send until every document is in or refused; those refused."""
        settings = self.settings
        failed: list[FailedDocument] = []
        waiting = batch
        for attempt in range(settings.retries + 1):
            waiting, refused, cause = self._try(waiting)
            failed += refused
            if not waiting:
                if attempt == 0:
                    self.size = min(settings.documents, self.size + self.size // 4 + 1)
                return failed
            self.size = max(1, self.size // 2)
            if attempt < settings.retries:
                self.report.retries += 1
                pause = min(settings.longest_wait, settings.first_wait * 2**attempt)
                logger.info("%s: %d documents again in %.0f s", cause, len(waiting), pause)
                settings.wait(pause)
        raise InputError(
            f"{self.index}: the server did not take {len(waiting):,} documents in {settings.retries + 1} attempts "
            f"({cause}). Nothing is lost: when it is well again, the same call (with the same resume file, if any) "
            "goes on from there; smaller requests (documents, bytes) may help"
        )

    def _try(self, batch: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[FailedDocument], str]:
        """One request: the documents to be sent again, those refused, and why again."""
        from opensearchpy import exceptions

        try:
            body = "".join(lines for _, lines in batch)
            params = {"pipeline": self.pipeline, **self.settings.parameters(self.client)}
            answer = self.client.bulk(body=body, index=self.index, params=params)
        except exceptions.SSLError:
            with readable_errors(self.index):
                raise
        except (exceptions.ConnectionTimeout, exceptions.ConnectionError) as error:
            return batch, [], f"no answer: {type(error).__name__}"
        except exceptions.TransportError as error:
            if error.status_code in _BUSY:
                return batch, [], f"HTTP {error.status_code}"
            if error.status_code == _TOO_LARGE:
                return self._halves(batch)
            with readable_errors(self.index):
                raise
        results = [result.get("result") for item in answer["items"] for result in item.values()]
        self.deleted += results.count("deleted")
        again, refused, cause = _sorted_out(batch, answer["items"])
        if len(refused) == len(batch) and all(one.status == 403 for one in refused):
            # What is refused to the user, or of a whole index, is refused to the rest of the documents as well.
            raise InputError(f"{self.index}: nothing of a request was taken: {refused[0].reason}")
        return again, refused, cause

    def _halves(
        self, batch: list[tuple[str, str]]
    ) -> tuple[list[tuple[str, str]], list[FailedDocument], str]:
        """A request that was too large, as two."""
        if len(batch) == 1:
            return [], [FailedDocument(batch[0][0], _TOO_LARGE, "larger than a request may be")], ""
        middle = len(batch) // 2
        self.size = min(self.size, middle)
        again, refused, cause = self._try(batch[:middle])
        more_again, more_refused, other = self._try(batch[middle:])
        return again + more_again, refused + more_refused, cause or other


def _sorted_out(
    batch: list[tuple[str, str]], items: list[dict[str, Any]]
) -> tuple[list[tuple[str, str]], list[FailedDocument], str]:
    """What one answer says of each document: to be sent again, refused, and why again."""
    again: list[tuple[str, str]] = []
    refused: list[FailedDocument] = []
    cause = ""
    for sent, item in zip(batch, items, strict=True):
        (result,) = item.values()
        status = int(result.get("status", 500))
        error = result.get("error")
        lost = isinstance(error, dict) and error.get("type") in _NODE_LOST
        if status in _BUSY or lost:
            again.append(sent)
            why = cured(reason(result["error"])) if result.get("error") else "no reason given"
            cause = f"status {status} for some documents: {why}"
        elif status >= 300 and result.get("result") != "not_found":  # what is to be deleted and is not there
            words = reason(result.get("error"))
            refused.append(FailedDocument(sent[0], status, of_endpoint(words, status) or cured(words)))
    return again, refused, cause


def text_json(text: str) -> str:
    """A text in JSON. Half a surrogate pair is no UTF-8, and no server takes it: it becomes U+FFFD."""
    return json.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), ensure_ascii=False)
