from __future__ import annotations

import os
import platform
import subprocess
import sys
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


TOUCHES = """
import resource, sys
import numpy as np
from neural_sparse.io.resources import keep_memory, release_memory, resident_memory
kept = keep_memory() if sys.argv[1] == "keep" else None
def touched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(10 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
touched()
print(kept, sum(touched() for _ in range(4)))
before = resident_memory()
release_memory()
print((before - resident_memory()) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another libc is left as it is")
def test_kept_memory_is_not_touched_anew() -> None:
    def run(how: str, **environment: str) -> tuple[str, int, int]:
        command = [sys.executable, "-c", TOUCHES, how]
        variables = {**os.environ, **environment}
        for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
            if name not in environment:
                variables.pop(name, None)
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        kept, pages, released = done.stdout.split()
        return kept, int(pages), int(released)

    kept, pages, released = run("keep")
    assert kept == "True"
    assert pages < 100
    assert released >= 79  # the block, 80 MB, goes back when asked
    assert run("leave")[1] >= 4  # huge pages may make them few
    assert run("keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"  # the user's settings stand
