"""Documents as `adapt` takes them: from a folder or file of any kind, repaired, without empty ones and copies."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from neural_sparse.corpora.corpus_file import documents_of, read_documents
from neural_sparse.corpora.python_docs import PYTHON_DOCS, documentation
from neural_sparse.corpora.row_file import rows_of
from neural_sparse.data.cleaning import language_of
from neural_sparse.data.repair import repair
from neural_sparse.data.source import DOCUMENT_SUFFIXES, is_document
from neural_sparse.errors import InputError
from neural_sparse.evaluation.runs import check_ids
from neural_sparse.io.files import replacing
from neural_sparse.io.lines import decoded, text_lines, without_mark
from neural_sparse.text.keys import text_key
from neural_sparse.text.shingles import normalised
from neural_sparse.work.progress import progress

LEAST = 5  # documents; of fewer there is nothing to search
_LANGUAGES_READ = 500  # documents whose language is looked at
OTHER_IDS = "give the documents and queries other ids"


class Text(NamedTuple):
    """A document; `title` may be empty."""

    doc_id: str
    title: str
    text: str

    @property
    def whole(self) -> str:
        return f"{self.title} {self.text}".strip()


def number_of(seed: int, purpose: str, key: str) -> int:
    """A 64-bit number that depends on these alone: what is drawn by it does not depend on what else there is."""
    return xxhash.xxh3_64_intdigest(f"{purpose} {seed} {key}".encode())


def is_embedded(place: Path) -> bool:
    """Whether the documentation of the installed Python packages is meant, which no file holds."""
    return place == Path(PYTHON_DOCS) and not place.exists()


def texts_below(place: Path) -> bool:
    """Whether the texts of a folder are the documents."""
    return place.is_dir() and not (place / "corpus.jsonl").is_file()


def document_files(folder: Path) -> list[Path]:
    """Texts of a folder and the folders in it, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if is_document(folder, path))


def documents_at(place: Path) -> Iterator[Text]:
    """Documents of a BEIR folder, a file of rows (JSON lines, TSV, CSV, Parquet), a .txt with one per line, or a
    folder of .txt and .md files, streamed; of "python-docs", the installed packages' documentation.

    Raises:
        InputError: nothing there that is known; a malformed row (file and line).
    """
    if is_embedded(place):
        for doc_id, (summary, body) in documentation().items():
            yield Text(doc_id, summary, body)
    elif place.is_dir() and (place / "corpus.jsonl").is_file():
        yield from map(Text._make, read_documents(place / "corpus.jsonl"))
    elif texts_below(place):
        paths = document_files(place)
        if not paths:
            raise InputError(
                f"{place}: holds neither corpus.jsonl nor any {' or '.join(DOCUMENT_SUFFIXES)} file; name a folder of "
                "documents or a file of rows"
            )
        for path in paths:
            text = decoded(without_mark(path.read_bytes(), path), path, path)
            yield Text(str(path.relative_to(place)), "", text)
    elif place.suffix == ".txt":
        for number, (_, text) in enumerate(text_lines(place), start=1):
            yield Text(str(number), "", text)
    else:
        yield from map(Text._make, documents_of(rows_of(place)))


def clean_corpus(place: Path, output: Path) -> dict[str, Any]:
    """Write the cleaned documents of `place` to a corpus.jsonl, streamed: of each only a 128-bit key is held.

    Returns:
        documents; read; empty; repaired; copies (documents whose words are another's); copy_of (their ids -> the id
        that is kept); languages (ISO code -> share of the first 500).

    Raises:
        InputError: as `documents_at`; an id that no run file can hold; fewer than 5 different documents.
    """
    seen: dict[bytes, str] = {}
    counts: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    copy_of: dict[str, str] = {}
    with (
        replacing(output) as file,
        file.open("w", encoding="utf-8") as out,
        progress(0, "cleaning", "documents") as advance,
    ):
        for document in documents_at(place):
            advance(1)
            counts["read"] += 1
            check_ids([document.doc_id], fix=OTHER_IDS)  # evaluations write them at the end
            clean = Text(document.doc_id, repair(document.title), repair(document.text))
            counts["repaired"] += clean[1:] != (document.title.strip(), document.text.strip())
            words = normalised(clean.whole)
            if not words:
                counts["empty"] += 1
                continue
            key = text_key(words)
            if key in seen:
                copy_of[clean.doc_id] = seen[key]
                continue
            seen[key] = clean.doc_id
            if len(seen) <= _LANGUAGES_READ:
                languages[language_of(clean.whole)] += 1
            row = {"_id": clean.doc_id, "title": clean.title, "text": clean.text}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
        if len(seen) < LEAST:
            raise InputError(
                f"{place}: {counts['read']:,} documents, of which {len(seen):,} are different and not empty; at least "
                f"{LEAST} are needed for anything to be searched"
            )
    total = sum(languages.values())
    return {
        "documents": len(seen),
        "read": counts["read"],
        "empty": counts["empty"],
        "repaired": counts["repaired"],
        "copies": len(copy_of),
        "copy_of": copy_of,
        "languages": {
            code: count / total for code, count in languages.most_common() if count >= 0.02 * total
        },
    }


def held_documents(corpus: Path, most: int, seed: int, needed: frozenset[str] = frozenset()) -> list[Text]:
    """As `held`, of a cleaned corpus."""
    return held(map(Text._make, read_documents(corpus)), most, seed, needed)


def held(documents: Iterable[Text], most: int, seed: int, needed: frozenset[str] = frozenset()) -> list[Text]:
    """At most `most` documents, drawn by their ids, in their order; streamed.

    Args:
        needed: ids that are kept whatever is drawn.
    """
    kept: list[tuple[int, int, Text]] = []  # a heap, the greatest number first
    wanted: list[tuple[int, Text]] = []
    for place, row in enumerate(documents):
        if row.doc_id in needed:
            wanted.append((place, row))
            continue
        drawn = -number_of(seed, "held", row.doc_id)
        if len(kept) < most - len(needed):
            heapq.heappush(kept, (drawn, place, row))
        elif kept and drawn > kept[0][0]:
            heapq.heapreplace(kept, (drawn, place, row))
    found = wanted + [(place, row) for _, place, row in kept]
    return [row for _, row in sorted(found, key=lambda one: one[0])]
