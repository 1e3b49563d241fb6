"""An encoded collection in a folder: what `encode` writes and `search` reads, without the model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.config import QueryEncoder
from neural_sparse.errors import InputError
from neural_sparse.io.files import (
    check_output_folder,
    check_sums,
    file_sums,
    read_json,
    reading_folder,
    replacing_folder,
    write_json,
)
from neural_sparse.io.urls import Location, Url, location
from neural_sparse.search.budget import QUERIES, Budgets, check_recall, made_queries
from neural_sparse.search.doc_ids import DocumentIds
from neural_sparse.search.hits import Hits, vocabulary_fingerprint
from neural_sparse.search.index import SparseIndex
from neural_sparse.search.passages import Passages
from neural_sparse.search.query_side import TRANSFORMER, QueryTable, QueryTransformer, write_query_side
from neural_sparse.search.snapshot import MappedTexts, PackedTexts, Segment, Snapshot
from neural_sparse.search.storage import MANIFEST as INDEX_MANIFEST
from neural_sparse.text.ragged import Indices, offsets_of
from neural_sparse.text.tokens import TokenizerFile, vocabulary

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerFast

    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.model.exported import ExportedEncoder
    from neural_sparse.model.fingerprint import Fingerprint

logger = logging.getLogger(__name__)

MANIFEST = "encoded.json"
FIELDS = "fields.arrow"
PASSAGES = ("passages.npy", "document_id_text.npy", "document_id_offsets.npy")


def manifest_of(folder: Path) -> dict[str, Any]:
    """What an encoded collection says of itself.

    Raises:
        InputError: there is none.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: no encoded collection (lacks {MANIFEST}); make one with `neural-sparse encode`"
        )
    about: dict[str, Any] = read_json(folder / MANIFEST)
    return about


def load_segment(folder: Path, entry: Mapping[str, Any], verify: bool) -> Segment:
    """Map one segment of a collection.

    Args:
        entry: of the manifest: {"folder": within the collection's, "deleted": a file of rows, or null}.

    Raises:
        InputError: its files are missing, damaged, or not of one another.
    """
    place = folder / entry["folder"]
    index = SparseIndex.load(place / "index", verify)
    file = place / "text_offsets.npy"
    if not file.is_file():
        raise InputError(f"{place}: lacks {file.name}; encode the corpus again")
    offsets = np.load(file, mmap_mode="r", allow_pickle=False)
    texts = MappedTexts(_mapped(place / "texts.bin"), offsets)
    if len(texts) != len(index) or offsets[-1] != len(texts.text):
        raise InputError(f"{place}: its texts are not those of its index; encode the corpus again")
    passages = _passages(place, len(index)) if (place / PASSAGES[0]).is_file() else None
    deleted = np.empty(0, np.int64)
    if entry["deleted"] is not None:
        deleted = np.load(folder / entry["deleted"], allow_pickle=False).astype(np.int64)
    fields = None
    if (place / FIELDS).is_file():
        from neural_sparse.search.fields import map_table

        fields = map_table(place / FIELDS)
    segment = Segment(index, texts, deleted, name=entry["folder"], fields=fields, passages=passages)
    if fields is not None and len(fields) != len(segment):
        raise InputError(f"{place}: its fields are not those of its index; encode the corpus again")
    return segment


def _passages(place: Path, rows: int) -> Passages:
    first, text, offsets = (_array(place / name) for name in PASSAGES)
    sound = first.ndim == 1 and first.dtype == np.int64 and len(first) and first[0] == 0 and first[-1] == rows
    sound = sound and (first[1:] > first[:-1]).all() and len(offsets) == len(first)
    if not (sound and text.dtype == np.uint8 and offsets.dtype == np.int64 and offsets[-1] == len(text)):
        raise InputError(f"{place}: its passages are not those of its index; encode the corpus again")
    return Passages(DocumentIds(text, offsets), first)


def _array(file: Path) -> np.ndarray:
    if not file.is_file():
        raise InputError(f"{file.parent}: lacks {file.name}; encode the corpus again")
    mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    return np.asarray(mapped) if mapped.size else np.array(mapped)  # as `storage` has it


