"""Parts of all sources made one prepared folder: duplicates found across them, texts written once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from neural_sparse.data.cleaning import Counts
from neural_sparse.data.part import Part
from neural_sparse.data.reading import uniform
from neural_sparse.text.keys import Keys, first_occurrence
from neural_sparse.text.ragged import Indices, RowLists, locate, offsets_of, ranges, segment_ids
from neural_sparse.text.shingles import BANDS, DOCUMENT_SHINGLE, QUERY_SHINGLE, clusters

QUERIES, DOCUMENTS, EXAMPLES = "queries.arrow", "documents.arrow", "examples.arrow"
TEXTS_SCHEMA = pa.schema([("text", pa.string())])
EXAMPLES_SCHEMA = pa.schema(
    [
        ("query", pa.int64()),
        ("positive", pa.int64()),
        ("negatives", pa.large_list(pa.int64())),
        ("scores", pa.large_list(pa.float32())),  # of the positive, then of the negatives; or none
        ("source", pa.int32()),
    ]
)
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Assembled(NamedTuple):
    """What was written: counts per source, examples kept per source, unique queries and documents."""

    counts: list[Counts]
    kept: list[int]
    queries: int
    documents: int


@dataclass
class _Table:
    """All examples of all parts, in order, without their texts.

    Attributes:
        starts: first example of each part [parts + 1].
        source, row: of each example; row in its part.
        query_key, query_words, document_words: see `part.SCHEMA`.
        mention: place of the relevant document among all documents' mentions; its negatives follow.
        mentions: documents of each example.
        mention_key: keys of all mentions.
        mention_starts: first mention of each part [parts + 1].
        alone: mentions of documents that no query goes with.
    """

    starts: Indices
    source: Indices
    row: Indices
    query_key: Keys
    query_words: Keys
    document_words: Keys
    mention: Indices
    mentions: Indices
    mention_key: Keys
    mention_starts: Indices
    alone: Indices


class Assembly:
    """Assembles parts into a folder; the outcome is a function of the parts and the settings.

    Args:
        parts: files of each source's parts, in order.
        samples: examples to keep of each source; None: all.
        seed: of the sampling.
        near_duplicates: Jaccard similarity from which texts count as one; None: only equal ones.
        work: folder for arrays that are too large for memory.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[Path]],
        samples: Sequence[int | None],
        seed: int,
        near_duplicates: float | None,
        work: Path,
        show_progress: bool = False,
    ) -> None:
        self.files = [file for files in parts for file in files]
        self.sources = [source for source, files in enumerate(parts) for _ in files]
        self.samples = samples
        self.seed = seed
        self.near_duplicates = near_duplicates
        self.work = work
        self.disable = None if show_progress else True
        self.counts = [Counts() for _ in parts]

    def write(self, folder: Path) -> Assembled:
        """Write queries.arrow, documents.arrow and examples.arrow into `folder`."""
        table = self._table()
        kept = self._kept(table)
        query_rows, query_texts = _numbered(table.query_key[kept])
        # Mentions of kept examples, and of documents alone, in order.
        named = np.zeros(len(table.mention_key), bool)
        named[table.alone] = True
        named[ranges(table.mention[kept], table.mentions[kept])] = True
        selected = np.flatnonzero(named)
        document_rows, document_texts = _numbered(table.mention_key[selected])
        row_of = np.full(len(named), -1, np.int64)
        row_of[selected] = document_rows
        self._write_queries(folder / QUERIES, table, kept[query_texts])
        self._write_documents(folder / DOCUMENTS, table, selected[document_texts])
        self._write_examples(
            folder / EXAMPLES,
            table,
            kept=kept,
            query_rows=query_rows,
            row_of=row_of,
            documents=len(document_texts),
        )
        number = np.bincount(table.source[kept], minlength=len(self.counts)).tolist()
        return Assembled(self.counts, number, len(query_texts), len(document_texts))

    def _parts(self, what: str) -> Iterator[tuple[int, Part]]:
        for number, file in enumerate(tqdm(self.files, desc=what, unit="part", disable=self.disable)):
            yield number, Part(file)

    def _table(self) -> _Table:
        columns: dict[str, list[npt.NDArray]] = {name: [] for name in _Table.__dataclass_fields__}
        examples, mentions = [0], [0]
        for number, part in self._parts("reading parts"):
            self.counts[self.sources[number]].add(part.counts)
            asked = part.asked
            lengths = part.document_counts
            starts = mentions[-1] + offsets_of(lengths)[:-1]
            columns["source"].append(np.full(asked.sum(), self.sources[number], np.int64))
            columns["row"].append(np.flatnonzero(asked))
            for name in ("query_key", "query_words", "document_words"):
                columns[name].append(part.keys(name)[asked])
            columns["mention"].append(starts[asked])
            columns["mentions"].append(lengths[asked])
            columns["mention_key"].append(part.keys("document_keys").copy())
            columns["alone"].append(starts[~asked])
            examples.append(examples[-1] + int(asked.sum()))
            mentions.append(mentions[-1] + int(lengths.sum()))
        columns["starts"], columns["mention_starts"] = [np.array(examples)], [np.array(mentions)]
        empty: dict[str, npt.NDArray] = {
            name: np.empty(
                (0, 2) if "key" in name or "words" in name else 0,
                np.uint64 if "key" in name or "words" in name else np.int64,
            )
            for name in columns
        }
        return _Table(**{name: np.concatenate([empty[name], *values]) for name, values in columns.items()})

    def _kept(self, table: _Table) -> Indices:
        """Examples that are no duplicates, near-duplicates or left out by sampling; the others are counted."""
        count = len(table.source)
        pair = table.query_words * _MIX + table.document_words
        fresh = first_occurrence(pair) == np.arange(count)
        self._drop(table.source[~fresh], "duplicate")
        if self.near_duplicates is not None and fresh.sum() > 1:
            rows = np.flatnonzero(fresh)
            queries = self._clusters(table, table.query_words, "query", QUERY_SHINGLE)
            documents = self._clusters(table, table.document_words, "document", DOCUMENT_SHINGLE)
            _, first = np.unique(queries[rows] * count + documents[rows], return_index=True)
            near = np.ones(len(rows), bool)
            near[first] = False
            self._drop(table.source[rows[near]], "near_duplicate")
            fresh[rows[near]] = False
        for source, sample in enumerate(self.samples):
            rows = np.flatnonzero(fresh & (table.source == source))
            if sample is not None and len(rows) > sample:
                begin = int(np.searchsorted(table.source, source))
                drawn = uniform(self.seed * 1_000_003 + source, 0, len(table.source))[rows - begin]
                out = rows[np.argsort(drawn, kind="stable")[sample:]]
                self._drop(table.source[out], "not_sampled")
                fresh[out] = False
        return np.flatnonzero(fresh)

    def _drop(self, sources: Indices, reason: str) -> None:
        for source, number in enumerate(np.bincount(sources, minlength=len(self.counts)).tolist()):
            if number:
                self.counts[source].dropped[reason] += number

    def _clusters(self, table: _Table, keys: Keys, kind: str, size: int) -> Indices:
        """For each example the first example whose query (or document) is nearly the same."""
        first = first_occurrence(keys)
        unique = np.flatnonzero(first == np.arange(len(keys)))
        path = self.work / f"{kind}-bands.npy"
        bands = np.lib.format.open_memmap(path, "w+", np.uint32, (len(unique), BANDS))
        for number, part in self._parts(f"comparing {kind}s"):
            begin, end = np.searchsorted(unique, table.starts[number : number + 2])
            bands[begin:end] = part.bands(f"{kind}_bands")[table.row[unique[begin:end]]]

        def texts(rows: Indices) -> list[str]:
            examples = unique[rows]  # ascending, as rows are
            found: list[str] = []
            numbers, _ = locate(table.starts, examples)
            for number in np.unique(numbers):
                part, here = Part(self.files[number]), examples[numbers == number]
                if kind == "query":
                    found += part.queries(table.row[here])
                else:
                    places = table.mention[here] - table.mention_starts[number]
                    found += part.documents(places).to_pylist()
            return found

        assert self.near_duplicates is not None
        with tqdm(total=BANDS, desc=f"similar {kind}s", unit="band", disable=self.disable) as bar:
            clustered = clusters(bands, texts, size=size, threshold=self.near_duplicates, progress=bar.update)
        del bands
        path.unlink()
        return unique[clustered][np.searchsorted(unique, first)]

    def _write_queries(self, path: Path, table: _Table, examples: Indices) -> None:
        with pa.ipc.new_file(str(path), TEXTS_SCHEMA) as writer:
            for number, part in self._parts("writing queries"):
                begin, end = np.searchsorted(examples, table.starts[number : number + 2])
                if begin < end:
                    texts = part.query_column(table.row[examples[begin:end]])
                    writer.write_batch(pa.record_batch([texts], schema=TEXTS_SCHEMA))

    def _write_documents(self, path: Path, table: _Table, mentions: Indices) -> None:
        with pa.ipc.new_file(str(path), TEXTS_SCHEMA) as writer:
            for number, part in self._parts("writing documents"):
                begin, end = np.searchsorted(mentions, table.mention_starts[number : number + 2])
                if begin < end:
                    texts = part.documents(mentions[begin:end] - table.mention_starts[number])
                    writer.write_batch(pa.record_batch([texts], schema=TEXTS_SCHEMA))

    def _write_examples(
        self, path: Path, table: _Table, kept: Indices, query_rows: Indices, row_of: Indices, documents: int
    ) -> None:
        positives = row_of[table.mention[kept]]
        counts = table.mentions[kept] - 1
        examples = segment_ids(counts)
        negatives = row_of[ranges(table.mention[kept] + 1, counts)]
        # A document that is relevant to the same query elsewhere is no negative.
        relevant = np.unique(query_rows * documents + positives)
        known = np.isin(query_rows[examples] * documents + negatives, relevant)
        for source, number in enumerate(
            np.bincount(table.source[kept][examples[known]], minlength=len(self.counts)).tolist()
        ):
            self.counts[source].negatives_dropped += number
        scores, score_counts = self._scores(table, kept, known)
        counts = np.bincount(examples[~known], minlength=len(kept))
        write_examples(
            path,
            query_rows,
            positives=positives,
            negatives=RowLists.of_lengths(negatives[~known], counts),
            scores=RowLists.of_lengths(scores, score_counts),
            sources=table.source[kept],
        )

    def _scores(
        self, table: _Table, kept: Indices, known: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float32], Indices]:
        """Scores of the kept examples' documents, those of negatives that are none left out."""
        lengths, values = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for number, part in self._parts("reading scores"):
            begin, end = np.searchsorted(kept, table.starts[number : number + 2])
            rows = table.row[kept[begin:end]]
            counts, flat = part.scores()
            starts = offsets_of(counts)[:-1]
            lengths.append(counts[rows])
            values.append(flat[ranges(starts[rows], counts[rows])])
        counts, flat = np.concatenate(lengths), np.concatenate(values)
        # Mark, among all documents of examples that have scores, the negatives that were taken out.
        removed = np.zeros(int(table.mentions[kept].sum()), bool)
        begins = offsets_of(table.mentions[kept])[:-1]
        removed[ranges(begins + 1, table.mentions[kept] - 1)] = known
        scored = np.repeat(counts > 0, table.mentions[kept])
        stays = ~removed[scored]
        example = segment_ids(counts)
        return flat[stays], np.bincount(example[stays], minlength=len(kept))


def write_examples(
    path: Path,
    query_rows: Indices,
    positives: Indices,
    negatives: RowLists,
    scores: RowLists,
    sources: npt.NDArray[np.integer],
) -> None:
    """Write the examples of a prepared folder; arguments as the attributes of `PreparedSet`."""
    columns = [
        pa.array(query_rows),
        pa.array(positives),
        pa.LargeListArray.from_arrays(pa.array(negatives.offsets), pa.array(negatives.flat, pa.int64())),
        pa.LargeListArray.from_arrays(pa.array(scores.offsets), pa.array(scores.flat, pa.float32())),
        pa.array(sources, pa.int32()),
    ]
    with pa.ipc.new_file(str(path), EXAMPLES_SCHEMA) as writer:  # one batch: columns without a copy
        writer.write_batch(pa.record_batch(columns, schema=EXAMPLES_SCHEMA))


def _numbered(keys: Keys) -> tuple[Indices, Indices]:
    """A number for each key, in order of first occurrence, and where each number first occurs."""
    first = first_occurrence(keys)
    fresh = first == np.arange(len(keys))
    return (np.cumsum(fresh) - 1)[first], np.flatnonzero(fresh)
