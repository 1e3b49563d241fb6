"""Files on other file systems are read and written as those on disk."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from neural_sparse.cli.main import app
from neural_sparse.corpora.corpus_file import corpus_documents, corpus_file
from neural_sparse.data.assembly import EXAMPLES
from neural_sparse.data.prepared import MANIFEST
from neural_sparse.data.training_set import load_training_set
from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file
from neural_sparse.io.lines import lines_between, read_jsonl
from neural_sparse.io.urls import Url, location, read_from, upload_folder, work_folder, written_to
from neural_sparse.search.encode_corpus import encode_corpus
from neural_sparse.search.encoded import EncodedCollection
from neural_sparse.teachers.cache import TeacherCache

ROWS = [{"_id": str(n), "text": f"text {n} é" + "é" * n} for n in range(50)]
CONTENT = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()


@pytest.fixture(params=["memory", "local"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield f"local://{tmp_path}/bucket"
        return
    yield "memory://bucket"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def corpus(root: str) -> Url:
    fsspec.filesystem(root.partition("://")[0]).makedirs(root, exist_ok=True)
    with fsspec.open(f"{root}/corpus.jsonl", "wb") as file:
        file.write(CONTENT)
    return Url(f"{root}/corpus.jsonl")


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_ranges_share_no_line_and_lose_none(corpus: Url, size: int) -> None:
    found = [
        line for start in range(0, len(CONTENT), size) for line in lines_between(corpus, start, start + size)
    ]
    assert b"".join(line for _, line in found) == CONTENT
    assert all(CONTENT[offset:].startswith(line) for offset, line in found)


def test_a_corpus_is_found_in_its_folder(root: str, corpus: Url) -> None:
    assert corpus_file(location(root)) == corpus == corpus_file(corpus)
    assert list(corpus_documents(corpus)) == [(row["_id"], row["text"]) for row in ROWS]
    assert corpus.size() == len(CONTENT)
    assert sha256_file(corpus) == hashlib.sha256(CONTENT).hexdigest()


def test_a_malformed_line_is_named(root: str, corpus: Url) -> None:
    with fsspec.open(str(corpus), "wb") as file:
        file.write(b'{"text": "a"}\n{"text": \n')
    with pytest.raises(InputError, match=r"corpus.jsonl, line 2: not valid JSON"):
        list(read_jsonl(corpus))


def test_a_folder_is_replaced_and_its_manifest_comes_last(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Url(f"{root}/out")
    folder = tmp_path / "built"
    (folder / "index").mkdir(parents=True)
    for name in ("a", "index/b", "manifest.json"):
        (folder / name).write_text(name)
    upload_folder(folder, target, "manifest.json")
    assert target.files() == ["a", "index/b", "manifest.json"]
    (folder / "a").rename(folder / "c")

    put = Url.put

    def fails(self: Url, file: Path) -> None:
        if self.name == "b":
            raise InputError("the network is gone")
        put(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(Url, "put", fails)
        with pytest.raises(InputError, match="network"):
            upload_folder(folder, target, "manifest.json")
    assert "manifest.json" not in target.files()
    upload_folder(folder, target, "manifest.json")
    assert target.files() == ["c", "index/b", "manifest.json"]


def test_written_there_and_read_back(root: str) -> None:
    place = Url(f"{root}/some/idf.json")
    with written_to(place) as path:
        path.write_text("{}")
    with read_from(place) as path:
        assert path.read_text() == "{}"
    assert not path.exists()


def test_nothing_is_uploaded_after_an_error(root: str) -> None:
    place = Url(f"{root}/idf.json")

    def stop() -> None:
        with written_to(place) as path:
            path.write_text("{}")
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert not place.is_file()


def test_paths_on_this_disk(tmp_path: Path) -> None:
    assert location(f"file://{tmp_path}/a") == tmp_path / "a"
    assert location("a/b") == Path("a/b")
    assert work_folder(Path("a/b.json")) == Path("a/.b.json.parts")
    assert work_folder(Url("s3://a/b")).parent == Path("outputs")
    assert work_folder(Url("s3://a/b")) != work_folder(Url("s3://c/b"))


def test_what_cannot_be_reached(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nothing.jsonl: no such file"):
        list(lines_between(f"{root}/nothing.jsonl"))
    with pytest.raises(InputError, match="nosuch"):
        Url("nosuch://bucket/corpus.jsonl").is_file()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match="install s3fs"):
        Url("s3://bucket/corpus.jsonl").is_file()


def encoded(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_encoding_from_a_url_to_a_url(
    root: str, corpus: Url, tmp_path: Path, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = str(tiny_model("bert"))
    (tmp_path / "corpus.jsonl").write_bytes(CONTENT)
    encode_corpus(model, tmp_path / "corpus.jsonl", tmp_path / "here", part_bytes=500, show_progress=False)
    target = f"{root}/out"
    for _ in range(2):  # the second time it is replaced
        encode_corpus(model, str(corpus), target, part_bytes=500, show_progress=False)
    fetched = tmp_path / "fetched"
    for name in Url(target).files():
        (fetched / name).parent.mkdir(parents=True, exist_ok=True)
        (Url(target) / name).get(fetched / name)
    assert encoded(fetched) == encoded(tmp_path / "here")
    assert len(EncodedCollection(fetched).doc_ids) == 50
    assert list((tmp_path / "outputs").iterdir()) == []
    with pytest.raises(InputError, match="holds something else"):
        encode_corpus(model, str(corpus), root, show_progress=False)


def test_idf_from_a_url_to_a_url(
    root: str, corpus: Url, tmp_path: Path, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.jsonl").write_bytes(CONTENT)
    model = str(tiny_model("bert"))
    for source, target in ((str(tmp_path / "corpus.jsonl"), "here.json"), (str(corpus), f"{root}/idf.json")):
        arguments = ["idf", source, "--model", model, "--output", target, "--counts", f"{target}.counts"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    with read_from(Url(f"{root}/idf.json")) as path:
        assert path.read_bytes() == (tmp_path / "here.json").read_bytes()
    again = [
        "idf",
        str(corpus),
        "--model",
        model,
        "--output",
        "x.json",
        "--update",
        f"{root}/idf.json.counts",
    ]
    done = CliRunner().invoke(app, again)
    assert isinstance(done.exception, InputError)  # the counts hold this corpus


PAIRS = [{"query": f"sort {n % 7} lists", "pos": f"document {n} sorts lists"} for n in range(30)]


def put(url: str, rows: list[dict[str, str]]) -> None:
    with fsspec.open(url, "wb", auto_mkdir=True) as file:
        file.write("\n".join(map(json.dumps, rows)).encode())


def test_mining_from_a_url_to_a_url(
    root: str, corpus: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    put(f"{root}/pairs.jsonl", PAIRS)
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    (tmp_path / "corpus.jsonl").write_bytes(CONTENT)
    for place, output in ((".", "here.jsonl"), (root, f"{root}/mined.jsonl")):
        arguments = [f"{place}/pairs.jsonl", "--corpus", f"{place}/corpus.jsonl", "-n", "3", "-o", output]
        done = CliRunner().invoke(app, ["mine", *arguments])
        assert done.exit_code == 0, (done.output, done.exception)
    with read_from(Url(f"{root}/mined.jsonl")) as path:
        assert path.read_bytes() == (tmp_path / "here.jsonl").read_bytes()
    assert not list((tmp_path / "outputs").glob(".*"))


def test_a_collection_at_a_url(root: str, corpus: Url) -> None:
    with pytest.raises(InputError, match=r"lacks queries\.jsonl"):
        load_training_set([root])
    put(f"{root}/queries.jsonl", [{"_id": "q", "text": "a query"}])
    with fsspec.open(f"{root}/qrels/train.tsv", "wb", auto_mkdir=True) as file:
        file.write(b"query-id\tcorpus-id\tscore\nq\t3\t1\n")
    found = load_training_set([root])
    assert list(found.queries) == ["a query"]
    assert found.documents[found.positives[0]] == ROWS[3]["text"]


def test_what_is_memory_mapped_cannot_be_at_a_url(root: str) -> None:
    for name in (MANIFEST, EXAMPLES):
        put(f"{root}/prepared/{name}", [])
    with pytest.raises(InputError, match="copy the folder to a disk"):
        load_training_set([f"{root}/prepared"])
    with pytest.raises(InputError, match="name a folder on a disk"):
        TeacherCache(f"{root}/cache")
