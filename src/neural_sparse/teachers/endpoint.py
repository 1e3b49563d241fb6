"""Teachers behind an HTTP endpoint: embeddings of an OpenAI-compatible API, and scores of a reranker."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_sparse.config import EndpointSettings
from neural_sparse.errors import InputError
from neural_sparse.io.endpoint import Endpoint, estimated_tokens
from neural_sparse.io.files import read_json, write_json
from neural_sparse.teachers.bi_encoder import PreparedVectors, Task
from neural_sparse.teachers.cache import EncodingJob, TeacherCache
from neural_sparse.teachers.loading import without_cached
from neural_sparse.teachers.rows import Matrix
from neural_sparse.teachers.teacher import PairTexts, PreparedPairs
from neural_sparse.teachers.text_limit import CutTexts, TextLimit

logger = logging.getLogger(__name__)

BATCH = 32
PROBE = "The quick brown fox jumps over the lazy dog. 다람쥐 헌 쳇바퀴에 타고파."
PROBE_PAIR = ("what does the fox do", "The quick brown fox jumps over the lazy dog.")
PROBE_FILE = "probe.json"
LEAST_COSINE = 0.995  # of the probe's vectors; quantised and batched servers differ by less
MOST_SCORE_CHANGE = 0.02  # of the probe pair's score, relative to 1 or to the score


class _BehindEndpoint:
    """What both kinds share: the connection, the model that was met before, the cost told first."""

    kind: str

    def __init__(self, name: str, settings: EndpointSettings, *, batch_size: int | None = None) -> None:
        self.name, self.settings = name, settings
        self.batch_size = batch_size or BATCH
        self.served = settings.model or name
        settings.check_endpoint(f"{self.kind} {name}")

    @cached_property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.settings, f"{self.kind} {self.name}")

    def __getstate__(self) -> dict[str, Any]:
        """Settings alone: another process connects itself."""
        return without_cached(self)

    @cached_property
    def limit(self) -> TextLimit:
        return TextLimit(self.settings, f"{self.kind} {self.name}")

    def cut(self, texts: Sequence[str], prompt: str = "") -> Sequence[str]:
        return CutTexts(texts, self.limit, prompt) if self.limit else texts

    def cost(self, missing: Iterable[Any], prompt: str = "") -> str:
        """Texts, tokens and price of what is to be asked, as a line."""
        count = tokens = 0
        for item in missing:
            count += 1
            tokens += estimated_tokens(item if isinstance(item, tuple) else (prompt + item,))
        what = "pairs" if self.kind == "rerank-endpoint" else "texts"
        return (
            f"{self.kind} {self.name}: {count:,} {what} to ask for, about {tokens:,} tokens"
            f"{self.endpoint.cost(tokens)}; what is answered is kept"
        )

    def known_model(self, folder: Path | None, found: NDArray[np.float32], served: str | None) -> None:
        """Compare the probe with that of earlier vectors in `folder`, or keep it there.

        Raises:
            InputError: another model, or another number of dimensions, under the name.
        """
        if folder is None:
            return
        file, before = folder / PROBE_FILE, None
        if file.is_file():
            before = read_json(file)
            vector = np.asarray(before["vector"], np.float32)
            if problem := self.differs(vector, found):
                raise InputError(
                    f"{self.kind} {self.name}: the endpoint has another model behind the name: {problem}. Before: "
                    f"{before.get('served') or 'unnamed'} at {before.get('url')}; now: {served or 'unnamed'} at "
                    f"{self.settings.url}. What the cache holds is the first one's; give the new one another name "
                    f"(model: {self.served} stays what the endpoint is asked for), or take the old one"
                )
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, {"served": served, "url": self.settings.url, "vector": found.tolist()})

    def check(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64],
        cache: TeacherCache,
    ) -> None:
        """Before other work: what would end this one's, of texts that the cache lacks.

        Args:
            pairs: those that are known already: if the scores of these are there, others may be as well.

        Raises:
            InputError: the key's variable is not set; a text is beyond the limit and must not be cut.
        """
        try:
            self.endpoint.require_key()
        except InputError:
            if any(len(cache.missing(job)) for job in self.jobs(queries, documents, pairs)):
                raise
        if self.settings.too_long == "refuse":
            self.check_lengths(queries, documents)

    def jobs(
        self, queries: Sequence[str], documents: Sequence[str], pairs: NDArray[np.int64] | None = None
    ) -> list[EncodingJob[Any]]:
        raise NotImplementedError

    def check_lengths(self, queries: Sequence[str], documents: Sequence[str]) -> None:
        self.limit.tell(documents)

    def differs(self, before: NDArray[np.float32], now: NDArray[np.float32]) -> str:
        raise NotImplementedError


class EndpointTeacher(_BehindEndpoint):
    """Embeddings of an OpenAI-compatible API (POST URL/embeddings), scored by cosine, stored as float16.

    Nothing is known of the weights, so the vector of one fixed text is kept beside the cache; when more is to be
    encoded, it is asked for again and must be what it was.

    Args:
        name: of the teacher, and of the model unless `settings.model` says otherwise; names the cache.
        settings: address, key, limits; see `EndpointSettings`.
        query_prompt, document_prompt: put before each text; nothing if None.
        batch_size: texts of a request; 32 if None.

    Raises:
        InputError: settings that cannot be; later, all that an endpoint can do wrong.
    """

    in_batch = True
    kind = "endpoint"

    def __init__(
        self,
        name: str,
        settings: EndpointSettings,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(name, settings, batch_size=batch_size)
        self._prompts: dict[Task, str] = {"query": query_prompt or "", "document": document_prompt or ""}
        self._types: dict[Task, str | None] = {
            "query": settings.query_input_type,
            "document": settings.document_input_type,
        }
        self._width = settings.dimensions

    def identity(self, task: Task) -> dict[str, Any]:
        """What is known of what a vector depends on; not the address: the same model may move."""
        return {
            "kind": self.kind,
            "name": self.name,
            "model": self.served,
            "prompt": self._prompts[task],
            "input_type": self._types[task],
            "dimensions": self.settings.dimensions,
        }

    def encode(self, texts: list[str], task: Task) -> Matrix:
        """Vectors of a batch of texts: float16 [texts, dimensions], of length 1."""
        return self._ask(texts, task)[0].astype(np.float16)

    def jobs(
        self, queries: Sequence[str], documents: Sequence[str], pairs: NDArray[np.int64] | None = None
    ) -> list[EncodingJob[str]]:
        """What the cache has to hold before training: queries, then documents."""
        sides: list[tuple[Task, Sequence[str]]] = [("query", queries), ("document", documents)]
        return [
            EncodingJob(
                self.name,
                self.identity(task),
                items=self.cut(texts, self._prompts[task]),
                encode=partial(self.encode, task=task),
                batch_size=self.batch_size,
                before=partial(self.before, task=task, queries=queries, documents=documents),
                engine=self.endpoint.threads,
            )
            for task, texts in sides
        ]

    def before(
        self,
        folder: Path | None,
        missing: Iterable[str],
        task: Task,
        queries: Sequence[str],
        documents: Sequence[str],
    ) -> None:
        """Meet the model, and say what is going to be asked and what it costs."""
        if self.settings.too_long == "refuse":  # documents too, before queries are paid for
            self.check_lengths(queries, documents)
        else:
            self.limit.tell(queries if task == "query" else documents, self._prompts[task])
        vectors, served = self._ask([PROBE], task)
        self.known_model(folder, vectors[0], served)
        logger.warning("%s", self.cost(missing, self._prompts[task]))

    def check_lengths(self, queries: Sequence[str], documents: Sequence[str]) -> None:
        self.limit.tell(queries, self._prompts["query"])
        self.limit.tell(documents, self._prompts["document"])

    def prepare(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64] | None,
        cache: TeacherCache,
    ) -> PreparedVectors:
        query_side, document_side = (cache.rows(job) for job in self.jobs(queries, documents, pairs))
        return PreparedVectors(self.name, *query_side, *document_side)

    def differs(self, before: NDArray[np.float32], now: NDArray[np.float32]) -> str:
        if len(before) != len(now):
            return f"its vectors have {len(now)} dimensions, and had {len(before)}"
        cosine = float(before @ now)
        return (
            f"the probe's vector has cosine {cosine:.3f} with the earlier one"
            if cosine < LEAST_COSINE
            else ""
        )

    def _ask(self, texts: list[str], task: Task) -> tuple[NDArray[np.float32], str | None]:
        """Vectors float32 [texts, dimensions] of length 1, and what the endpoint calls the model."""
        sent = [self._prompts[task] + text for text in texts]
        # An empty text is refused by many: a space says as little.
        body: dict[str, Any] = {"model": self.served, "input": [text or " " for text in sent]}
        if self.settings.dimensions is not None:
            body["dimensions"] = self.settings.dimensions
        if self._types[task] is not None:
            body["input_type"] = self._types[task]
        answer = self.endpoint.post("embeddings", body, estimated_tokens(sent))
        self.endpoint.count(answer)
        vectors = self._checked(answer, texts)
        served = answer.get("model")
        return vectors, served if isinstance(served, str) else None

    def _checked(self, answer: Any, texts: list[str]) -> NDArray[np.float32]:
        who = self.endpoint.who
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise InputError(
                f"{who}: the answer has no list `data`: {_short(answer)}; is url that of an embeddings API?"
            )
        if len(rows) != len(texts):
            raise InputError(
                f"{who}: {len(rows)} vectors came for {len(texts)} texts; try a smaller batch_size"
            )
        vectors: list[NDArray[np.float32] | None] = [None] * len(texts)
        for place, row in enumerate(rows):
            index = row.get("index", place) if isinstance(row, dict) else None
            if not isinstance(index, int) or not 0 <= index < len(texts) or vectors[index] is not None:
                raise InputError(
                    f"{who}: vectors came with places that are none or twice the same: {_short(row)}"
                )
            vectors[index] = self._vector(row.get("embedding"), texts[index])
        widths = {len(vector) for vector in vectors if vector is not None}
        self._width = self._width or min(widths)
        if widths != {self._width}:
            said = "dimensions" if self.settings.dimensions else "as before"
            raise InputError(
                f"{who}: vectors of {', '.join(map(str, sorted(widths)))} dimensions came, not of {self._width} "
                f"({said}); correct dimensions, or leave it out where the model cannot shorten its vectors"
            )
        return np.stack([vector for vector in vectors if vector is not None])

    def _vector(self, value: Any, text: str) -> NDArray[np.float32]:
        who = self.endpoint.who
        try:
            if isinstance(value, str):
                vector = np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
            else:
                vector = np.asarray(value, np.float32)
        except (ValueError, TypeError) as error:
            raise InputError(f"{who}: an embedding is no list of numbers: {_short(value)}") from error
        if vector.ndim != 1 or not len(vector):
            raise InputError(f"{who}: an embedding is no list of numbers: {_short(value)}")
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not np.isfinite(length) or not length:
            what = "of zeros" if length == 0 else "with NaN or infinite values"
            raise InputError(f"{who}: a vector {what} came for the text {text[:100]!r}")
        return vector / np.float32(length)


class RerankTeacher(_BehindEndpoint):
    """Scores of a reranker (POST URL/rerank), one for each pair, cached by pair.

    Args:
        name: as of `EndpointTeacher`.
        settings: `form` "cohere" (Cohere, Jina, vLLM: documents, relevance_score) or "tei" (texts, score, raw).
        batch_size: documents of a request, all of one query; 32 if None.

    Raises:
        InputError: as `EndpointTeacher`.
    """

    in_batch = False
    kind = "rerank-endpoint"

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "model": self.served,
            "form": self.settings.form or "cohere",
        }

    def encode(self, pairs: list[tuple[str, str]]) -> Matrix:
        """Scores of a batch of pairs, a request for each query among them: float32 [pairs, 1]."""
        scores = np.empty((len(pairs), 1), np.float32)
        of_query: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(pairs):
            of_query.setdefault(query, []).append(place)
        for query, places in of_query.items():
            scores[places, 0] = self._ask(query, [pairs[place][1] for place in places])
        return scores

    def jobs(
        self, queries: Sequence[str], documents: Sequence[str], pairs: NDArray[np.int64] | None = None
    ) -> list[EncodingJob[tuple[str, str]]]:
        """What the cache has to hold before training: the score of each pair of texts.

        Raises:
            InputError: no `pairs`: scoring every query against every document would take for ever.
        """
        if pairs is None:
            raise InputError(
                f"teacher {self.name!r} scores pairs: pass prepare(..., pairs=[[query row, document "
                "row], ...]) with the candidates of each query"
            )
        return [
            EncodingJob(
                self.name,
                self.identity,
                items=PairTexts(queries, self.cut(documents), pairs),
                encode=self.encode,
                batch_size=self.batch_size,
                before=partial(self.before, texts=documents),
                engine=self.endpoint.threads,
            )
        ]

    def before(self, folder: Path | None, missing: Iterable[tuple[str, str]], texts: Sequence[str]) -> None:
        """Meet the model, and say what is going to be asked and what it costs."""
        self.limit.tell(texts)
        self.known_model(folder, self._ask(PROBE_PAIR[0], [PROBE_PAIR[1]]), None)
        logger.warning("%s", self.cost(missing))

    def prepare(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        pairs: NDArray[np.int64] | None,
        cache: TeacherCache,
    ) -> PreparedPairs:
        """As `jobs`, and ask for what the cache lacks."""
        (job,) = self.jobs(queries, documents, pairs)
        assert pairs is not None
        return PreparedPairs.cached(
            self.name, job, cache=cache, queries=queries, documents=documents, pairs=pairs
        )

    def differs(self, before: NDArray[np.float32], now: NDArray[np.float32]) -> str:
        if abs(before[0] - now[0]) <= MOST_SCORE_CHANGE * max(1.0, abs(float(before[0]))):
            return ""
        return f"the probe's score is {now[0]:.4f} and was {before[0]:.4f}"

    def _ask(self, query: str, documents: list[str]) -> NDArray[np.float32]:
        texts = [document or " " for document in documents]
        if self.settings.form == "tei":
            body: dict[str, Any] = {"query": query or " ", "texts": texts, "raw_scores": True}
        else:
            body = {"model": self.served, "query": query or " ", "documents": texts, "top_n": len(texts)}
        answer = self.endpoint.post("rerank", body, estimated_tokens([query, *documents]))
        self.endpoint.count(answer)
        rows = answer.get("results", answer.get("data")) if isinstance(answer, dict) else answer
        who = self.endpoint.who
        if not isinstance(rows, list):
            raise InputError(
                f"{who}: the answer has no list of results: {_short(answer)}; is it of form {self._form}?"
            )
        scores = np.full(len(documents), np.nan, np.float32)
        for row in rows:
            score = row.get("relevance_score", row.get("score")) if isinstance(row, dict) else None
            place = row.get("index") if isinstance(row, dict) else None
            if (
                not isinstance(place, int)
                or not 0 <= place < len(documents)
                or not isinstance(score, int | float)
            ):
                raise InputError(
                    f"{who}: a result has no index or no score: {_short(row)}; is it of form {self._form}?"
                )
            scores[place] = score
        if len(rows) != len(documents) or not np.isfinite(scores).all():
            raise InputError(
                f"{who}: {int(np.isfinite(scores).sum())} scores came for {len(documents)} documents of the query "
                f"{query[:100]!r}"
            )
        return scores

    @property
    def _form(self) -> str:
        return self.settings.form or "cohere"


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:200]
