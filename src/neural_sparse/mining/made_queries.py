"""Queries that a language model writes for documents, kept where a search with them finds their document again."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from neural_sparse.config import EndpointSettings, settings_from_yaml
from neural_sparse.data.cleaning import language_of
from neural_sparse.data.from_documents import answers_key
from neural_sparse.data.reading import documents_of
from neural_sparse.data.source import find_source
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.io.endpoint import Endpoint, estimated_tokens
from neural_sparse.io.files import replacing
from neural_sparse.mining.sources import Sources, parse_source
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.work.progress import progress

logger = logging.getLogger(__name__)

PREFIX = "endpoint:"
PROMPTS = {
    "en": "Write {n} different search queries that the document below answers, as people type them into a search "
    "engine. Do not copy sentences. One query per line, and nothing else.\n\nDocument:\n{document}",
    "ko": "아래 문서가 답이 되는 서로 다른 검색어나 질문을 {n}개 쓰세요. 사람들이 검색창에 입력하듯이 쓰고, "
    "문장을 그대로 베끼지 마세요. 한 줄에 하나씩만 쓰고 다른 말은 쓰지 마세요.\n\n문서:\n{document}",
    "other": "Write {n} different search queries that the document below answers, in the document's own language "
    "({language}), as people type them into a search engine. Do not copy sentences. One query per line, and nothing "
    "else.\n\nDocument:\n{document}",
}
MAX_CHARACTERS = 4000
TOKENS_OF_A_QUERY = 15  # of an answer, for the estimate of its cost
LONGEST_QUERY = 300  # characters; more is prose
_THOUGHT = re.compile(r"<think>.*?</think>", re.S)
_MARK = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s*")


@dataclass(frozen=True)
class QueryMakerSettings(EndpointSettings):
    """A language model (chat completions) and what it is asked for.

    Attributes:
        name: of the model.
        queries: asked for, for each document.
        prompts: {language: prompt} beside `PROMPTS`, with {n}, {document} and perhaps {language} in it; "other" is for
            languages without one of their own.
        temperature: the model's own if None.
        found_by: "bm25", "dense:NAME", "endpoint:MODEL@URL" ...: what must find the document by the query.
        found_within: among so many documents; 0 keeps every query.
        cache: folder of the answers.
    """

    name: str = ""
    queries: int = 3
    prompts: Mapping[str, str] = field(default_factory=dict)
    temperature: float | None = None
    found_by: str = "bm25"
    found_within: int = 20
    cache: str = "outputs/query_cache"

    def __post_init__(self) -> None:
        who = f"queries from {self.name or 'an endpoint'}"
        if not self.name:
            raise InputError(f"{who}: name the model: endpoint:MODEL@URL, or name: in the file")
        self.check_endpoint(who)
        if self.queries < 1 or self.found_within < 0:
            raise InputError(f"{who}: queries must be at least 1, and found_within not negative")
        parse_source(self.found_by)
        for language, prompt in self.prompts.items():
            try:
                usable = "x-1-x" in prompt.format(n=1, document="x-1-x", language="en")
            except (KeyError, IndexError, ValueError):
                usable = False
            if not usable:
                raise InputError(
                    f"{who}: the prompt for {language} needs {{document}}, and knows {{n}} and {{language}}"
                )
        of_teachers = ("form", "dimensions", "query_input_type", "document_input_type")
        if strange := self.given().keys() & {*of_teachers, "max_tokens", "tokenizer", "too_long"}:
            raise InputError(f"{who}: takes no {', '.join(sorted(strange))}")

    @classmethod
    def read(cls, text: str) -> QueryMakerSettings:
        """Of "endpoint:MODEL@URL", or of "endpoint:FILE.yaml" with the keys above and those of an endpoint.

        Raises:
            InputError: neither; settings that cannot be.
        """
        place = text.removeprefix(PREFIX)
        name, at, url = place.partition("@http")
        if at:
            return cls(name=name, url=f"http{url}")
        if Path(place).suffix not in (".yaml", ".yml"):
            raise InputError(f"{text!r}: write endpoint:MODEL@URL, or endpoint:FILE.yaml")
        made: QueryMakerSettings = settings_from_yaml(cls, Path(place))
        return made

    def prompt(self, document: str) -> str:
        """What the model is asked about a document."""
        language, known = language_of(document), {**PROMPTS, **self.prompts}
        text = known.get(language, known["other"])
        cut = document[: self.max_characters or MAX_CHARACTERS]
        return text.format(n=self.queries, document=cut, language=language)


class QueryMaker:
    """Asks for the queries of documents, each document once ever, and gives those that find it.

    After `ask` it is a generator of queries as `module:function` is: called with a document's text and title.

    Attributes:
        counts: of the last `ask`: documents, asked, written, repeated, not_found, kept, without.
    """

    def __init__(self, settings: QueryMakerSettings) -> None:
        self.settings = settings
        self.endpoint = Endpoint(settings, f"queries from {settings.name}")
        self.counts: dict[str, int] = {}
        self._kept: dict[str, list[str]] = {}
        identity = {
            "model": settings.model or settings.name,
            "queries": settings.queries,
            "prompts": {**PROMPTS, **settings.prompts},
            "temperature": settings.temperature,
            "max_characters": settings.max_characters or MAX_CHARACTERS,
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        name = re.sub("[^A-Za-z0-9.]+", "-", settings.name)[-60:].strip("-.")
        self.file = Path(settings.cache).expanduser() / f"{name}-{digest}.jsonl"

    def __call__(self, text: str, title: str) -> list[str]:
        return self._kept.get(answers_key(f"{title} {text}".strip()), [])

    def ask(self, documents: Sequence[str], others: Sequence[str] = ()) -> None:
        """Have queries written for `documents`, and keep those that find their document among these and `others`.

        What it costs is told before it begins, what came of it at the end.

        Raises:
            InputError: the endpoint fails (what it answered before is kept), or writes no queries.
        """
        unique = {answers_key(text): text for text in documents if text.strip()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.file}.lock"):
            written = self._answers()
            missing = [key for key in unique if key not in written]
            if missing:
                self._tell_cost([unique[key] for key in missing])
                with (
                    self.file.open("a", encoding="utf-8") as out,
                    progress(len(missing), "asking for queries", "documents") as advance,
                ):
                    for key, queries in self._asked({key: unique[key] for key in missing}, advance):
                        written[key] = queries
                        out.write(json.dumps({"key": key, "queries": queries}, ensure_ascii=False) + "\n")
                        out.flush()
        self._keep(unique, {key: written[key] for key in unique}, others)
        self.counts["asked"] = len(missing)
        logger.info("%s", self.told())

    def save(self, file: Path) -> None:
        """Write {key, queries} lines, which `--queries-from answers:FILE` reads."""
        with replacing(file) as draft, draft.open("w", encoding="utf-8") as out:
            for key, queries in self._kept.items():
                out.write(json.dumps({"key": key, "queries": queries}, ensure_ascii=False) + "\n")

    def told(self) -> str:
        """The counts, as a line."""
        count = self.counts
        return (
            f"queries from {self.settings.name}: {count['kept']:,} kept for {count['documents'] - count['without']:,} "
            f"of {count['documents']:,} documents; {count['written']:,} written, {count['repeated']:,} repeated, "
            f"{count['not_found']:,} do not find their document within {self.settings.found_within} by "
            f"{self.settings.found_by}; {count['asked']:,} documents were asked about now"
            + (f", {self.endpoint.tokens:,} tokens by the endpoint's count" if self.endpoint.tokens else "")
        )

    def _answers(self) -> dict[str, list[str]]:
        """What the file has; the half line that a kill may leave is taken off."""
        found: dict[str, list[str]] = {}
        if not self.file.is_file():
            return found
        whole = 0
        for line in self.file.read_bytes().splitlines(keepends=True):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
                found[row["key"]] = row["queries"]  # type: ignore[index]
            except (ValueError, TypeError, KeyError):
                logger.warning("%s: a broken line and what follows it is asked for again", self.file)
                with self.file.open("r+b") as out:
                    out.truncate(whole)
                break
            whole += len(line)
        return found

    def _tell_cost(self, documents: list[str]) -> None:
        cut = sum(len(text) > (self.settings.max_characters or MAX_CHARACTERS) for text in documents)
        tokens = estimated_tokens(map(self.settings.prompt, documents))
        answers = len(documents) * self.settings.queries * TOKENS_OF_A_QUERY
        logger.warning(
            "queries from %s: %s documents to ask about (%s cut at %s characters), about %s tokens and %s of answers%s",
            self.settings.name,
            f"{len(documents):,}",
            f"{cut:,}",
            f"{self.settings.max_characters or MAX_CHARACTERS:,}",
            f"{tokens:,}",
            f"{answers:,}",
            self.endpoint.cost(tokens + answers),
        )

    def _asked(
        self, documents: dict[str, str], advance: Callable[[int], object]
    ) -> Iterator[tuple[str, list[str]]]:
        """Each document's queries, as answers come; gives up where the first many bring none."""
        empty = answered = 0
        for (key, _), queries in self.endpoint.threads(self._doing, (), documents.items(), advance=advance):
            answered, empty = answered + 1, empty + (not queries)
            if empty == answered == 20:
                raise InputError(
                    f"queries from {self.settings.name}: twenty answers, and no query in any; is it one that follows "
                    "instructions? The first document's prompt: " + self.settings.prompt(documents[key])[:300]
                )
            yield key, queries

    def _doing(self, worker: int) -> Callable[[tuple[str, str], Callable[[int], object]], list[str]]:
        def do(piece: tuple[str, str], advance: Callable[[int], object]) -> list[str]:
            found = self._queries(piece[1])
            advance(1)
            return found

        return do

    def _queries(self, document: str) -> list[str]:
        prompt = self.settings.prompt(document)
        body: dict[str, Any] = {
            "model": self.settings.model or self.settings.name,
            "messages": [{"role": "user", "content": prompt}],
        }
        if self.settings.temperature is not None:
            body["temperature"] = self.settings.temperature
        answer = self.endpoint.post("chat/completions", body, estimated_tokens([prompt]))
        self.endpoint.count(answer)
        try:
            choice = answer["choices"][0]
            content = choice["message"].get("content") or ""
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise InputError(
                f"{self.endpoint.who}: the answer has no choices[0].message: {json.dumps(answer)[:200]}; is url an API "
                "with chat/completions?"
            ) from error
        return queries_in(str(content), self.settings.queries, choice.get("finish_reason") == "length")

    def _keep(self, documents: dict[str, str], written: dict[str, list[str]], others: Sequence[str]) -> None:
        """Leave out repeated queries, of any document, and those that do not find theirs."""
        rows, queries, seen = [], [], set()
        for row, key in enumerate(documents):
            for query in written[key]:
                if (folded := " ".join(query.casefold().split())) not in seen:
                    seen.add(folded)
                    rows.append(row)
                    queries.append(query)
        texts, within = list(documents.values()), self.settings.found_within
        found = np.ones(len(queries), np.bool_)
        if queries and within:
            held = set(texts)
            everything = [*texts, *(text for text in dict.fromkeys(others) if text not in held)]
            cache = TeacherCache(None if self.settings.found_by == "bm25" else Path("outputs/teacher_cache"))
            source = Sources(TrainingSet(queries, everything, np.array(rows, np.int64)), cache).source(
                self.settings.found_by
            )
            best = source.search(np.arange(len(queries)), min(within, len(everything)))
            found = (best == np.array(rows)[:, None]).any(axis=1)
        self._kept = {key: [] for key in documents}
        keys = list(documents)
        for row, query, kept in zip(rows, queries, found.tolist(), strict=True):
            if kept:
                self._kept[keys[row]].append(query)
        total = sum(map(len, written.values()))
        self.counts = {
            "documents": len(documents),
            "written": total,
            "repeated": total - len(queries),
            "not_found": int((~found).sum()),
            "kept": int(found.sum()),
            "without": sum(not queries for queries in self._kept.values()),
        }


