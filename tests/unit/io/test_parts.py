"""Work in parts: what a kill, damage or another setting does to it."""

import pytest

from neural_sparse.errors import InputError
from neural_sparse.io.parts import Parts


def fill(parts, number, text):
    with parts.write(number) as temporary:
        temporary.write_text(text)


def test_parts_written_in_any_order_are_listed_in_order(tmp_path):
    parts = Parts(tmp_path / "work", {"model": "a"}, 3, "txt")
    for number in (2, 0, 1):
        fill(parts, number, str(number))
    assert parts.missing() == []
    assert [file.read_text() for file in parts.files()] == ["0", "1", "2"]


def test_goes_on_with_what_is_missing(tmp_path):
    fill(Parts(tmp_path, {"model": "a"}, 3, "txt"), 1, "one")
    again = Parts(tmp_path, {"model": "a"}, 3, "txt")
    assert again.missing() == [0, 2]


def test_who_can_read_a_folder_can_read_its_parts(tmp_path):
    parts = Parts(tmp_path / "work", {}, 1, "txt")
    with parts.write(0) as temporary:
        temporary.touch(mode=0o600)  # as safetensors does
    (file,) = parts.files()
    assert file.stat().st_mode & 0o666 == file.parent.stat().st_mode & 0o666


def test_an_interrupted_part_leaves_nothing(tmp_path):
    parts = Parts(tmp_path, {}, 1, "txt")
    with pytest.raises(UnicodeEncodeError), parts.write(0) as temporary:
        temporary.write_text("half \ud800")
    assert parts.missing() == [0]
    assert [file.name for file in tmp_path.iterdir()] == ["parts.json"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    Parts(tmp_path, {}, 1, "txt")
    (tmp_path / ".part-000000-17.tmp").write_text("half")
    Parts(tmp_path, {}, 1, "txt")
    assert [file.name for file in tmp_path.iterdir()] == ["parts.json"]


def test_a_damaged_part_is_made_again(tmp_path):
    parts = Parts(tmp_path, {}, 2, "txt")
    fill(parts, 0, "zero")
    fill(parts, 1, "one")
    parts.files()[1].write_text("onf")
    assert Parts(tmp_path, {}, 2, "txt").missing() == [1]


def test_other_settings_are_refused_by_name(tmp_path):
    Parts(tmp_path, {"model": "a", "max_length": 256}, 2, "txt")
    with pytest.raises(InputError, match="max_length: 256 -> 128"):
        Parts(tmp_path, {"model": "a", "max_length": 128}, 2, "txt")
    with pytest.raises(InputError, match="parts: 2 -> 3"):
        Parts(tmp_path, {"model": "a", "max_length": 256}, 3, "txt")


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="something else"):
        Parts(tmp_path, {}, 1, "txt")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        Parts(tmp_path / "file" / "work", {}, 1, "txt")


def test_what_fails_elsewhere_is_not_told_as_a_failure_to_write(tmp_path):
    parts = Parts(tmp_path / "work", {}, 1, "txt")
    with pytest.raises(FileNotFoundError), parts.write(0):
        (tmp_path / "absent").read_text()
    with pytest.raises(ConnectionError), parts.write(0):
        raise ConnectionResetError("peer")
    with pytest.raises(InputError, match=r"cannot write .*work: No space left"), parts.write(0):
        raise OSError(28, "No space left on device")
    assert parts.missing() == [0]
