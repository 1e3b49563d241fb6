"""The export against the model: vectors, lengths, queries and ranking, as figures with limits.

Looked at are texts that break tokenizers and shapes, through ML Commons' own steps on the exported zips, and what
truncation, or another form of the model, does to rankings of a collection.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from rich.text import Text
from tokenizers import Tokenizer
from tqdm import tqdm

from neural_sparse.errors import InputError
from neural_sparse.evaluation.measures import evaluate_run
from neural_sparse.evaluation.runs import run_from_hits
from neural_sparse.evaluation.significance import randomisation_test
from neural_sparse.model.csr_rows import CsrRows
from neural_sparse.model.encoding import to_csr
from neural_sparse.model.layout import split_by_length
from neural_sparse.opensearch.features import stored
from neural_sparse.opensearch.packages import Package
from neural_sparse.opensearch.shipped import TwoPhase, heavy, two_phase_search
from neural_sparse.report.tables import terminal_table
from neural_sparse.search import Hits, SparseIndex
from neural_sparse.text.tokens import tokenize_windows

if TYPE_CHECKING:
    from rich.table import Table

    from neural_sparse.corpora.collection import Collection
    from neural_sparse.model.encoder import NeuralSparseEncoder


AWKWARD_TEXTS: dict[str, str] = {
    "empty": "",
    "blank": " \t\n ",
    "one token": "cat",
    "one sentence": "Return a new sorted list from the items in iterable.",
    "repeated": "the the the THE The cat cat",
    "5,000 words": " ".join(f"word{number % 97} and more text" for number in range(1250)),
    "one word of 5,000 letters": "a" * 5000,
    "punctuation": ". .. ... .... !?;:,'\"()[]{}<>/\\|@#$%^&*-_=+`~",
    "numbers": "3.14159 1,000,000 1e-9 0x1F 2026-11-23 10:20",
    "Korean": "한국어 문서 검색 모델을 학습하는 방법",
    "Chinese and Japanese": "信息检索 情報検索 ひらがな カタカナ",
    "Arabic and Hebrew": "استرجاع المعلومات אחזור מידע",
    "accents": "Naïve café Ångström déjà-vu İstanbul ß ﬁ",
    "emoji": "🦊 👩‍👩‍👧‍👦 🇰🇷 👍🏽 ok",
    "control characters": "a\x00b\x01c\x1fd\x7fe\u200bf\ufefff\u202e g\ufffd",
    "special tokens as text": "[CLS] [SEP] [PAD] [UNK] [MASK] <s> </s> cat",
    "code": 'for (int i = 0; i < n; ++i) { s += "\\n$x`y`"; }',
}


UNLISTED = 1.0  # weight of a token that idf.json lacks
SERVER_TOKENS = (
    512  # the server reads no more of a text, special tokens included, whatever tokenizer.json says
)


class ServedDocuments:
    """The SPARSE_ENCODING package at work.

    Attributes:
        module: the traced module; `tokenizer`: the package's.
    """

    def __init__(self, package: str | Path) -> None:
        with zipfile.ZipFile(package) as archive:
            (torchscript,) = (name for name in archive.namelist() if name.endswith(".pt"))
            self.module = torch.jit.load(io.BytesIO(archive.read(torchscript)), map_location="cpu").eval()
            self.tokenizer = _server_tokenizer(archive)

    def output(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Weights [batch, vocabulary] of ids [batch, length]."""
        with torch.inference_mode():
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}
            return self.module(features)["output"]

    def vector(self, text: str) -> np.ndarray:
        """float32 [vocabulary], run alone, shape [1, length], as the server does."""
        ids = torch.tensor([self.tokenizer.encode(text).ids])
        return self.output(ids)[0].numpy()

    def weights(self, text: str) -> dict[str, float]:
        """{token: weight} as the server answers: each non-zero named by decoding its id."""
        vector = self.vector(text)
        named = (
            (self.tokenizer.decode([index], skip_special_tokens=True), float(vector[index]))
            for index in np.flatnonzero(vector).tolist()
        )
        return {name: weight for name, weight in named if name}


def _server_tokenizer(archive: zipfile.ZipFile) -> Tokenizer:
    """The package's tokenizer as the server uses it: DJL cuts at 512 tokens, or earlier if tokenizer.json says so."""
    tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
    asked = (tokenizer.truncation or {}).get("max_length", SERVER_TOKENS)
    tokenizer.enable_truncation(min(asked, SERVER_TOKENS))
    return tokenizer


