from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SparseEncoder

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.evaluation import Evaluation
from neural_sparse.hub import model_card as model_folder
from neural_sparse.hub.push import prepare_folder, upload_folder


def test_a_folder_for_the_hub(doc_only_model: NeuralSparseEncoder, tmp_path: Path) -> None:
    Evaluation("m", "scifact", {"nDCG@10": 0.6789}, {"nDCG@10": {"q": 0.6789}}).save(tmp_path / "results")
    with prepare_folder(doc_only_model, "me/tiny", tmp_path / "out", tmp_path / "results", "apache-2.0") as (
        folder,
        checks,
    ):
        assert folder == tmp_path / "out"
    assert [check.cases for check in checks] == [17, 17]
    assert all(check.passed for check in checks)
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: sentence-transformers\n")
    assert "| scifact | 0.679 |" in card
    assert 'SparseEncoder("me/tiny")' in card
    plain = SparseEncoder(str(folder), device="cpu")
    theirs = plain.encode_document(["quick brown fox"], convert_to_sparse_tensor=False).numpy()
    ours = doc_only_model.encode_documents(["quick brown fox"]).toarray()
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_a_folder_of_a_model_that_counts_own_words_says_how_to_load_it(
    doc_only_model: NeuralSparseEncoder, tmp_path: Path
) -> None:
    model = copy.deepcopy(doc_only_model)
    model.set_own_words(0.5)
    with prepare_folder(model, "me/tiny", tmp_path / "out") as (folder, checks):
        card = (folder / "README.md").read_text()
    assert all(check.passed for check in checks)
    assert 'from neural_sparse import NeuralSparseEncoder\n\nmodel = NeuralSparseEncoder("me/tiny")' in card
    assert "log(1 + ReLU) + own words as BM25 counts them" in card
    text = "fox fox quick"
    np.testing.assert_allclose(
        NeuralSparseEncoder(folder).encode_documents([text]).toarray(),
        model.encode_documents([text]).toarray(),
        atol=1e-5,
    )
    assert not np.allclose(
        model.encode_documents([text]).toarray(), doc_only_model.encode_documents([text]).toarray()
    )


def test_a_dry_run_leaves_nothing(doc_only_model: NeuralSparseEncoder) -> None:
    with prepare_folder(doc_only_model, None) as (folder, _):
        assert (folder / "modules.json").is_file()
        assert not list(folder.rglob("*.bin"))
    assert not folder.exists()


def test_a_folder_that_scores_otherwise_is_refused(
    doc_only_model: NeuralSparseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = doc_only_model.query_weights.clone()
    card = model_folder.model_card

    def spoil(*args: object) -> str:  # after the model was saved
        doc_only_model.query_weights.mul_(1.01)
        return card(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(model_folder, "model_card", spoil)
    try:
        with (
            pytest.raises(InputError, match="query vectors, plain sentence-transformers differ"),
            prepare_folder(doc_only_model, "me/tiny", tmp_path / "out"),
        ):
            pass
    finally:
        doc_only_model.query_weights.copy_(before)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_pushed(
    doc_only_model: NeuralSparseEncoder, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("tiny", "a/b/c", "/"):
        with pytest.raises(InputError, match="OWNER/NAME"), prepare_folder(doc_only_model, name):
            pass
    siamese = NeuralSparseEncoder(tiny_model(), device="cpu")
    with pytest.raises(InputError, match="no query side"), prepare_folder(siamese, "me/tiny"):
        pass
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(InputError, match="holds no evaluation"),
        prepare_folder(doc_only_model, "me/tiny", evaluation=tmp_path / "empty"),
    ):
        pass


def test_no_upload_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE|cannot be reached"):
        upload_folder(tmp_path, "me/tiny")
