"""The cache with a cheap stand-in for a model: what is encoded when, and what survives damage and kills."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from neural_sparse.errors import InputError
from neural_sparse.teachers.cache import EncodingJob, TeacherCache
from neural_sparse.teachers.rows import Matrix
from neural_sparse.text.keys import KeyIndex

IDENTITY = {"kind": "test", "weights": "abc"}


class Encoder:
    """Vectors that follow from the text alone; remembers every text it was given."""

    def __init__(self, sparse: bool = False) -> None:
        self.sparse = sparse
        self.seen: list[str] = []

    def __call__(self, texts: list[str]) -> Matrix:
        self.seen += texts
        vectors = np.array([vector(text) for text in texts], dtype=np.float16)
        return csr_matrix(vectors.astype(np.float32) * (vectors > 0.5)) if self.sparse else vectors


def vector(text: str) -> list[float]:
    return [byte / 255 for byte in hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]]


def expected(texts: list[str], sparse: bool = False) -> np.ndarray:
    vectors = np.array([vector(text) for text in texts], dtype=np.float16).astype(np.float32)
    return vectors * (vectors > 0.5) if sparse else vectors


def encode(cache: TeacherCache, texts: list[str], encoder: Encoder, identity: dict = IDENTITY) -> np.ndarray:
    rows, numbers = cache.rows(EncodingJob("a/teacher", identity, texts, encoder, 4))
    gathered = rows.gather(numbers)
    return gathered.toarray() if isinstance(gathered, csr_matrix) else gathered


def shard_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("on_disk", [False, True])
def test_each_text_is_encoded_once(tmp_path: Path, sparse: bool, on_disk: bool) -> None:
    cache = TeacherCache(tmp_path if on_disk else None, block=7)
    texts = [f"text {i % 30} {'x' * (i % 30)}" for i in range(50)]
    encoder = Encoder(sparse)
    np.testing.assert_array_equal(encode(cache, texts, encoder), expected(texts, sparse))
    more = ["new", *texts[::-1], "new", "newer"]
    np.testing.assert_array_equal(encode(cache, more, encoder), expected(more, sparse))
    assert sorted(encoder.seen) == sorted({*texts, "new", "newer"})
    assert cache.encoded == {"a/teacher": 32}


@pytest.mark.parametrize("sparse", [False, True])
def test_a_cache_in_memory_keeps_to_its_bound(sparse: bool) -> None:
    cache, encoder = TeacherCache(memory=900), Encoder(sparse)
    rng = np.random.default_rng(0)
    for step in range(120):
        texts = [f"text {step // 4 + number}" for number in rng.integers(0, 10, 12)]
        np.testing.assert_array_equal(encode(cache, texts, encoder), expected(texts, sparse))
        held = sum(shards.bytes for shards in cache._shards.values())
        assert held <= 900
    assert held > 600  # what fits is kept
    assert 39 <= len(encoder.seen) < 160  # of 1,440 that were asked for
    large = [f"large {number}" for number in range(2_000)]  # more than fits: given all the same
    np.testing.assert_array_equal(encode(cache, large, encoder), expected(large, sparse))


def test_what_was_found_stays_though_it_is_forgotten() -> None:
    cache = TeacherCache(memory=3_000)
    rows, numbers = cache.rows(EncodingJob("a/teacher", IDENTITY, ["first", "second"], Encoder(), 4))
    encode(cache, [f"text {number}" for number in range(300)], Encoder())
    np.testing.assert_array_equal(rows.gather(numbers), expected(["first", "second"]))


def test_a_table_is_not_sorted_anew_at_each_addition(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sorted_keys: list[int] = []
    build = KeyIndex.__init__
    monkeypatch.setattr(
        KeyIndex, "__init__", lambda index, keys: (sorted_keys.append(len(keys)), build(index, keys))[1]
    )
    for folder in (None, tmp_path):
        sorted_keys.clear()
        cache = TeacherCache(folder)
        for step in range(64):
            encode(cache, [f"text {step} {number}" for number in range(4)], Encoder())
        assert sum(sorted_keys) <= 256 * 9  # log2(256) + 1 times each; 8,320 if all were sorted each time


def test_another_process_finds_everything(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(20)]
    encode(TeacherCache(tmp_path, block=3), texts, Encoder())
    nobody = Encoder()
    np.testing.assert_array_equal(encode(TeacherCache(tmp_path), texts, nobody), expected(texts))
    assert nobody.seen == []


def test_other_settings_are_another_teacher(tmp_path: Path) -> None:
    cache, encoder = TeacherCache(tmp_path), Encoder()
    encode(cache, ["one"], encoder)
    encode(cache, ["one"], encoder, {**IDENTITY, "max_length": 128})
    assert encoder.seen == ["one", "one"]
    assert len(list(tmp_path.iterdir())) == 2


ODD_TEXTS = [
    "",
    " ",
    "\n",
    "a",
    "ä",
    "a\u0308",
    "한국어",
    "🦊" * 3,
    "\x00",
    "x" * 200_000,
    "lone \ud800 surrogate",
]


def test_odd_texts_keep_apart(tmp_path: Path) -> None:
    encoder = Encoder()
    first = encode(TeacherCache(tmp_path), ODD_TEXTS, encoder)
    assert len(encoder.seen) == len(ODD_TEXTS)
    np.testing.assert_array_equal(first, expected(ODD_TEXTS))
    np.testing.assert_array_equal(encode(TeacherCache(tmp_path), ODD_TEXTS, Encoder()), first)


def test_batches_hold_texts_of_similar_length() -> None:
    encoder = Encoder()
    encode(TeacherCache(), ["x" * n for n in (3, 9, 1, 7, 5, 2)], encoder)
    assert [len(text) for text in encoder.seen] == [9, 7, 5, 3, 2, 1]


def test_pairs_are_kept_apart_where_their_texts_join_alike() -> None:
    cache = TeacherCache()
    seen: list[tuple[str, str]] = []

    def score(pairs: list[tuple[str, str]]) -> Matrix:
        seen.extend(pairs)
        return np.array([[len(query)] for query, _ in pairs], dtype=np.float32)

    pairs = [("ab", "c"), ("a", "bc"), ("ab", "c"), ("", "abc")]
    rows, numbers = cache.rows(EncodingJob("cross", IDENTITY, pairs, score, 8))
    assert rows.gather(numbers)[:, 0].tolist() == [2, 1, 2, 0]
    assert len(seen) == 3


def test_many_small_additions_leave_few_files(tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path)
    texts = [f"text {i}" for i in range(100)]
    for text in texts:
        encode(cache, [text], Encoder())
    assert len(shard_files(tmp_path)) <= 7  # 100 = 64 + 32 + 4
    np.testing.assert_array_equal(encode(TeacherCache(tmp_path), texts, Encoder()), expected(texts))


def test_what_was_prepared_stays_valid_while_the_cache_grows(tmp_path: Path) -> None:
    cache, texts = TeacherCache(tmp_path), ["one", "two"]
    rows, numbers = cache.rows(EncodingJob("a/teacher", IDENTITY, texts, Encoder(), 4))
    for i in range(10):
        encode(cache, [f"text {i}"], Encoder())
    np.testing.assert_array_equal(rows.gather(numbers), expected(texts))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("damage", [flip_a_byte, cut, Path.unlink])
def test_a_damaged_shard_is_reported_and_encoded_again(
    tmp_path: Path, damage, sparse: bool, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {i}" for i in range(70)]
    encode(TeacherCache(tmp_path, block=40), texts, Encoder(sparse))
    before = {path.name: path.read_bytes() for path in shard_files(tmp_path)}
    assert len(before) == 2
    damaged = shard_files(tmp_path)[0]
    damage(damaged)
    encoder = Encoder(sparse)
    np.testing.assert_array_equal(
        encode(TeacherCache(tmp_path, block=40), texts, encoder), expected(texts, sparse)
    )
    assert len(encoder.seen) in (30, 40)
    reports = [record.message for record in caplog.records]
    assert len(reports) == 1
    assert damaged.name in reports[0]
    nobody = Encoder(sparse)
    encode(TeacherCache(tmp_path), texts, nobody)
    assert nobody.seen == []


def test_a_shard_that_may_not_be_read_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor deleted, which hours of work may be."""
    texts = [f"text {i}" for i in range(70)]
    encode(TeacherCache(tmp_path, block=40), texts, Encoder(False))
    before = shard_files(tmp_path)

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("neural_sparse.teachers.shards.sha256_file", refuse)
    with pytest.raises(PermissionError):
        encode(TeacherCache(tmp_path, block=40), texts, Encoder(False))
    assert shard_files(tmp_path) == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"shards": 3}', '{"shards": [{"file": "x"}]}'])
