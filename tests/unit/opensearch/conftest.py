from __future__ import annotations

import pytest

from neural_sparse import NeuralSparseEncoder
from neural_sparse.opensearch.export import Export, export_model


@pytest.fixture(scope="session")
def exported(doc_only_model: NeuralSparseEncoder, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export_model(doc_only_model, tmp_path_factory.mktemp("export") / "out")