class ServedQueries:
    """The SPARSE_TOKENIZE package at work."""

    def __init__(self, package: str | Path) -> None:
        with zipfile.ZipFile(package) as archive:
            self.tokenizer = _server_tokenizer(archive)
            table = json.loads(archive.read("idf.json"))
        self.idf = {token: float(np.float32(weight)) for token, weight in table.items()}

    def weights(self, text: str) -> dict[str, float]:
        """{token: weight}: every distinct id of the text, named by decoding it; special tokens have no name."""
        ids = dict.fromkeys(self.tokenizer.encode(text).ids)
        names = (self.tokenizer.decode([index], skip_special_tokens=True) for index in ids)
        return {name: self.idf.get(name, UNLISTED) for name in names if name}


def query_side(package: Package) -> ServedQueries | ServedDocuments:
    """The package that queries go to: looked up, or of a siamese model, encoded."""
    return ServedQueries(package.path) if package.looks_up else ServedDocuments(package.path)


LIMIT = 1e-4  # most that a weight of the export may differ from the model's


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        what: is compared; `cases`: how often.
        difference: the greatest found.
        limit: None where the figure is for information.
        note: about the worst case.
    """

    what: str
    cases: int
    difference: float
    limit: float | None = LIMIT
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.limit is None or self.difference <= self.limit

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare_texts(
    model: NeuralSparseEncoder,
    served: ServedDocuments,
    names: Sequence[str],
    texts: Mapping[str, str] = AWKWARD_TEXTS,
    *,
    what: str = "document vectors, awkward texts",
    limit: float | None = LIMIT,
    queries: bool = False,
) -> Check:
    """Greatest difference of a weight, {token: weight} of the server against the model's, text by text.

    Args:
        queries: the texts are queries, of a siamese model.
    """
    worst, where = 0.0, ""
    for label, text in texts.items():
        vector = model.encode_queries([text]) if queries else model.encode_documents([text])
        ours = _named(vector, names)
        ours.pop("", None)  # tokens the server has no name for weigh 0 in queries too
        difference = _difference(ours, served.weights(text))
        if difference >= worst:
            worst, where = difference, label
    return Check(what, len(texts), difference=worst, limit=limit, note=f"most: {where}" if where else "")


def compare_lengths(
    model: NeuralSparseEncoder,
    served: ServedDocuments,
    silent: Sequence[int],
    *,
    what: str = "",
    limit: float | None = LIMIT,
) -> tuple[Check, Check]:
    """Random ids of many lengths, and batches with padding, against the model's own forward pass."""
    generator = torch.Generator().manual_seed(0)
    longest = model.max_length
    lengths = sorted({*range(1, min(9, longest + 1)), *np.geomspace(1, longest, 12).astype(int).tolist()})

    def difference(batch: int, length: int) -> float:
        ids = torch.randint(0, model.vocab_size, (batch, length), generator=generator)
        mask = torch.ones_like(ids)
        for row in range(1, batch):
            mask[row, int(torch.randint(1, length + 1, (1,), generator=generator)) :] = 0
        with torch.no_grad():
            expected = model(ids.to(model.device), mask.to(model.device)).float().cpu().clone()
        expected[:, list(silent)] = 0
        return float((served.output(ids, mask) - expected).abs().max())

    alone = [difference(1, length) for length in lengths]
    batches = [(2, min(5, longest)), (3, min(33, longest)), (4, longest)]
    together = [difference(*shape) for shape in batches]
    worst = lengths[int(np.argmax(alone))]
    return (
        Check(
            f"{what}document vectors, shapes [1, L]",
            len(lengths),
            difference=max(alone),
            limit=limit,
            note=f"L = {lengths[0]} to {lengths[-1]}; most: L = {worst}",
        ),
        Check(
            f"{what}document vectors, padded batches",
            len(batches),
            difference=max(together),
            limit=limit,
            note=f"up to [4, {longest}]",
        ),
    )