class EncodedCollection:
    """Index, texts and query side of a collection.

    The folder holds index/ (a SparseIndex), tokenizer.json and idf.json (all that queries need; of a siamese model
    query_encoder/ in place of the table, a model that takes torch), texts.bin and text_offsets.npy, fields.arrow where
    it has metadata, and encoded.json; segments/ has what changed since (`search.changes`). Where documents are encoded
    in passages, the rows of index and texts are passages; passages.npy and document_id_*.npy say of which documents.

    Attributes:
        snapshot: the documents.
        about: model, maximum length, number of documents.
        count_repeats: a query's token weighs as often as it is there; False, unless set.
        budgets: of approximate search; None: the search is exact.
    """

    budgets: Budgets | None = None

    def __init__(self, folder: str | Path, verify: bool = True) -> None:
        """
        Args:
            verify: Compare every file with its checksum, which reads all of them once; else their sizes.

        Raises:
            InputError: no such folder, one that `encode` did not write to its end, or a file that is missing,
                truncated or altered.
        """
        self.folder = Path(folder)
        reading_folder(folder, lambda: self._read_current(verify))

    def _read_current(self, verify: bool) -> None:
        """Read it, anew where another process changed it meanwhile and took away what it had been."""
        while True:
            about = manifest_of(self.folder)
            try:
                return self._read(self.folder, about, verify)
            except (InputError, OSError):
                if manifest_of(self.folder) == about:
                    raise

    def _read(self, folder: Path, about: dict[str, Any], verify: bool) -> None:
        self.about = about
        if "files" in self.about:
            check_sums(folder, self.about["files"], verify, "copy it again, or encode the corpus again")
        else:
            logger.warning(
                "%s: written by an earlier version, without checksums of its texts and tokenizer", folder
            )
        self.query_tokenizer = TokenizerFile(folder / "tokenizer.json")
        kind = self.about.get("query_encoder", "inference-free")
        self._queries: QueryTable | QueryTransformer
        if kind == "inference-free":
            self._queries = QueryTable(folder, self.query_tokenizer)
        else:
            self._queries = QueryTransformer(folder, kind, self.about["fingerprint"]["queries"])
        self.count_repeats = False
        entries = self.about.get("segments", [{"folder": ".", "deleted": None}])
        segments = [load_segment(folder, entry, verify) for entry in entries]
        tokens = vocabulary(self.query_tokenizer)
        columns = vocabulary_fingerprint(tokens)
        for segment in segments:
            if segment.index.vocabulary not in (None, columns) or segment.index.vocab_size < len(tokens):
                raise InputError(
                    f"{folder / segment.name}: its vectors count in another vocabulary than the tokenizer of {folder}; "
                    "encode the corpus again"
                )
        self.snapshot = Snapshot(segments, self.about.get("generation", 0))

    @staticmethod
    def check_replaceable(folder: str | Location) -> None:
        """
        Raises:
            InputError: it cannot be written, or there is something that is not an encoded collection.
        """
        folder = location(folder)
        if not isinstance(folder, Url):
            check_output_folder(folder, MANIFEST)
        elif folder.is_file():
            raise InputError(f"{folder} is a file, and the output is a folder")
        elif folder.files() and not (folder / MANIFEST).is_file():
            raise InputError(
                f"{folder} exists and holds something else (no {MANIFEST}); choose another output"
            )

    @staticmethod
    def write(
        folder: str | Path,
        model: NeuralSparseEncoder | ExportedEncoder,
        shards: Iterable[sp.csr_matrix],
        doc_ids: DocumentIds,
        texts: Iterable[PackedTexts],
        about: Mapping[str, Any],
        fields: pa.Table | None = None,
        passages: Indices | None = None,
    ) -> None:
        """Write the folder, replacing one that is there, in bounded memory.

        Args:
            shards, texts: of the documents, or of their passages, one after another; read once.
            about: what else the manifest says.
            fields: metadata, a row per document.
            passages: how many each document has, int64 [documents]; None if rows are documents.
        """
        from neural_sparse.model.fingerprint import Fingerprint
        from neural_sparse.model.pruning import Pruning

        pruning = Pruning(**about["pruning"]) if "pruning" in about else None
        with replacing_folder(folder) as temporary:
            columns = vocabulary_fingerprint(vocabulary(model.tokenizer))
            rows = doc_ids
            if passages is not None:
                rows = DocumentIds.numbers(int(passages.sum()))
                write_passages(temporary, Passages.of(doc_ids, passages))
            index = SparseIndex.build(shards, rows, columns, folder=temporary / "index")
            model.tokenizer.save_pretrained(temporary)
            kind = write_query_side(temporary, model)
            write_texts(temporary, texts)
            if fields is not None:
                from neural_sparse.search.fields import write_table

                write_table(temporary / FIELDS, [fields])
            written = [path.name for path in sorted(temporary.iterdir()) if path.is_file()]
            of_queries = sorted(path for path in (temporary / TRANSFORMER).rglob("*") if path.is_file())
            written += [path.relative_to(temporary).as_posix() for path in of_queries]
            write_json(
                temporary / MANIFEST,
                {
                    "model": model.name,
                    "query_encoder": kind,
                    "fingerprint": Fingerprint.of(model, pruning).as_json(),
                    "max_length": model.max_length,
                    "documents": len(doc_ids),
                    "nonzero_terms": int(index.posting_lengths.sum()) / len(doc_ids),
                    "index_bytes": index.nbytes,
                    "files": file_sums(temporary, [*written, f"index/{INDEX_MANIFEST}"]),
                    **about,
                },
            )

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The model's, for what queries do not need."""
        from transformers import PreTrainedTokenizerFast

        found: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(self.folder)
        return found

    @property
    def index(self) -> SparseIndex:
        """The documents' vectors.

        Raises:
            InputError: documents in passages, of which none has one vector.
        """
        return self.snapshot.joined()

    @property
    def doc_ids(self) -> Sequence[str]:
        """Of the documents that are there, in order."""
        parts = [
            segment.doc_ids.keep(segment.live) if len(segment.live) else segment.doc_ids
            for segment in self.snapshot.segments
        ]
        return parts[0] if len(parts) == 1 else DocumentIds.join(parts)

    @property
    def query_encoder(self) -> QueryEncoder:
        """What encodes queries, see `NeuralSparseEncoder.set_query_encoder`."""
        return self._queries.kind

    @property
    def query_weights(self) -> np.ndarray:
        """float32 [vocabulary], 0 for special tokens.

        Raises:
            InputError: a siamese model's.
        """
        return self._queries.weights

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Whose vectors these are; None for folders of versions that did not say."""
        from neural_sparse.model.fingerprint import Fingerprint

        said = self.about.get("fingerprint")
        return Fingerprint.read(said) if said is not None else None

    def text(self, row: int) -> str:
        """Text of a document by its place among `doc_ids`."""
        return self.snapshot.text(int(self.snapshot.rows()[row]))

    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Weights of the tokens present, or what a siamese model's query encoder gives: csr float32 [queries, columns].

        Raises:
            InputError: a siamese model's with `count_repeats`, or of a folder that was encoded anew meanwhile.
        """
        return self._queries.encode(texts, self.count_repeats)

    def approximate(self, recall: float, queries: Sequence[str] = ()) -> None:
        """Search approximately from now on: as few documents are scored as find so much of the exact hits.

        Args:
            recall: above 0 and below 1.
            queries: of which it is measured, best such as people ask; else words in a row of documents drawn.

        Raises:
            InputError: another recall, documents in passages, or queries without a term.
        """
        check_recall(recall)
        snapshot = self.snapshot  # which a change in another thread replaces
        snapshot.check_approximate()
        if not queries:
            rng = np.random.default_rng(0)
            rows = snapshot.rows()
            rows = rng.choice(rows, min(QUERIES, len(rows)), replace=False)
            queries = made_queries([snapshot.text(row) for row in rows.tolist()], rng)
        self.budgets = Budgets(recall, self.encode_queries(queries))

    def blocks(self, k: int) -> float | None:
        """What `Snapshot.search` is asked with: None, or blocks per hit, measured when k is first asked for."""
        return self.budgets.of(self.snapshot, k).blocks if self.budgets is not None else None

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        return self.snapshot.search(self.encode_queries(texts), k, blocks=self.blocks(k))

    def mode(self, k: int) -> str:
        """As `Snapshot.mode`; of an approximate search with the recall that was measured."""
        return self.snapshot.mode(k) if self.budgets is None else self.budgets.mode(self.snapshot, k)


def write_passages(folder: Path, passages: Passages) -> None:
    """The files of `PASSAGES`."""
    arrays: tuple[np.ndarray, ...] = (passages.first, passages.ids.text, passages.ids.offsets)
    for name, array in zip(PASSAGES, arrays, strict=True):
        np.save(folder / name, array, allow_pickle=False)


def write_texts(folder: Path, texts: Iterable[PackedTexts]) -> None:
    """texts.bin (UTF-8, one after another) and text_offsets.npy."""
    lengths = []
    with (folder / "texts.bin").open("wb") as file:
        for packed in texts:
            packed.text.tofile(file)
            lengths.append(packed.lengths)
    np.save(folder / "text_offsets.npy", offsets_of(np.concatenate(lengths)), allow_pickle=False)


def _mapped(file: Path) -> np.ndarray:
    if not file.is_file():
        raise InputError(f"{file.parent}: lacks {file.name}; encode the corpus again")
    return np.memmap(file, np.uint8, "r") if file.stat().st_size else np.empty(0, np.uint8)
