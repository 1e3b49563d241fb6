"""Documents that come until the disk is full: a real file system of a few megabytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_sparse.search.changes import changing
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.search.updating import DocumentModel

pytestmark = pytest.mark.integration
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("unit", "unit/serve")]
MEGABYTES = 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tiny_models import make_masked_lm, make_tokenizer

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = make_tokenizer("bert")
    make_masked_lm("bert", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def state(folder: Path) -> tuple[dict[str, str], list[list[str]]]:
    """Documents as a process that starts now finds them, checksums compared, and what a query finds."""
    collection = EncodedCollection(folder)
    snapshot = collection.snapshot
    rows = snapshot.rows().tolist()
    hits = snapshot.search(collection.encode_queries(["sorted items", "open a file"]), 1000)
    return {snapshot.doc_id(row): snapshot.text(row) for row in rows}, hits.ids()


def test_until_the_disk_is_full_and_on_when_there_is_room_again(
    small_disk: Path, model: str, tmp_path: Path
) -> None:
    """What was answered is there, a batch that the disk has no place for leaves no trace, and the answer says why."""
    from served import running

    from neural_sparse.serve import changing_system, make_app

    rows = [{"_id": f"old{n}", "text": f"open a file and return a stream {n}"} for n in range(30)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    encode_corpus(model, tmp_path / "corpus.jsonl", small_disk / "index", show_progress=False)
    folder = small_disk / "index"
    expected = {row["_id"]: row["text"] for row in rows}
    rng = np.random.default_rng(0)
    refused: list[tuple[int, Any]] = []
    with changing(folder) as collection:
        encode = DocumentModel(model).encode_for(collection.collection.about, folder)
        with running(make_app([changing_system("index", collection, encode)])) as ask:

            def put(number: int, size: int) -> tuple[int, Any]:
                letters = rng.integers(97, 123, size, np.uint8).tobytes().decode()
                documents = {f"new{number}": f"sorted items {letters}", f"old{number % 30}": f"now {number}"}
                answer = ask.post(
                    "/documents", documents=[{"id": key, "text": text} for key, text in documents.items()]
                )
                if answer[0] == 200:
                    expected.update(documents)
                return answer

            room = small_disk / "room"
            room.write_bytes(bytes(1 << 20))
            for number in range(40):
                status, answer = put(number, 300_000)
                if status != 200:
                    refused.append((status, answer))
                    assert state(folder)[0] == expected
                    if len(refused) == 3:
                        break
            assert [status for status, _ in refused] == [507] * 3
            assert all("No space left on device" in answer["error"] for _, answer in refused)
            found = state(folder)
            served = ask.post("/search", query="sorted items", k=1000)[1]["hits"]
            assert [hit["id"] for hit in served] == found[1][0]
            assert ask("DELETE", "/documents", {"ids": ["nobody"]})[0] == 200
            room.unlink()
            assert put(99, 1000)[0] == 200
            assert state(folder)[0] == expected
    assert not [path for path in (folder / "segments").iterdir() if path.name.startswith(".")]
