from __future__ import annotations

from pathlib import Path

import pytest

from neural_sparse.errors import InputError
from neural_sparse.io.resources import readable, require_space


def test_a_disk_that_is_too_small_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet" / "there", 1, "a little")
    with pytest.raises(
        InputError, match=r"the download of x needs about 1000000.0 TB at .*B are free; make room"
    ):
        require_space(tmp_path, 10**18, "the download of x")


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e8, "200 MB"), (3.26e12, "3.3 TB")]
)
def test_readable(size: float, said: str) -> None:
    assert readable(size) == said
