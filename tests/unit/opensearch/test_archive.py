from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from neural_sparse import NeuralSparseEncoder
from neural_sparse.opensearch.packages import save_torchscript, write_zip
from neural_sparse.opensearch.traced import example_features, served_encoder, trace


def test_zip_members_are_stored_aligned_and_undated(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    members: list[tuple[str, bytes | Path]] = [("b", b"1" * 100), ("a/ä", b""), ("c", tmp_path / "file")]
    write_zip(tmp_path / "one.zip", members, alignment=64)
    write_zip(tmp_path / "two.zip", members, alignment=64)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    data = (tmp_path / "one.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["b", "a/ä", "c"]
        assert archive.read("c") == b"from a file"
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.compress_type == zipfile.ZIP_STORED
            name, extra = (
                int.from_bytes(data[info.header_offset + at : info.header_offset + at + 2], "little")
                for at in (26, 28)
            )
            assert (info.header_offset + 30 + name + extra) % 64 == 0


def test_torchscript_is_the_same_after_other_traces_and_names_no_path(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("one.pt", "two.pt"):
        model = NeuralSparseEncoder(tiny_model(), device="cpu")
        save_torchscript(trace(served_encoder(model), example_features(model)), tmp_path / name)
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.pt") as archive:
        content = b"".join(name.encode() + archive.read(name) for name in archive.namelist())
    for path in {
        str(Path.cwd()),
        sys.prefix,
        str(Path.home()),
        str(tmp_path),
        str(Path(torch.__file__).parent),
    }:
        assert path.encode() not in content
