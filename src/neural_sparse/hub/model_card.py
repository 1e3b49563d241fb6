"""A sentence-transformers folder with a model card, as it goes to the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sentence_transformers import SparseEncoder

from neural_sparse.errors import InputError
from neural_sparse.io.files import read_json, write_text
from neural_sparse.opensearch.guards import check_query_side, check_vocabulary
from neural_sparse.opensearch.parity import AWKWARD_TEXTS, LIMIT, Check, require

if TYPE_CHECKING:
    from neural_sparse.model.encoder import NeuralSparseEncoder

_COST = {"flops": "FLOPS", "doc_l1": "mean L1", "doc_terms": "terms per document"}

_CARD = """\
---
{license}library_name: sentence-transformers
pipeline_tag: feature-extraction
tags:
- sentence-transformers
- sparse-encoder
- sparse
- asymmetric
- inference-free
- splade
- opensearch
---

# {name}

An inference-free sparse retriever: documents are encoded once by a transformer of {parameters} parameters, queries are
only tokenized and looked up in a table of {vocabulary:,} weights. Score = sum over shared tokens of the query's weight
times the document's.

| | |
|---|---|
| documents | {architecture}, {activation}{own_words}, {max_length} tokens at most |
| queries | tokens present, weights {lightest:.2f} to {heaviest:.2f} |
| vocabulary | {vocabulary:,} tokens |
{evaluation}
## Use

```python
from {package} import {loader}

model = {loader}("{repository}")
queries = model.encode_query(["sort a list"])
documents = model.encode_document(["Return a new sorted list from the items in iterable."])
print(model.similarity(queries, documents))
```

For OpenSearch: `neural-sparse export {repository} --output export`.
"""


def write_model_folder(
    model: NeuralSparseEncoder,
    folder: Path,
    repository: str,
    evaluation: Path | None = None,
    license_id: str | None = None,
    uniform_query_weights: bool = False,
) -> list[Check]:
    """Save the model with its card, load it in plain sentence-transformers and compare.

    Args:
        evaluation: folder written by `neural-sparse evaluate`, for the card.

    Raises:
        InputError: a model without query weights; `evaluation` is none; the loaded folder differs by more than 1e-4.
    """
    check_vocabulary(model)
    if not uniform_query_weights:
        check_query_side(model)
    figures = _evaluation(evaluation) if evaluation is not None else ""
    model.save_pretrained(str(folder), create_model_card=False)
    write_text(folder / "README.md", model_card(model, repository, figures, license_id))
    checks = _compare(model, folder)
    require(checks)
    return checks


def model_card(
    model: NeuralSparseEncoder, repository: str, evaluation: str = "", license_id: str | None = None
) -> str:
    """README.md of the hub."""
    weights = model.query_weights.detach().float().cpu().numpy()
    ordinary = weights[weights > 0]
    package, loader, own_words = "sentence_transformers", "SparseEncoder", ""
    if model.own_words is not None:
        package, loader = "neural_sparse", "NeuralSparseEncoder"
        own_words = " + own words as BM25 counts them"
    return _CARD.format(
        license=f"license: {license_id}\n" if license_id else "",
        name=repository.split("/")[-1],
        repository=repository,
        parameters=_rounded(sum(parameter.numel() for parameter in model.mlm.parameters())),
        vocabulary=model.vocab_size,
        architecture=type(model.mlm).__name__,
        activation={"log1p": "log(1 + ReLU)", "double_log1p": "log(1 + log(1 + ReLU))"}[model.activation],
        own_words=own_words,
        package=package,
        loader=loader,
        max_length=model.max_length,
        lightest=ordinary.min() if len(ordinary) else 0,
        heaviest=ordinary.max() if len(ordinary) else 0,
        evaluation=evaluation,
    )


def _rounded(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 1e5 else f"{count:,}"


def _evaluation(folder: Path) -> str:
    """A table of what was measured, one line per collection."""
    files = sorted({folder / "metrics.json", *folder.glob("*/metrics.json")})
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for file in files:
        found = read_json(file) if file.is_file() else {}
        if isinstance(found, dict) and "collection" in found and file.parent.name != "bm25":
            cost = found.get("cost") or {}
            figures = {**found["means"], **{label: cost.get(key) for key, label in _COST.items()}}
            rows.append(
                (found["collection"], {key: value for key, value in figures.items() if value is not None})
            )
    if not rows:
        raise InputError(
            f"{folder} holds no evaluation; make one with `neural-sparse evaluate ... --output {folder}`"
        )
    columns = list(rows[0][1])
    lines = [
        "",
        "## Measured",
        "",
        f"| collection | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for collection, measured in rows:
        shown = (f"{measured[column]:.3f}" if column in measured else "" for column in columns)
        lines.append(f"| {collection} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _compare(model: NeuralSparseEncoder, folder: Path) -> list[Check]:
    # Trusted for the module of this package that counts own words.
    plain = SparseEncoder(str(folder), device="cpu", trust_remote_code=model.own_words is not None)
    texts = list(AWKWARD_TEXTS.values())
    documents = plain.encode_document(texts, convert_to_sparse_tensor=False)
    queries = plain.encode_query(texts, convert_to_sparse_tensor=False)
    pairs = (
        ("document vectors, plain sentence-transformers", documents, model.encode_documents(texts), LIMIT),
        ("query vectors, plain sentence-transformers", queries, model.encode_queries(texts), LIMIT),
    )
    return [
        Check(what, len(texts), float(np.abs(theirs.cpu().numpy() - ours.toarray()).max()), limit)
        for what, theirs, ours, limit in pairs
    ]
