"""Corpus and output on S3: a server of this machine that speaks its protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from python_processes import python

pytest.importorskip("s3fs", reason="needs the extra: pip install 'neural-sparse[s3]'")
pytest.importorskip("flask", reason="needs the extra: pip install 'neural-sparse[dev]'")
pytestmark = pytest.mark.integration
MODEL = "cognition/model"
ENCODE = ("encode", MODEL, "--threads", "1", "--corpus")


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """The environment that leads to an empty S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    server.stop()


@pytest.fixture(scope="module")
def corpus(server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On this disk; a copy is at s3://bucket/corpus.jsonl."""
    import s3fs

    file = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    file.write_text(
        "\n".join(f'{{"_id": "d{n}", "text": "sort the list and return {n} values"}}' for n in range(300))
    )
    client = s3fs.S3FileSystem(
        key="test", secret="test", endpoint_url=server["AWS_ENDPOINT_URL"], skip_instance_cache=True
    )
    client.mkdir("bucket")
    client.put_file(str(file), "bucket/corpus.jsonl")
    return file


def command(server: dict[str, str], *arguments: str, folder: Path) -> tuple[int, str]:
    environment = {**os.environ, **server}
    done = python("-m", "neural_sparse", *arguments, environment=environment, cwd=folder, timeout=300)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def encoded(
    server: dict[str, str], corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """Files of the index that this disk's corpus gives on this disk."""
    folder = tmp_path_factory.mktemp("here")
    code, error = command(server, *ENCODE, str(corpus), "--output", str(folder / "index"), folder=folder)
    assert code == 0, error
    made = [file for file in (folder / "index").rglob("*") if file.is_file()]
    return {str(file.relative_to(folder / "index")): file.read_bytes() for file in made}


def files(server: dict[str, str], folder: str) -> dict[str, bytes]:
    import s3fs

    client = s3fs.S3FileSystem(
        key="test", secret="test", endpoint_url=server["AWS_ENDPOINT_URL"], skip_instance_cache=True
    )
    return {path.removeprefix(f"{folder}/"): client.cat_file(path) for path in client.find(folder)}


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_encoding_from_and_to_s3(
    server: dict[str, str], encoded: dict[str, bytes], tmp_path: Path, engine: str
) -> None:
    if engine == "ray":
        pytest.importorskip("ray", reason="needs the extra: pip install 'neural-sparse[ray]'")
    there = f"bucket/{engine}/index"
    code, error = command(
        server,
        *ENCODE,
        "s3://bucket/corpus.jsonl",
        "--output",
        f"s3://{there}",
        "--engine",
        engine,
        folder=tmp_path,
    )
    assert code == 0, error
    assert files(server, there) == encoded
    assert len(encoded) > 5
    leftovers = tmp_path / "outputs"
    assert not leftovers.exists() or not list(leftovers.iterdir())


def test_idf_from_and_to_s3(server: dict[str, str], corpus: Path, tmp_path: Path) -> None:
    source, target = "s3://bucket/corpus.jsonl", "s3://bucket/idf.json"
    for place, output in ((str(corpus), str(tmp_path / "idf.json")), (source, target)):
        code, error = command(server, "idf", place, "--model", MODEL, "--output", output, folder=tmp_path)
        assert code == 0, error
    assert files(server, "bucket")["idf.json"] == (tmp_path / "idf.json").read_bytes()


@pytest.mark.parametrize("place", ["s3://bucket/nothing.jsonl", "s3://no-such-bucket/corpus.jsonl"])
def test_what_is_not_there(server: dict[str, str], corpus: Path, tmp_path: Path, place: str) -> None:
    code, error = command(server, "idf", place, "--model", MODEL, "--output", "idf.json", folder=tmp_path)
    assert code == 2
    assert place in error
    assert "Traceback" not in error
