from __future__ import annotations

import sys
from pathlib import Path

import pytest

from neural_sparse.errors import InputError
from neural_sparse.model.location import model_not_found, resolve_model


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "weights_for_test"
    (root / "model" / "deep").mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (root / "model" / "deep" / "config.json").write_text("{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    return root


def test_folder_comes_first(tmp_path: Path) -> None:
    assert resolve_model(str(tmp_path)) == str(tmp_path)


def test_folder_of_a_package_is_found_without_importing_it(package: Path) -> None:
    assert resolve_model("weights_for_test/model/deep") == str(package / "model" / "deep")
    assert "weights_for_test" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "weights_for_test/model",  # no config.json there
        "weights_for_test/../outside",
        "weights_for_test",
        "Alibaba-NLP/gte-large-en-v1.5",
        "no.such/thing",
        "sys/model",
        "bert-base-uncased",
    ],
)
def test_anything_else_is_a_hub_id(package: Path, name: str) -> None:
    assert resolve_model(name) == name


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        resolve_model(" ")


def test_the_message_says_what_to_do() -> None:
    error = model_not_found("no/such", OSError("\noffline\nmore"))
    assert isinstance(error, InputError)
    for part in ("no/such", "offline", "folder", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE"):
        assert part in str(error)
    assert "more" not in str(error).splitlines()[0]


def test_a_folder_that_is_there_is_not_told_as_absent(tmp_path: Path) -> None:
    said = str(model_not_found(str(tmp_path), OSError("no file named model.safetensors")))
    assert said == f"the model in the folder {tmp_path} cannot be loaded: no file named model.safetensors"


@pytest.mark.parametrize("below", ["final_model", "model"])
def test_the_folder_of_a_run_names_its_model(tmp_path: Path, below: str) -> None:
    (tmp_path / below).mkdir()
    (tmp_path / below / "config.json").write_text("{}")
    said = str(model_not_found(str(tmp_path), ValueError("no model_type")))
    assert said == f"{tmp_path} is the folder of a run; its model is {tmp_path / below}"


def test_a_full_disk_is_not_told_as_a_model_that_was_not_found() -> None:
    said = str(model_not_found("some/model", OSError(28, "No space left on device")))
    assert "No space left on device" in said
    assert "not found" not in said
