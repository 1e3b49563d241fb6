"""Sources of training data: what a name or a path means, as files with rows of a known kind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from neural_sparse.corpora.fields import ID, document_fields, id_field, with_title
from neural_sparse.corpora.hub import hub_files
from neural_sparse.corpora.qrels_file import read_qrels
from neural_sparse.corpora.row_file import FORMATS, RowFile, chunks, parse, row_format, scan
from neural_sparse.data.registry import PublicSet, nearest, public_sets, require_acceptance
from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file

logger = logging.getLogger(__name__)

Kind = Literal["examples", "documents", "generated", "judgements", "triples"]
# Of a large set only this many times the wanted examples are read and cleaned.
_SURPLUS = 1.5
DOCUMENT_SUFFIXES = (".txt", ".md")


@dataclass(frozen=True)
class DocumentFiles:
    """Text files that are a document each, in order of their paths."""

    folder: Path
    paths: tuple[Path, ...]

    @property
    def rows(self) -> int:
        return len(self.paths)

    @property
    def plain_size(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    def describe(self) -> dict[str, Any]:
        names = [[str(path.relative_to(self.folder)), sha256_file(path)] for path in self.paths]
        return {"files": names, "rows": self.rows}


@dataclass(frozen=True)
class Section:
    """Rows of one file and what they are.

    Attributes:
        kind: "examples"; "documents" that no query goes with; "generated": documents to make queries from;
            "judgements" and "triples" name queries and documents by id.
    """

    kind: Kind
    file: RowFile | DocumentFiles


@dataclass(frozen=True)
class Source:
    """Training data from one place.

    Attributes:
        sections: read in this order.
        licence: as the registry has it; "own data" otherwise.
        fields: unusual names of columns.
        corpus, queries: what ids in judgements and triples refer to.
        sample: examples to keep; None: all.
        hub: repository and revision.
    """

    name: str
    sections: tuple[Section, ...]
    licence: str = "own data"
    fields: Mapping[str, str] = field(default_factory=dict)
    corpus: tuple[RowFile, ...] = ()
    queries: tuple[RowFile, ...] = ()
    sample: int | None = None
    hub: Mapping[str, str] | None = None

    @property
    def rows(self) -> int:
        return sum(section.file.rows for section in self.sections)

    @property
    def plain_size(self) -> int:
        return sum(section.file.plain_size for section in self.sections)

    @property
    def thin(self) -> float:
        """Share of the rows to read: all, unless far fewer examples are wanted than there are."""
        kinds = ("documents", "generated")
        rows = sum(section.file.rows for section in self.sections if section.kind not in kinds)
        return 1.0 if self.sample is None or not rows else min(1.0, (_SURPLUS * self.sample + 1000) / rows)

    def describe(self) -> dict[str, Any]:
        """What of the source decides the outcome, as JSON values."""
        return {
            "name": self.name,
            "licence": self.licence,
            "hub": None if self.hub is None else dict(self.hub),
            "fields": dict(self.fields),
            "sections": [{"kind": section.kind, **section.file.describe()} for section in self.sections],
            "queries": [file.describe() for file in self.queries],
        }


def find_source(
    name: str,
    *,
    fields: Mapping[str, str] | None = None,
    split: str = "train",
    accepted: Sequence[str] = (),
) -> Source:
    """The source that a name of the registry, a file or a folder means; public sets are downloaded.

    Args:
        fields: names of the columns "query", "positive", "negative".
        split: judgements of a collection to train on.
        accepted: public sets whose terms the user accepts.

    Raises:
        InputError: no such name or path, a licence to accept, a download that fails, or files of no known
            layout (the message says what was found).
    """
    path = Path(name)
    if path.exists():
        columns = tuple((fields or {}).values())
        found = _of_folder(path, split, columns) if path.is_dir() else _of_file(path, columns)
        if not found.rows:
            raise InputError(f"{name}: holds nothing")
        return Source(**{**vars(found), "fields": dict(fields or {})})
    if entry := public_sets().get(name):
        require_acceptance(entry, accepted)
        return _of_public_set(entry)
    raise InputError(
        f"{name}: no such file or folder, and no registered set{nearest(name)} "
        "(`neural-sparse data list` shows them)"
    )


def _of_public_set(entry: PublicSet) -> Source:
    paths = hub_files(entry.name, entry.repository, entry.revision, entry.files)
    hub = {"repository": entry.repository, "revision": entry.revision}
    if entry.layout == "rows":
        sections = tuple(Section("examples", scan(path)) for path in paths)
        return Source(entry.name, sections, entry.licence, sample=entry.sample, hub=hub)
    judged = hub_files(
        entry.name, entry.qrels_repository or entry.repository, entry.qrels_revision, entry.qrels_files
    )
    corpus = [path for path in paths if "corpus" in (path.name.split(".")[0], path.parent.name)]
    queries = [path for path in paths if path not in corpus]
    found = joined(entry.name, corpus, queries=queries, judged=judged, kind="judgements")
    return Source(
        **{
            **vars(found),
            "licence": entry.licence,
            "sample": entry.sample,
            "hub": {**hub, "qrels": entry.qrels_revision},
        }
    )


def joined(
    name: str,
    corpus: Sequence[Path],
    queries: Sequence[Path],
    judged: Sequence[Path],
    kind: Kind,
) -> Source:
    """A source whose examples name their texts by id; all its documents are kept, as candidates to mine from."""
    if kind == "judgements":
        for path in judged:
            if row_format(path) == "tsv" and path.suffix != ".gz":
                read_qrels(path)  # all of it is looked at before the work
    documents = tuple(scan(path) for path in corpus)
    sections = [Section("documents", file) for file in documents]
    sections += [Section(kind, scan(path)) for path in judged]
    return Source(name, tuple(sections), corpus=documents, queries=tuple(scan(path) for path in queries))


def _of_file(path: Path, columns: Collection[str]) -> Source:
    if path.suffix.lower() in DOCUMENT_SUFFIXES:
        return Source(path.stem, (Section("generated", DocumentFiles(path.parent, (path,))),))
    file = scan(path, columns)
    if columns and file.format == "tsv" and not file.header:
        raise InputError(
            f"{path}: --fields names columns, but the first line has none of {', '.join(columns)}"
        )
    kind: Kind = "generated" if _is_corpus(file) else "examples"
    name = path.name.split(".")[0]
    return Source(path.resolve().parent.name if name == "corpus" else name, (Section(kind, file),))


def _of_folder(folder: Path, split: str, columns: Collection[str]) -> Source:
    corpus = _named(folder, "corpus")
    queries = _named(folder, "queries")
    qrels = folder / "qrels" / f"{split}.tsv"
    if corpus and queries and qrels.is_file():
        return joined(folder.name, corpus, queries=queries, judged=[qrels], kind="judgements")
    if corpus:
        if (folder / "qrels").is_dir():
            splits = ", ".join(sorted(path.stem for path in (folder / "qrels").glob("*.tsv")))
            logger.warning(
                "%s has no qrels/%s.tsv (there is %s): queries are made from its documents",
                folder,
                split,
                splits,
            )
        return Source(folder.name, tuple(Section("generated", scan(path)) for path in corpus))
    if (collection := _first(folder, "collection.tsv")) and (asked := _first(folder, f"queries.{split}.tsv")):
        triples = sorted(path for path in folder.glob("qidpidtriples*") if row_format(path) == "tsv")
        judged = triples or [path for path in [_first(folder, f"qrels.{split}.tsv")] if path]
        if judged:
            return joined(
                folder.name,
                [collection],
                queries=[asked],
                judged=judged,
                kind="triples" if triples else "judgements",
            )
    if rows := sorted(path for path in folder.iterdir() if path.is_file() and row_format(path)):
        return Source(
            folder.name, tuple(section for path in rows for section in _of_file(path, columns).sections)
        )
    documents = tuple(sorted(path for path in folder.rglob("*") if is_document(folder, path)))
    if documents:
        return Source(folder.name, (Section("generated", DocumentFiles(folder, documents)),))
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise InputError(
        f"{folder}: no training data found (there is {found}); expected corpus, queries and qrels/{split}.tsv "
        f"(BEIR), collection.tsv with queries.{split}.tsv and qrels.{split}.tsv (MS MARCO), files of rows "
        f"({', '.join(FORMATS)}), or documents ({', '.join(DOCUMENT_SUFFIXES)})"
    )


def is_document(folder: Path, path: Path) -> bool:
    """Whether a file below a folder is one of its texts; hidden ones, and those in hidden folders, are not."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and not hidden and path.suffix.lower() in DOCUMENT_SUFFIXES


