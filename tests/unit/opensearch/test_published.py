from __future__ import annotations

from pathlib import Path

import pytest

from neural_sparse.idf import idf_weights
from neural_sparse.opensearch.guards import server_names
from neural_sparse.opensearch.published import published_analyzer


@pytest.mark.parametrize("name", ["bert-uncased", "mbert-uncased"])
def test_the_servers_own_tables_are_recognised(shared_data: Path, name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = shared_data / "tokenizers" / name
    special = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special)
    vector = idf_weights(folder / "idf.json", tokenizer).vector.tolist()
    table = {token: weight for token, weight in zip(server_names(tokenizer), vector, strict=True) if token}
    assert published_analyzer(table) == name
    table["the"] *= 1.001
    assert published_analyzer(table) is None