def test_a_damaged_manifest_is_reported(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["one", "two"]
    encode(TeacherCache(tmp_path), texts, Encoder())
    next(tmp_path.rglob("manifest.json")).write_text(content)
    encoder = Encoder()
    np.testing.assert_array_equal(encode(TeacherCache(tmp_path), texts, encoder), expected(texts))
    assert sorted(encoder.seen) == texts
    assert "manifest.json" in caplog.text
    assert len(shard_files(tmp_path)) == 1


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    encode(TeacherCache(tmp_path), ["one"], Encoder())
    folder = shard_files(tmp_path)[0].parent
    (folder / ".0123.safetensors.abc.tmp").write_bytes(b"half")
    (folder / "0123456789abcdef.safetensors").write_bytes(b"not in the manifest")
    encode(TeacherCache(tmp_path), ["two"], Encoder())
    assert {path.name for path in folder.iterdir()} - {"lock", "manifest.json"} == {
        entry["file"] for entry in json.loads((folder / "manifest.json").read_text())["shards"]
    }


def test_vectors_that_are_no_numbers_are_refused() -> None:
    def broken(texts: list[str]) -> Matrix:
        return np.full((len(texts), 3), np.nan, dtype=np.float16)

    with pytest.raises(InputError, match=r"a/teacher gave NaN.*'some text'"):
        TeacherCache().rows(EncodingJob("a/teacher", IDENTITY, ["some text"], broken, 4))


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="expected a text, found NoneType"):
        encode(TeacherCache(), ["text", None], Encoder())  # type: ignore[list-item]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        encode(TeacherCache(tmp_path / "file" / "cache"), ["one"], Encoder())


