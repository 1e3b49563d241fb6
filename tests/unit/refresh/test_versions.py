"""Versions: whole or absent, one in use, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from neural_sparse.errors import InputError
from neural_sparse.io.files import write_json
from neural_sparse.refresh.versions import ABOUT, CURRENT, Versions


def add(versions: Versions, made_from: int | None, use: bool = True) -> int:
    with versions.adding() as (number, folder):
        write_json(folder / ABOUT, {"from": made_from})
    if use:
        versions.use(number)
    return number


def test_forth_and_back(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "query")
    assert (versions.current, versions.numbers()) == (None, [])
    assert [add(versions, None), add(versions, 1), add(versions, 2, use=False)] == [1, 2, 3]
    assert versions.current == 2
    assert (tmp_path / "query" / CURRENT / ABOUT).is_file()
    assert add(versions, 2) == 4
    assert versions.back() == 2
    assert versions.back() == 1
    assert versions.back(3) == 3
    assert Versions(tmp_path / "query").current == 3
    versions.use(1)
    with pytest.raises(InputError, match="version 1 is the first"):
        versions.back()
    with pytest.raises(InputError, match="no version 7; there are: 1, 2, 3, 4"):
        versions.back(7)
    assert not list((tmp_path / "query").glob(".*"))


def test_what_stops_in_the_middle_is_no_version(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "query")
    add(versions, None)

    def killed() -> None:
        with versions.adding() as (_, folder):
            write_json(folder / "idf.json", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        killed()
    assert (versions.numbers(), versions.current) == ([1], 1)
    assert add(versions, 1) == 2


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(InputError, match="something else"):
        Versions(tmp_path / "model")
    with pytest.raises(InputError, match="is a file"):
        Versions(tmp_path / "model" / "config.json")
    with pytest.raises(InputError, match="holds no versions"):
        Versions(tmp_path / "nowhere").back()
