from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from neural_sparse import NeuralSparseEncoder
from neural_sparse.opensearch.export import Export, export_model
from neural_sparse.text.tokens import vocabulary


@pytest.fixture(scope="session")
def doc_only_model(tiny_model: Callable[..., Path]) -> NeuralSparseEncoder:
    """A tiny doc-only model: random weights, query weights by position in the vocabulary."""
    model = NeuralSparseEncoder(tiny_model(), 32, device="cpu")
    model.set_query_weights(
        {token: 0.5 + index / 50 for index, token in enumerate(vocabulary(model.tokenizer))}
    )
    model.name = "runs/tiny"
    return model


@pytest.fixture(scope="session")
def exported(doc_only_model: NeuralSparseEncoder, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export_model(doc_only_model, tmp_path_factory.mktemp("export") / "out")
