"""A model without torch: what `neural-sparse export --format onnx` wrote, at work."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import load_file

from neural_sparse.errors import InputError
from neural_sparse.idf import IdfWeights
from neural_sparse.io.files import check_sums, read_json
from neural_sparse.model.csr_rows import CsrRows, nonzero_rows
from neural_sparse.model.runtimes import Runtime, load_runtime
from neural_sparse.model.word_counts import WordClasses, saturated
from neural_sparse.query import QueryEncoder, query_fingerprint
from neural_sparse.text.lengths import length_groups
from neural_sparse.text.tokens import (
    TokenizerFile,
    Tokens,
    encode_queries,
    tokenize_windows,
    top_terms,
    vocabulary,
)
from neural_sparse.work.progress import progress
from neural_sparse.work.workers import available_cores

EXPORT = "export.json"
ONNX_FORMAT = "onnx"  # what EXPORT says of it
GRAPH, OWN_WORDS, QUERY = "model.onnx", "own_words.safetensors", "query"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
TOKENS_PER_BATCH = 4096


def is_onnx_export(folder: str | Path) -> bool:
    """Whether `neural-sparse export --format onnx` wrote it."""
    file = Path(folder) / EXPORT
    if not file.is_file():
        return False
    about = read_json(file)
    return isinstance(about, dict) and about.get("format") == ONNX_FORMAT


class ExportedEncoder:
    """Documents through an ONNX file, queries through a table: the vectors of the model that was exported.

    They differ from `NeuralSparseEncoder`'s by less than 1e-4 a weight, as was proved when it was exported (its
    export.json says by how much), or by what 8 bits cost. Needs onnxruntime or openvino, and no torch.

        encoder = ExportedEncoder("outputs/onnx")
        encoder.encode_documents(["Return a new sorted list."])  # csr [1, vocabulary]

    Args:
        folder: what `neural-sparse export --format onnx` wrote.
        runtime: "onnx" (ONNX Runtime) or "openvino".
        max_length: tokens per document, special ones included; as it was exported if None.
        threads: cores to use; all there are if None.
        bf16: multiply in bfloat16; for "openvino" alone.

    Raises:
        InputError: no such export, a damaged one, or another runtime than is installed; a document longer than was
            exported.
    """

    def __init__(
        self,
        folder: str | Path,
        runtime: Runtime = "onnx",
        *,
        max_length: int | None = None,
        threads: int | None = None,
        bf16: bool = False,
    ) -> None:
        home = Path(folder)
        if not is_onnx_export(home):
            raise InputError(
                f"{folder} is no ONNX export: make one with `neural-sparse export MODEL --format onnx --output FOLDER`"
            )
        about = read_json(home / EXPORT)
        check_sums(home, about["files"], True, "copy it again, or export the model again")
        if max_length is not None and max_length > about["max_length"]:
            raise InputError(
                f"{folder} reads {about['max_length']:,} tokens of a document, not {max_length:,}: export it with "
                f"--max-length {max_length}"
            )
        self.name = str(folder)
        self.folder = home
        self.max_length: int = max_length or about["max_length"]
        self.documents_digest: str = about["fingerprint"]["documents"]
        self.tokenizer = _ExportedTokenizer(home)
        self.vocab_size = len(self.tokenizer.get_vocab())
        self.threads = threads or available_cores()
        self._pad_id: int = about["pad_id"]
        self._run = load_runtime(runtime, home / GRAPH, self.threads, bf16)
        self._own_words = _OwnWords(home / OWN_WORDS, **about["own_words"]) if about["own_words"] else None

    @cached_property
    def query_weights(self) -> np.ndarray:
        """float32 [vocabulary], 0 for special tokens."""
        return QueryEncoder(self.folder / QUERY).weights

    def idf_table(self) -> IdfWeights:
        """The query side's weights as {token: weight}."""
        weights = self.query_weights.copy()
        return IdfWeights(dict(zip(self._names, weights.tolist(), strict=True)), weights)

    @property
    def queries_digest(self) -> str:
        """As `NeuralSparseEncoder.queries_digest`."""
        return query_fingerprint(self.tokenizer.get_vocab(), self.query_weights)

    @cached_property
    def _names(self) -> list[str]:
        return vocabulary(self.tokenizer)

    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Weights of the tokens present, csr float32 [queries, vocabulary]."""
        return encode_queries(texts, self.tokenizer, self.query_weights)

    def top_terms(self, vector: sp.csr_matrix, k: int | None = None) -> list[tuple[str, float]]:
        """(token, weight) of a single vector [1, vocabulary], heaviest first."""
        return top_terms(vector, self._names, k)

    def encode_documents(self, texts: Sequence[str], show_progress: bool = False) -> sp.csr_matrix:
        """Document vectors, csr float32 [documents, vocabulary], in batches of similar length.

        Equal texts in equal order give equal bytes, with any number of threads.

        Args:
            texts: read once, in order.

        Raises:
            InputError: an entry that is no string; weights that are not finite.
        """
        vectors = CsrRows(self.vocab_size)
        with progress(len(texts), "encoding", "documents", show=show_progress) as advance:
            for tokens in tokenize_windows(texts, self.tokenizer, self.max_length, special_tokens=True):
                vectors.append(self.encode_tokens(tokens, advance))
        return vectors.matrix()

    def encode_tokens(
        self, tokens: Tokens, advance: Callable[[int], object] = lambda documents: None
    ) -> sp.csr_matrix:
        """As `encode_documents`, of tokenized documents; `advance` is told how many more are done."""
        groups = length_groups(tokens.lengths, max_tokens=TOKENS_PER_BATCH, min_tokens=TOKENS_PER_BATCH // 2)
        parts: list[sp.csr_matrix] = []
        # Groups side by side, each on one core: what comes out does not depend on how many there are.
        with ThreadPoolExecutor(self.threads, thread_name_prefix="neural-sparse-batch") as pool:
            for rows, vectors in zip(
                groups, pool.map(lambda rows: self._group(tokens.take(rows)), groups), strict=True
            ):
                parts.append(vectors)
                advance(len(rows))
        if not parts:
            return sp.csr_matrix(np.empty((0, self.vocab_size), np.float32))
        return sp.vstack(parts, format="csr")[np.argsort(np.concatenate(groups))]

    def _group(self, tokens: Tokens) -> sp.csr_matrix:
        lengths = tokens.lengths
        mask = np.arange(max(1, int(lengths.max()))) < lengths[:, None]
        ids = np.full(mask.shape, self._pad_id, np.int64)
        ids[mask] = tokens.ids
        dense = self._run(ids, mask.astype(np.int64))
        dense[lengths == 0] = 0.0
        vectors = nonzero_rows(np.ascontiguousarray(dense, np.float32))
        if not np.isfinite(vectors.data).all():
            raise InputError(f"{self.name}: gives weights that are not finite; export the model again")
        return vectors if self._own_words is None else vectors + self._own_words(tokens)


class _ExportedTokenizer(TokenizerFile):
    """Of an export, saved to other folders as it is there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "tokenizer.json")
        self.folder = folder

    def save_pretrained(self, folder: str | Path) -> None:
        for name in TOKENIZER_FILES:
            shutil.copyfile(self.folder / name, Path(folder) / name)


class _OwnWords:
    """As `model.own_words.OwnWords`, whose weights `file` holds."""

    def __init__(self, file: Path, k1: float, b: float, mean_length: float) -> None:
        weights = load_file(file)
        self.strength: np.ndarray = weights["strength"]
        self.words = WordClasses(weights["classes"])
        self.k1, self.b, self.mean_length = k1, b, mean_length

    def __call__(self, tokens: Tokens) -> sp.csr_matrix:
        """What is added to the vectors of documents, csr float32 [documents, vocabulary]."""
        documents, words, count, length = self.words.counts(tokens.ids, tokens.offsets)
        value = self.strength[words] * saturated(count, length, self.mean_length, k1=self.k1, b=self.b)
        shape = (len(tokens), len(self.strength))
        added = sp.csr_matrix((value.astype(np.float32), (documents, words)), shape=shape)
        added.eliminate_zeros()
        return added


def int8_digest(documents: str) -> str:
    """`documents_digest` of a model whose linear layers were quantised: its vectors are others."""
    return hashlib.sha256(f"{documents} int8".encode()).hexdigest()
