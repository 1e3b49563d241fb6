"""The doctor's rules for an IDF table: published and computed ones are healthy, each illness is named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_sparse.doctor import Finding
from neural_sparse.doctor.idf_table import ENOUGH_DOCUMENTS, MEAN, idf_findings
from neural_sparse.idf import idf_from_counts
from neural_sparse.io.files import read_json


def table(documents: int = 5000, tokens: int = 400, seen: float = 1.0) -> dict[str, float]:
    """Zipf's law: token r is in about documents / r of them, the last ones in a single one."""
    counts = np.maximum(documents // np.arange(1, tokens + 1), 1)
    counts[-1] = 1
    weights = idf_from_counts(counts, documents)
    weights[int(seen * tokens) : -1] = 1.0
    return {"[PAD]": 1.0, "[UNK]": 1.0} | {f"t{i}": float(weight) for i, weight in enumerate(weights)}


def ill(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.verdict != "ok"}


@pytest.mark.parametrize("documents", [150, 5000, 8_841_823])
def test_a_computed_table_is_healthy(documents: int) -> None:
    good = table(documents)
    assert ill(idf_findings(good, list(good))) == {}
    found = {finding.check: finding.found for finding in idf_findings(good)}
    assert f"about {documents:,} documents" in found["corpus"]


@pytest.mark.parametrize("name", ["bert-uncased", "mbert-uncased"])
def test_published_tables_are_healthy(shared_data: Path, name: str) -> None:
    folder = shared_data / "tokenizers" / name
    names = list(read_json(folder / "tokenizer.json")["model"]["vocab"])
    findings = idf_findings(read_json(folder / "idf.json"), names)
    assert ill(findings) == {}
    assert len(findings) == 6


@pytest.mark.parametrize("weight", [math.nan, math.inf, "3", None, True])
def test_weights_that_are_no_numbers(weight: Any) -> None:
    findings = idf_findings(table() | {"bad": weight})
    assert [finding.verdict for finding in findings] == ["problem"]
    assert "1 are no finite numbers ('bad'" in findings[0].found
    assert "neural-sparse idf CORPUS" in findings[0].advice


@pytest.mark.parametrize(
    ("weight", "words"), [(0.0, "1 tokens weigh 0 or less"), (-1.0, "0 or less"), (64.1, "more than 64")]
)
def test_weights_that_fail_queries(weight: float, words: str) -> None:
    finding = ill(idf_findings(table() | {"bad": weight}))["IDF range"]
    assert finding.verdict == "problem"
    assert words in finding.found
    assert "OpenSearch fails a query" in finding.advice


def test_64_is_taken() -> None:
    assert "IDF range" not in ill(idf_findings(table() | {"edge": 64.0}))


def test_no_idf_at_all() -> None:
    found = ill(idf_findings(dict.fromkeys("abcdef", 1.0)))
    assert found["IDF range"].verdict == "problem"
    assert "all weights are equal" in found["IDF range"].advice


def test_special_tokens_may_weigh_0_and_do_not_count() -> None:
    good = table() | {"[CLS]": 0.0, "[UNK]": 60.0}
    assert ill(idf_findings(good)) == {}
    assert idf_findings({"[CLS]": 0.0, "[UNK]": 1.0})[0].verdict == "problem"  # nothing else in it


def test_a_mean_that_is_no_idf() -> None:
    rng = np.random.default_rng(0)
    probabilities = {f"t{i}": float(value) for i, value in enumerate(rng.dirichlet(np.ones(300)) + 1e-9)}
    assert ill(idf_findings(probabilities))["IDF mean"].verdict == "warning"
    at = {"a": MEAN - 0.4, "b": MEAN + 0.4 + 1e-9}
    assert "IDF mean" not in ill(idf_findings(at))
    assert "IDF mean" in ill(idf_findings({"a": MEAN - 0.4, "b": MEAN + 0.39}))


def test_too_few_documents() -> None:
    finding = ill(idf_findings(table(60, 40)))["corpus"]
    assert "about 60 documents" in finding.found
    assert "idf=FILE" in finding.advice


def test_no_frequent_token() -> None:
    cut = {token: weight for token, weight in table().items() if weight > 2.5}
    assert "counted whole" in ill(idf_findings(cut))["corpus"].advice


def test_unseen_tokens_matter_in_small_corpora() -> None:
    assert ill(idf_findings(table(ENOUGH_DOCUMENTS - 1, seen=0.3)))["unseen tokens"].verdict == "warning"
    assert "unseen tokens" not in ill(idf_findings(table(ENOUGH_DOCUMENTS, seen=0.3)))
    assert "unseen tokens" not in ill(idf_findings(table(200, seen=0.8)))


def test_another_tokenizers_table() -> None:
    good = table()
    assert ill(idf_findings(good, [f"other{i}" for i in range(400)]))["vocabulary"].verdict == "problem"
    missing = ill(idf_findings(good, [*good, *(f"new{i}" for i in range(9))]))
    assert missing["vocabulary"].verdict == "warning"
    assert "9 missing" in missing["vocabulary"].found
    assert "vocabulary" not in ill(idf_findings(good, [*good, "new"]))  # as the published multilingual one
