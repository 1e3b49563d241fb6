"""Encoding a corpus file: what comes out, how it resumes, what it refuses."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from neural_sparse import InputError, NeuralSparseEncoder
from neural_sparse.io.parts import alone
from neural_sparse.model.pruning import Pruning
from neural_sparse.search import encode_corpus as module
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection

PART_BYTES = 400  # several parts


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., Path]) -> str:
    return str(tiny_model("bert"))


@pytest.fixture
def documents(texts: list[str]) -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    words = " ".join(texts).split()
    rows = [{"_id": f"d{n}", "text": " ".join(rng.choice(words, rng.integers(0, 30)))} for n in range(40)]
    rows[3] |= {"title": "Naïve café"}
    rows[7]["text"] = ""
    rows[8]["text"] = rows[9]["text"]
    rows[10]["text"] = "half an emoji \ud83d"
    return rows


@pytest.fixture
def corpus(documents: list[dict[str, str]], tmp_path: Path) -> Path:
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(map(json.dumps, documents)))
    return file


def content(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def encode(model: str, corpus: Path, folder: Path, **settings: object) -> module.EncodingSummary:
    settings = {"part_bytes": PART_BYTES, "show_progress": False, **settings}
    return encode_corpus(model, corpus, folder, **settings)  # type: ignore[arg-type]


def test_is_what_the_encoder_gives(model: str, corpus: Path, documents: list[dict], tmp_path: Path) -> None:
    done = encode(model, corpus, tmp_path / "out", max_length=16)
    encoder = NeuralSparseEncoder(model, 16)
    texts = [f"{row.get('title', '')} {row['text']}".strip().replace("\ud83d", "\ufffd") for row in documents]
    found = EncodedCollection(tmp_path / "out")
    np.testing.assert_allclose(
        found.index.vectors().toarray(), encoder.encode_documents(texts).toarray(), atol=2e-5
    )
    assert list(found.doc_ids) == [row["_id"] for row in documents]
    assert [found.text(row) for row in range(40)] == texts
    assert found.about["nonzero_terms"] == pytest.approx(found.index.vectors().getnnz(1).mean())
    lengths = [len(ids) for ids in encoder.tokenizer(texts).input_ids]
    assert done.truncated == sum(length > 16 for length in lengths) > 0
    assert (done.documents, done.encoded) == (40, 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "out"]


@pytest.mark.integration  # seconds long
def test_any_number_of_workers_gives_the_same_bytes(model: str, corpus: Path, tmp_path: Path) -> None:
    encode(model, corpus, tmp_path / "one")
    encode(model, corpus, tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_goes_on_after_an_interruption(
    model: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(model, corpus, tmp_path / "whole")
    whole = module.in_workers

    def stopped(*arguments: object) -> Iterator[object]:
        for done, pair in enumerate(whole(*arguments)):  # type: ignore[arg-type]
            yield pair
            if done == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "in_workers", stopped)
        with pytest.raises(KeyboardInterrupt):
            encode(model, corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = encode(model, corpus, tmp_path / "out")
    assert 0 < done.encoded < 40 == done.documents
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_pruned(model: str, corpus: Path, tmp_path: Path) -> None:
    encode(model, corpus, tmp_path / "whole")
    encode(model, corpus, tmp_path / "pruned", pruning=Pruning(0.5, 10))
    whole = EncodedCollection(tmp_path / "whole").index.vectors()
    pruned = EncodedCollection(tmp_path / "pruned").index.vectors()
    assert (pruned != Pruning(0.5, 10)(whole)).nnz == 0
    assert 0 < pruned.nnz < whole.nnz


def test_lines_of_text(model: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("open a file\n\n  return a list  \nnaïve café\n")
    encode(model, tmp_path / "corpus.txt", tmp_path / "out", part_bytes=10)
    found = EncodedCollection(tmp_path / "out")
    assert list(found.doc_ids) == ["1", "3", "4"]
    assert [found.text(row) for row in range(3)] == ["open a file", "return a list", "naïve café"]


def test_an_encoded_collection_is_replaced_and_nothing_else(model: str, corpus: Path, tmp_path: Path) -> None:
    encode(model, corpus, tmp_path / "out")
    encode(model, corpus, tmp_path / "out", pruning=Pruning(top_k=1))
    assert EncodedCollection(tmp_path / "out").about["nonzero_terms"] <= 1
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("")
    with pytest.raises(InputError, match="holds something else"):
        encode(model, corpus, tmp_path / "thesis")
    with pytest.raises(InputError, match="is a file"):
        encode(model, corpus, corpus)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"_id": "d1", "text": "twice"}', "line 41: document id 'd1' occurs twice"),
        ('{"_id": "x", "text": ', "line 41: not valid JSON"),
        ('{"_id": "x", "text": 3}', "line 41: text must be a text, found a number"),
        ('{"text": "no id"}', "line 41: lacks '_id'"),
    ],
)
def test_a_bad_line_stops_it_before_anything_is_encoded(
    model: str, corpus: Path, tmp_path: Path, line: str, message: str
) -> None:
    corpus.write_text(corpus.read_text() + "\n" + line)
    with pytest.raises(InputError, match=message):
        encode(model, corpus, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [corpus]


def test_too_little_disk(model: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="GB are still needed"):
        encode(model, corpus, tmp_path / "out")


def test_an_empty_corpus(model: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text("\n")
    with pytest.raises(InputError, match="empty"):
        encode(model, tmp_path / "corpus.jsonl", tmp_path / "out")


@pytest.mark.parametrize(
    "file",
    ["texts.bin", "text_offsets.npy", "idf.json", "tokenizer.json", "index/index.json", "index/docs.npy"],
)
def test_damage_anywhere_is_found(model: str, corpus: Path, tmp_path: Path, file: str) -> None:
    encode(model, corpus, tmp_path / "out")
    damaged = tmp_path / "out" / file
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match=f"{damaged.name} is damaged"):
        EncodedCollection(tmp_path / "out")
    damaged.write_bytes(content[:-1])
    with pytest.raises(InputError, match=f"{damaged.name} is truncated"):
        EncodedCollection(tmp_path / "out", verify=False)
    damaged.unlink()
    with pytest.raises(InputError, match=f"{damaged.name} is missing"):
        EncodedCollection(tmp_path / "out", verify=False)


def test_without_verification_sizes_are_compared(model: str, corpus: Path, tmp_path: Path) -> None:
    encode(model, corpus, tmp_path / "out")
    texts = tmp_path / "out" / "texts.bin"
    content = bytearray(texts.read_bytes())
    content[0] = ord("#")
    texts.write_bytes(content)
    assert EncodedCollection(tmp_path / "out", verify=False).text(0).startswith("#")


def test_a_folder_of_an_earlier_version_is_read(
    model: str, corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encode(model, corpus, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "encoded.json").read_text())
    del manifest["files"]
    (tmp_path / "out" / "encoded.json").write_text(json.dumps(manifest))
    EncodedCollection(tmp_path / "out")
    assert "without checksums" in caplog.text


def test_two_at_once_are_told_apart_from_a_folder_that_is_taken(
    model: str, corpus: Path, tmp_path: Path
) -> None:
    with (
        alone(tmp_path / ".out.parts", "the first"),
        pytest.raises(InputError, match=r"another process is at work on .*out; wait for its end"),
    ):
        encode(model, corpus, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [corpus]
    encode(model, corpus, tmp_path / "out")


def test_a_disk_that_fills_up_while_the_collection_is_written(
    model: str, corpus: Path, tmp_path: Path
) -> None:
    """A bound on the size of a file stands in for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    taken = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*(out|parts)"):
            encode(model, corpus, tmp_path / "out", part_bytes=10**6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, taken)
    assert not (tmp_path / "out").exists()
    encode(model, corpus, tmp_path / "out", part_bytes=10**6)
