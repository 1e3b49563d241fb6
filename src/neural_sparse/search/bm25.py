"""BM25 behind the interface of the neural index: bm25s weighs the words, SparseIndex searches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import scipy.sparse as sp

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, reading_folder
from neural_sparse.search.hits import Hits, vocabulary_fingerprint
from neural_sparse.search.index import SparseIndex
from neural_sparse.search.postings import Postings
from neural_sparse.text.languages import WORD, Analysis
from neural_sparse.text.words import Words

SETTINGS = "bm25.json"


class BM25Index:
    """BM25 as Lucene computes it: sum over query words of idf * tf / (tf + k1 * (1 - b + b * length / mean)).

    Weights are computed when the index is built, so a query costs what it costs on a neural index and the
    latencies of the two compare like with like.

    Attributes:
        index: Document weights.
        words: Text -> word ids.
        k1, b: Saturation of repeated words and strength of length normalisation; .9 and .4 as in Anserini.

    >>> texts = ["Sorts a list in place.", "Opens a file.", "Lists the files of a folder."]
    >>> bm25 = BM25Index.build(texts, ["sort", "open", "listdir"])
    >>> bm25.search_texts(["listing files"], k=3).ids()
    [['listdir', 'open', 'sort']]
    """

    def __init__(self, index: SparseIndex, words: Words, k1: float, b: float) -> None:
        self.index = index
        self.words = words
        self.k1 = k1
        self.b = b

    @classmethod
    def build(
        cls,
        texts: Sequence[str],
        doc_ids: Sequence[str],
        k1: float = 0.9,
        b: float = 0.4,
        stemmer: str | None = "english",
        stopwords: str | Sequence[str] | None = "english_plus",
        pattern: str = WORD,
        language: str | None = None,
    ) -> BM25Index:
        """Index texts.

        Args:
            stemmer: A Snowball algorithm ("english", "porter", "german", ...) or None. The English defaults
                leave other scripts alone (Korean scores the same with and without them).
            stopwords: A list of bm25s by its language ("english" has 33 words, "english_plus" 179), the words
                themselves, or None.
            pattern: Regular expression of a word.
            language: Instead of these three, all that a language asks for, see `Analysis.of`: "german", "korean"
                (morphemes, extra `korean`), "bigrams" (pairs of letters where words have no spaces), "plain", or
                "auto", told from the texts.

        Raises:
            InputError: no text with a word, an unknown stemmer or language, k1 or b out of range, bad ids.
        """
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets DEBUG when imported
        if k1 < 0 or not 0 <= b <= 1:
            raise InputError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, got k1={k1}, b={b}")
        words = (
            Words(stemmer, stopwords, pattern) if language is None else Words.of(Analysis.of(language, texts))
        )
        documents = words.learn(texts)
        if not words.vocabulary:
            raise InputError("no document has a word that is no stopword: BM25 has nothing to index")
        weights = bm25s.BM25(method="lucene", k1=k1, b=b, backend="numpy")
        weights.index((documents, words.vocabulary), create_empty_token=False, show_progress=False)
        scores = weights.scores
        postings = Postings(
            scores["indptr"].astype(np.int64),
            scores["indices"].astype(np.int32),
            scores["data"].astype(np.float32),
            len(texts),
        )
        return cls(SparseIndex(postings, doc_ids, vocabulary_fingerprint(words.vocabulary)), words, k1, b)

    @property
    def doc_ids(self) -> Sequence[str]:
        return self.index.doc_ids

    def document_weights(self) -> sp.csr_matrix:
        """BM25 weights, float32 [documents, words]; its product with encoded queries is the BM25 score."""
        return self.index.vectors()

    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Counts of known words, float32 [texts, words]."""
        return self.words.count(texts)

    def search_texts(self, texts: Sequence[str], k: int) -> Hits:
        return self.index.search(self.encode_queries(texts), k)

    def mode(self, k: int) -> str:
        """As `SparseIndex.mode`."""
        return self.index.mode(k)

    def save(self, folder: str | Path) -> None:
        """Write the index and its settings to a folder."""
        words = self.words
        settings = {
            "k1": self.k1,
            "b": self.b,
            "stemmer": words.stemmer,
            "stopwords": words.stopwords,
            "pattern": words.pattern,
            "segmenter": words.segmenter,
            "vocabulary": list(words.vocabulary),
        }
        self.index.save(folder, {SETTINGS: settings})

    @classmethod
    def load(cls, folder: str | Path, verify: bool = True) -> BM25Index:
        """As SparseIndex.load."""
        return reading_folder(folder, lambda: cls._load(Path(folder), verify))

    @classmethod
    def _load(cls, folder: Path, verify: bool) -> BM25Index:
        file = folder / SETTINGS
        settings = read_json(file)
        try:
            words = Words(
                settings["stemmer"],
                settings["stopwords"],
                settings["pattern"],
                settings["vocabulary"],
                segmenter=settings.get("segmenter"),
            )
            k1, b = float(settings["k1"]), float(settings["b"])
        except (KeyError, TypeError) as error:
            raise InputError(f"{file}: lacks {error}; build the index anew") from error
        index = SparseIndex.load(folder, verify)
        if index.vocabulary != vocabulary_fingerprint(words.vocabulary):
            raise InputError(f"{file}: not the vocabulary of the index beside it; build the index anew")
        return cls(index, words, k1, b)