def compare_queries(
    model: NeuralSparseEncoder,
    served: ServedQueries,
    names: Sequence[str],
    texts: Sequence[str],
    *,
    limit: float = 0.0,
) -> list[Check]:
    """Query weights of the server against the model's: the same tokens, equal to the last bit.

    Args:
        limit: more than 0 where weights of 0, which no server takes, were moved to a little above.

    Texts above 512 tokens, which the server cuts and the model does not, are a line of their own without a limit.
    """
    vectors = model.encode_queries(texts)
    whole = Tokenizer.from_str(served.tokenizer.to_str())
    whole.no_truncation()
    worst, where, lost, cut = 0.0, "", 0, 0
    for row, text in enumerate(texts):
        ours, theirs = _named(vectors[row], names), served.weights(text)
        if len(whole.encode(text).ids) > SERVER_TOKENS:
            cut += 1
            lost += any(token not in theirs for token in ours)
            ours = {token: weight for token, weight in ours.items() if token in theirs}
        difference = _difference(ours, theirs)
        if difference > worst:
            worst, where = difference, f"most: {text[:30]!r}"
    checks = [Check("query weights", len(texts), difference=worst, limit=limit, note=where)]
    if cut:
        note = f"of {len(texts):,} queries; by model the server reads no more: bring query_tokens"
        checks.append(
            Check(
                f"queries above {SERVER_TOKENS} tokens, of which some lose tokens",
                cut,
                difference=float(lost),
                limit=None,
                note=note,
            )
        )
    return checks


def _named(vector: sp.csr_matrix, names: Sequence[str]) -> dict[str, float]:
    """{token: weight} of a row [1, vocabulary]."""
    places, weights = vector.indices.tolist(), vector.data.tolist()
    return {names[place]: weight for place, weight in zip(places, weights, strict=True)}


def _difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    return max((abs(ours.get(name, 0.0) - theirs.get(name, 0.0)) for name in {*ours, *theirs}), default=0.0)


def require(checks: Sequence[Check]) -> None:
    """Raises InputError naming every check that failed."""
    if failed := [check for check in checks if not check.passed]:
        listed = "; ".join(
            f"{check.what} differ by {check.difference:.3g}, more than {check.limit:g} ({check.note})"
            for check in failed
        )
        raise InputError(
            f"the export does not score as the model does, so nothing was written: {listed}. If the model "
            "depends on more than token ids and the attention mask, it cannot be exported this way"
        )


def parity_table(checks: Sequence[Check]) -> Table:
    """The checks for a terminal."""
    rows = [
        [
            check.what,
            f"{check.cases:,}",
            _shown(check.difference),
            "" if check.limit is None else "0" if check.limit == 0 else f"{check.limit:.0e}",
            "" if check.limit is None else Text("ok", "green") if check.passed else Text("FAILED", "red"),
            Text(check.note, "dim"),
        ]
        for check in checks
    ]
    headings = ["compared", "cases", "difference", "limit", "", "note"]
    return terminal_table(headings, rows, "Parity with the model")


def _shown(difference: float) -> str:
    if difference == 0:
        return "0"
    return f"{difference:.4f}" if abs(difference) >= 1e-4 else f"{difference:.1e}"


MEASURE = "nDCG@10"


