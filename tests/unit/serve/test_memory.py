"""What a server hands back to the system before it serves."""

from __future__ import annotations

import subprocess
import sys

import pytest

from neural_sparse.serve.memory import _unchanged

HANDED_BACK = """
import numpy as np
import scipy.sparse as sp
from neural_sparse.search import SparseIndex
from neural_sparse.serve.memory import SMAPS, _unchanged, hand_back

def resident():
    return sum(size for _, _, size in _unchanged(SMAPS.read_text()))

index = SparseIndex.build(sp.csr_matrix(np.eye(3, dtype=np.float32)), list("abc"))
before = index.search(index.vectors(), 2)
held = resident()
dropped = hand_back()
assert held / 2 < dropped, (held, dropped)
assert resident() < held / 2, (held, resident())
after = index.search(index.vectors(), 2)
assert (before.docs == after.docs).all() and before.ids() == after.ids() == [["a"], ["b"], ["c"]]
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/smaps")
def test_code_that_only_starting_needs_is_dropped_and_comes_back() -> None:
    subprocess.run([sys.executable, "-c", HANDED_BACK], check=True)


def test_only_what_is_as_in_the_file_is_dropped() -> None:
    def mapping(address: str, rights: str, name: str, anonymous: int) -> str:
        return f"{address} {rights} 00000000 fe:00 12  {name}\nRss: 8 kB\nAnonymous: {anonymous} kB\n"

    smaps = (
        mapping("1000-3000", "r-xp", "/lib/liba.so.1", 0)
        + mapping("3000-5000", "r--p", "/lib/liba.so.1", 4)  # with addresses that the loader put in
        + mapping("5000-7000", "rw-p", "/lib/liba.so.1", 0)
        + mapping("7000-9000", "r--s", "/data/docs.npy", 0)
        + mapping("9000-b000", "r-xp", "", 0)
    )
    assert list(_unchanged(smaps)) == [(0x1000, 0x3000, 8192)]