fork = multiprocessing.get_context("fork")


def fill(folder: Path, texts: list[str], failure: multiprocessing.Queue | None = None) -> None:
    try:
        encode(TeacherCache(folder, block=16), texts, Encoder())
    except InputError as error:
        assert failure is not None
        failure.put(str(error))


def fill_with_little_room(folder: Path, texts: list[str], failure: multiprocessing.Queue) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    fill(folder, texts, failure)


def test_a_full_disk_is_reported_and_what_was_written_stays(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(500)]
    failure = fork.Queue()
    process = fork.Process(target=fill_with_little_room, args=(tmp_path, texts, failure))
    process.start()
    assert "cannot write" in failure.get(timeout=60)
    process.join()
    encoder = Encoder()
    np.testing.assert_array_equal(encode(TeacherCache(tmp_path, block=16), texts, encoder), expected(texts))
    assert 0 < len(encoder.seen) < 500


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_the_result_is_byte_for_byte_the_same(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [f"text {i} {'y' * (i % 17)}" for i in range(3000)]
    fill(tmp_path / "whole", texts)
    kills = 0
    while True:
        process = fork.Process(target=fill, args=(tmp_path / "killed", texts))
        process.start()
        # At some moment, whatever it is at; in the end it is let go on, for on a busy machine it would never arrive.
        process.join(timeout=rng.uniform(0.01, 0.25) if kills < 20 else None)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        if process.exitcode == 0:
            break
    assert kills > 0
    contents = []
    for name in ("whole", "killed"):
        manifest = next((tmp_path / name).rglob("manifest.json"))
        shards = [manifest.parent / entry["file"] for entry in json.loads(manifest.read_text())["shards"]]
        contents.append((manifest.read_bytes(), [shard.read_bytes() for shard in shards]))
    assert contents[0] == contents[1]
    nobody = Encoder()
    np.testing.assert_array_equal(encode(TeacherCache(tmp_path / "killed"), texts, nobody), expected(texts))
    assert nobody.seen == []


def fill_and_count(folder: Path, texts: list[str], counts: multiprocessing.Queue) -> None:
    encoder, cache = Encoder(), TeacherCache(folder, block=16)
    encode(cache, texts, encoder)
    counts.put(len(encoder.seen))


def test_processes_that_fill_one_cache_share_the_work(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(400)]
    counts = fork.Queue()
    processes = [fork.Process(target=fill_and_count, args=(tmp_path, texts, counts)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sum(counts.get(timeout=60) for _ in processes) == 400
    for process in processes:
        process.join()
        assert process.exitcode == 0
    rows, numbers = TeacherCache(tmp_path).rows(EncodingJob("a/teacher", IDENTITY, texts, Encoder(), 4))
    assert len(rows) == 400
    np.testing.assert_array_equal(rows.gather(numbers), expected(texts))


@pytest.mark.integration  # processes
def test_several_devices_write_the_bytes_that_one_writes(tmp_path: Path) -> None:
    texts = [f"text {i} {'y' * (i % 17)}" for i in range(100)]
    one = TeacherCache(tmp_path / "one", block=16)
    two = TeacherCache(tmp_path / "two", block=16, devices=("cpu", "cpu"))
    for cache in (one, two):
        encode(cache, texts[:10], Encoder(sparse=True))  # less than a block: no process is started
        encode(cache, texts, Encoder(sparse=True))
        assert cache.encoded == {"a/teacher": 100}
    files = [{path.name: path.read_bytes() for path in cache.folder.rglob("*.*")} for cache in (one, two)]
    assert files[0] == files[1]


def test_what_is_missing(tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path)
    encode(cache, ["b"], Encoder())
    work = EncodingJob("a/teacher", IDENTITY, ["a", "b", "c", "a", "d", "b"], Encoder(), 4)
    assert cache.missing(work).tolist() == [0, 2, 4]
    assert cache.bytes_on_disk(work) == sum(path.stat().st_size for path in shard_files(tmp_path))


class Lazy(Sequence):
    """Texts that exist only while they are looked at."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, place):
        if not 0 <= place < 40:
            raise IndexError(place)
        return f"text {place % 30}"


def test_texts_need_not_be_a_list(tmp_path: Path) -> None:
    encoder = Encoder()
    found = encode(TeacherCache(tmp_path, block=7), Lazy(), encoder)
    np.testing.assert_array_equal(found, expected(list(Lazy())))
    assert len(encoder.seen) == 30


def test_a_disk_that_will_not_suffice_stops_it_after_the_first_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2000))
    texts, encoder = [f"text {number}" for number in range(60)], Encoder()
    with pytest.raises(
        InputError, match=r"encoding with a/teacher needs about .*B at .*, but 2.0 kB are free"
    ):
        encode(TeacherCache(tmp_path, block=7), texts, encoder)
    assert len(encoder.seen) == 7
    monkeypatch.undo()
    encode(TeacherCache(tmp_path, block=7), texts, encoder)
    assert len(encoder.seen) == 60