class Rankings:
    """A model's rankings of a collection, to hold others against.

    Attributes:
        documents: csr [documents, vocabulary], the model's.
        values: nDCG@10 of exact scores, per query; score: their mean.
    """

    def __init__(self, model: NeuralSparseEncoder, collection: Collection) -> None:
        self.model = model
        self.collection = collection
        self.query_ids = list(collection.queries)
        self.queries = model.encode_queries(list(collection.queries.values()))
        self.documents = model.encode_documents(collection.texts, show_progress=True)
        self.hits = self._index(self.documents).search(self.queries, 10)
        self.values = self._values(self.hits)
        self.score = _mean(self.values)

    def compare(self, what: str, documents: sp.csr_matrix) -> list[Check]:
        """nDCG@10 of other vectors minus the model's, and how many queries have another top 10."""
        return [self._check(what, self._index(documents).search(self.queries, 10))]

    def _check(self, what: str, hits: Hits) -> Check:
        values = self._values(hits)
        differences = [values[query] - before for query, before in self.values.items()]
        score = _mean(values)
        moved = int((hits.docs != self.hits.docs).any(axis=1).sum())
        n_queries = len(self.query_ids)
        p_value = randomisation_test(differences, 10_000)
        note = (
            f"{self.collection.name}: {self.score:.4f} -> {score:.4f}, p {p_value:.2g}; "
            f"{moved:,} of {n_queries:,} queries order their top 10 differently ({moved / n_queries:.0%})"
        )
        return Check(f"{MEASURE}, {what}", n_queries, difference=score - self.score, limit=None, note=note)

    def truncated(self) -> list[Check]:
        """Lucene's 9 bits against exact weights."""
        return self.compare("Lucene's 9 bits against exact", stored(self.documents))

    def shipped(
        self,
        lookup: ServedQueries | None,
        names: Sequence[str],
        prune: float | None,
        two_phase: TwoPhase | None,
    ) -> list[Check]:
        """What `deploy` makes of it: 9 bits of pruned documents and cut queries, and both through two-phase search.

        Args:
            lookup: None where queries are encoded, at the length at which the model reads them anyway.
        """
        documents = stored(self.documents if prune is None else heavy(self.documents, prune))
        queries = self.queries
        if lookup is not None:
            queries = served_queries(queries, list(self.collection.queries.values()), lookup, names)
        what = "9 bits" if prune is None else f"9 bits, pruned at {prune:g}"
        if cut := int((np.diff(queries.indptr) != np.diff(self.queries.indptr)).sum()):
            what += f", {cut:,} queries cut"
        checks = []
        if prune is not None or cut:
            checks.append(self._check(f"shipped ({what})", self._index(documents).search(queries, 10)))
        if two_phase is not None:
            hits = two_phase_search(documents, queries, 10, two_phase)
            checks.append(self._check(f"two-phase ({what})", hits))
        return checks

    def encoded_by(self, run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> sp.csr_matrix:
        """The collection encoded by another form of the model, run(ids, mask) -> weights."""
        texts, pad_id = self.collection.texts, int(self.model.tokenizer.pad_token_id or 0)
        vectors = CsrRows(self.model.vocab_size)
        with tqdm(total=len(texts), desc="encoding", unit="doc", disable=None) as progress:
            for tokens in tokenize_windows(
                texts, self.model.tokenizer, self.model.max_length, special_tokens=True
            ):
                parts, order = [], []
                packed = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.offsets)
                for rows, ids, mask in split_by_length(*packed, pad_id, 1024):
                    parts.append(to_csr(run(ids, mask)))
                    order.append(rows.numpy())
                    progress.update(len(rows))
                vectors.append(sp.vstack(parts, format="csr")[np.argsort(np.concatenate(order))])
        return vectors.matrix()

    def _index(self, documents: sp.csr_matrix) -> SparseIndex:
        return SparseIndex.build(documents, self.collection.doc_ids)

    def _values(self, hits: Hits) -> dict[str, float]:
        """{query: nDCG@10}."""
        run = run_from_hits(hits, self.query_ids, self.collection.doc_ids)
        return evaluate_run(run, self.collection.qrels, [MEASURE]).per_query[MEASURE]


def _mean(values: Mapping[str, float]) -> float:
    return math.fsum(values.values()) / len(values)


def served_queries(
    queries: sp.csr_matrix, texts: Sequence[str], lookup: ServedQueries, names: Sequence[str]
) -> sp.csr_matrix:
    """csr [queries, vocabulary] as a query model of the server makes them: what stands after 512 tokens is lost."""
    kept = sp.csr_matrix(queries, copy=True)
    for row, text in enumerate(texts):
        if len(text) <= SERVER_TOKENS - 2:  # no text has more tokens than letters, [CLS] and [SEP] aside
            continue
        known = lookup.weights(text)
        span = slice(kept.indptr[row], kept.indptr[row + 1])
        lost = [names[column] not in known for column in kept.indices[span].tolist()]
        kept.data[span] = np.where(lost, 0, kept.data[span])
    kept.eliminate_zeros()
    return kept


def too_long(lookup: ServedQueries, texts: Sequence[str]) -> int:
    """How many texts have more tokens than the server reads."""
    whole = Tokenizer.from_str(lookup.tokenizer.to_str())
    whole.no_truncation()
    return sum(
        len(text) > SERVER_TOKENS - 2 and len(whole.encode(text).ids) > SERVER_TOKENS for text in texts
    )


def compare_shipped(
    model: NeuralSparseEncoder, prune: float | None, texts: Mapping[str, str] = AWKWARD_TEXTS
) -> list[Check]:
    """How far 9 bits and pruning move scores among a few texts, as a share of each score; for information."""
    documents = model.encode_documents(list(texts.values()))
    queries = model.encode_queries(list(texts.values()))
    kept = stored(documents if prune is None else heavy(documents, prune))
    exact = (queries @ documents.T).toarray()
    found = (queries @ kept.T).toarray()
    moved = np.abs(exact - found)[exact > 0] / exact[exact > 0]
    what = "scores among awkward texts, 9 bits" + ("" if prune is None else f", pruned at {prune:g}")
    dropped = 1 - kept.nnz / max(documents.nnz, 1)
    note = f"relative, mean {moved.mean() if len(moved) else 0:.3f}; {dropped:.0%} of weights dropped"
    return [Check(what, len(moved), difference=float(moved.max(initial=0)), limit=None, note=note)]
