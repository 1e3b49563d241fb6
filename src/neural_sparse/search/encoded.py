"""An encoded collection in a folder: what `encode` writes and `search` reads, without the transformer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.files import read_json, replacing, write_json
from neural_sparse.idf import idf_weights, save_idf_weights
from neural_sparse.search.hits import Hits
from neural_sparse.search.index import SparseIndex
from neural_sparse.search.vocabulary import vocabulary_fingerprint

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

MANIFEST = "encoded.json"


class EncodedCollection:
    """Index, texts and query side of a collection.

    The folder holds index/ (a SparseIndex), tokenizer.json and idf.json (all that queries need), texts.npy and
    text_offsets.npy, and encoded.json.

    Attributes:
        index: the documents' vectors.
        about: model, maximum length, number of documents.
    """

    def __init__(self, folder: str | Path) -> None:
        """
        Raises:
            InputError: no such folder, or one that `encode` did not write to its end.
        """
        from transformers import PreTrainedTokenizerFast

        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise InputError(
                f"{folder}: no encoded collection (lacks {MANIFEST}); make one with `neural-sparse encode`"
            )
        self.about: dict[str, Any] = read_json(folder / MANIFEST)
        self.index = SparseIndex.load(folder / "index")
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self._weights = idf_weights(folder / "idf.json", self.tokenizer).vector
        self._texts = np.load(folder / "texts.npy", mmap_mode="r", allow_pickle=False)
        self._offsets = np.load(folder / "text_offsets.npy", mmap_mode="r", allow_pickle=False)

    @staticmethod
    def save(
        folder: str | Path,
        model: NeuralSparseEncoder,
        vectors: sp.csr_matrix,
        doc_ids: Sequence[str],
        texts: Sequence[str],
    ) -> None:
        """Write the folder; the manifest comes last."""
        from neural_sparse.tokens import vocabulary

        folder = Path(folder)
        fingerprint = vocabulary_fingerprint(vocabulary(model.tokenizer))
        index = SparseIndex.build(vectors, doc_ids, fingerprint)
        index.save(folder / "index")
        model.tokenizer.save_pretrained(folder)
        save_idf_weights(model.idf_table(), folder / "idf.json")
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        arrays = {
            "texts": np.frombuffer(b"".join(encoded), np.uint8),
            "text_offsets": np.concatenate(([0], np.cumsum([len(text) for text in encoded]))),
        }
        for name, array in arrays.items():
            with replacing(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        write_json(
            folder / MANIFEST,
            {
                "model": model.name,
                "max_length": model.max_length,
                "documents": len(doc_ids),
                "nonzero_terms": float(np.diff(vectors.indptr).mean()),
                "index_bytes": index.nbytes,
            },
        )

    @property
    def doc_ids(self) -> Sequence[str]:
        return self.index.doc_ids

    def text(self, row: int) -> str:
        return bytes(self._texts[self._offsets[row] : self._offsets[row + 1]]).decode(
            "utf-8", "surrogatepass"
        )

    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Weights of the tokens present, csr float32 [queries, vocabulary]."""
        from neural_sparse.tokens import encode_queries

        return encode_queries(texts, self.tokenizer, self._weights)

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        return self.index.search(self.encode_queries(texts), k)