def _named(folder: Path, part: str) -> list[Path]:
    """Files of a part of a collection: PART.jsonl, PART.tsv, ..., or a folder of them."""
    if found := [path for suffix in FORMATS if (path := folder / f"{part}{suffix}").is_file()]:
        return found[:1]
    return sorted(path for path in (folder / part).glob("*") if row_format(path))


def _first(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _is_corpus(file: RowFile) -> bool:
    """Whether the first row is a document: an id and a text, and nothing to search with."""
    for chunk in chunks(file, 1):
        for _, row in parse(file, chunk, 0):
            if not isinstance(row, Mapping):
                return False
            return any(name in row for name in ID) and "text" in row and not {"query", "anchor"} & set(row)
    return False


def text_rows(
    files: Sequence[RowFile], progress: Callable[[int], object] | None = None
) -> Iterator[tuple[str, str]]:
    """Id and text (title + " " + text) of every row of a corpus or of queries.

    Raises:
        InputError: a row without id or text.
    """
    empty = True
    for where, row in _rows(files, progress):
        empty = False
        yield id_field(row, where), with_title(*document_fields(row, where))
    if empty:
        raise InputError(f"{', '.join(str(file.path) for file in files)}: holds nothing")


def places_of(files: Sequence[RowFile], key: str) -> Iterator[str]:
    """File and line of each row of an id."""
    for where, row in _rows(files):
        if id_field(row, where) == key:
            yield where


def _rows(
    files: Sequence[RowFile], progress: Callable[[int], object] | None = None
) -> Iterator[tuple[str, Any]]:
    for file in files:
        first = 0
        for chunk in chunks(file, 10_000):
            for number, row in parse(file, chunk, first):
                yield file.place(number), row
            first += len(chunk)
            if progress is not None:
                progress(len(chunk))