def queries_in(content: str, most: int, unfinished: bool = False) -> list[str]:
    """Queries of a model's answer: a line each, or a JSON list; without numbers, bullets and quotes, none twice.

    >>> queries_in("1. how to sort a list\\n2) \\"open a file\\"\\n- How to sort a list", 3)
    ['how to sort a list', 'open a file']
    """
    text = _THOUGHT.sub("", content).strip()
    text = re.sub(r"^```\w*\n|\n```$", "", text)
    try:
        rows = json.loads(text)
        lines: Iterable[Any] = rows if isinstance(rows, list) else text.splitlines()
    except ValueError:
        lines = text.splitlines()[: -1 if unfinished else None]
    found: dict[str, str] = {}
    for line in lines:
        query = _MARK.sub("", str(line)).strip().strip("\"'“”「」").strip()
        if query and len(query) <= LONGEST_QUERY and not query.endswith(":"):
            found.setdefault(query.casefold(), query)
    return list(found.values())[:most]


def written_queries(
    text: str, sources: Sequence[str], fields: Mapping[str, str], sample: int | None = None, seed: int = 42
) -> str:
    """Ask for the queries of the documents of `sources` that have none; the "answers:FILE" that `prepare` reads.

    Args:
        text: as `QueryMakerSettings.read`.
        sources: of `prepare`.
        fields: unusual names of columns.
        sample: documents that are asked about, drawn by `seed`; None or 0: all.

    Raises:
        InputError: no document without queries in the sources; as `QueryMaker.ask`.
    """
    maker = QueryMaker(QueryMakerSettings.read(text))
    maker.endpoint.require_key()
    documents = [one.whole for name in sources for one in documents_of(find_source(name, fields=fields))]
    if not documents:
        raise InputError(
            f"{', '.join(sources)}: no documents to make queries from; --queries-from is for such sources"
        )
    chosen = np.arange(len(documents))
    if sample and sample < len(documents):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(documents))[:sample])
    maker.ask([documents[row] for row in chosen.tolist()], documents)
    if not maker.counts["kept"]:
        raise InputError(f"{maker.told()}: nothing is left to train on; see found_within, prompts")
    names = hashlib.sha256("\n".join(sorted(maker._kept)).encode()).hexdigest()[:12]
    file = maker.file.with_name(f"{maker.file.stem}-{names}-{maker.settings.found_within}.answers.jsonl")
    maker.save(file)
    return f"answers:{file}"
