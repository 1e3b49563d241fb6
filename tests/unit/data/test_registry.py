"""The registry of public sets, and what a user is told about them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neural_sparse.corpora.hub import complete_files, hub_files
from neural_sparse.data.prepare import PrepareOptions, prepare
from neural_sparse.data.registry import expand_groups, groups, public_sets
from neural_sparse.data.source import find_source
from neural_sparse.errors import InputError


def test_the_recipe_s_thirteen_sets_and_msmarco() -> None:
    sets = public_sets()
    assert len(groups()["pretraining"]) == 13
    assert set(sets) == {*groups()["pretraining"], "msmarco"}
    sampled = {name: entry.sample for name, entry in sets.items() if entry.sample}
    assert sampled == {"S2ORC_title_abstract": 500_000, "WikiAnswers": 1_000_000, "gooaq_pairs": 2_274_901}
    for entry in sets.values():
        assert entry.licence
        assert entry.url.startswith("https://")
        assert len(entry.fields) == 2
        assert len(entry.revision) == 40
        assert entry.layout in ("rows", "beir")


def test_groups_stand_for_their_sets() -> None:
    assert expand_groups(["pretraining", "x"]) == [*groups()["pretraining"], "x"]


def test_a_licence_must_be_accepted_by_name() -> None:
    with pytest.raises(InputError, match=r"msmarco: its licence .*non-commercial.* --accept-licence msmarco"):
        find_source("msmarco")
    with pytest.raises(InputError, match=r"--accept-licence msmarco"):
        find_source("msmarco", accepted=["wikihow"])


@pytest.mark.parametrize("name", ["gooaq_pairs", "msmarco"])
def test_a_hub_that_cannot_be_reached(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))  # tests are offline
    with pytest.raises(InputError, match=rf"{name}: the hub's data set .* cannot be downloaded .*HF_HOME"):
        find_source(name, accepted=["all"])


def test_a_mistyped_name_is_guessed() -> None:
    with pytest.raises(InputError, match=r"gooaq: no such file or folder, .* did you mean gooaq_pairs\?"):
        find_source("gooaq")


def test_a_cache_with_half_of_the_files_does_not_pass_for_all(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    first = tmp_path / "corpus" / "train-00000-of-00002.parquet"
    first.touch()
    assert complete_files(tmp_path, ("corpus/*.parquet",)) == []
    second = tmp_path / "corpus" / "train-00001-of-00002.parquet"
    second.touch()
    assert complete_files(tmp_path, ("corpus/*.parquet",)) == [first, second]
    assert complete_files(tmp_path, ("corpus/*.parquet", "queries/*.parquet")) == []


def test_files_in_the_hub_s_cache_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "datasets--someone--pairs" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "pairs.jsonl.gz").touch()
    assert hub_files("pairs", "someone/pairs", "a" * 40, ("pairs.jsonl.gz",)) == [snapshot / "pairs.jsonl.gz"]
    with pytest.raises(InputError, match="cannot be downloaded"):
        hub_files("pairs", "someone/pairs", "a" * 40, ("others.jsonl.gz",))


def cached(cache: Path, repository: str, revision: str, ref: str | None = None) -> Path:
    """An empty snapshot in the layout of the hub's cache."""
    folder = cache / f"datasets--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    if ref is not None:
        (folder / "refs").mkdir()
        (folder / "refs" / ref).write_text(revision)
    return snapshot


def test_registered_sets_from_the_hub_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    sets = public_sets()
    entry = sets["WikiAnswers"]
    snapshot = cached(tmp_path / "cache", entry.repository, entry.revision)
    (snapshot / entry.files[0]).write_bytes(gzip.compress(b'{"set": ["what is x", "x means what"]}\n'))
    entry = sets["msmarco"]
    snapshot = cached(tmp_path / "cache", entry.repository, entry.revision)
    passages = [
        {"_id": "0", "title": "", "text": "passage zero"},
        {"_id": "1", "title": "", "text": "Itâ€™s passage one"},
    ]
    for number, row in enumerate(passages):
        write_parquet(snapshot / "corpus" / f"msmarco-corpus-{number:05d}-of-00002.parquet", [row])
    queries = [{"_id": "7", "title": "", "text": "ask seven"}]
    write_parquet(snapshot / "queries" / "msmarco-queries.parquet", queries)
    judged = cached(tmp_path / "cache", str(entry.qrels_repository), "b" * 40, "main")
    (judged / "train.tsv").write_text("query-id\tcorpus-id\tscore\n7\t1\t1\n")
    options = PrepareOptions(accept_licences=("msmarco",))
    data = prepare(["WikiAnswers", "msmarco"], tmp_path / "out", options)
    first, second = data.manifest["sources"]
    assert (first["name"], first["licence"], first["examples"]) == ("WikiAnswers", "not stated", 1)
    assert (second["name"], second["documents"], second["examples"]) == ("msmarco", 2, 1)
    assert list(data.queries)[1:] == ["ask seven"]
    assert list(data.documents)[1:] == ["passage zero", "It’s passage one"]
    assert data.manifest["settings"]["sources"][1]["hub"]["revision"] == entry.revision


def write_parquet(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
