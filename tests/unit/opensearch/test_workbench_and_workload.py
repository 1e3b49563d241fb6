"""Files for other tools: Search Relevance Workbench, opensearch-benchmark."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from neural_sparse import InputError
from neural_sparse.opensearch.load import Template
from neural_sparse.opensearch.relevance_workbench import write_workbench
from neural_sparse.opensearch.searches import Searches
from neural_sparse.opensearch.workload import write_workload

QUERIES = {"q1": "red shoes", "q2": 'a <b> "c"', "q3": "unjudged", "q4": "red shoes"}


def test_query_set_and_judgements(tmp_path: Path) -> None:
    qrels = {"q1": {"d1": 2}, "q2": {"d2": 1, "d3": 0}, "q4": {"d1": 2, "d9": 1}}
    assert write_workbench(tmp_path / "out", "mine", QUERIES, qrels, replace=True) == (2, 4)
    query_set = json.loads((tmp_path / "out" / "query_set.json").read_text())
    assert query_set["querySetQueries"] == [{"queryText": "red shoes"}, {"queryText": "a b c"}]
    assert query_set["sampling"] == "manual"
    judgements = json.loads((tmp_path / "out" / "judgments.json").read_text())
    assert judgements["type"] == "IMPORT_JUDGMENT"
    assert judgements["judgmentRatings"][0] == {
        "query": "red shoes",
        "ratings": [{"docId": "d1", "rating": "2.0"}, {"docId": "d9", "rating": "1.0"}],
    }


@pytest.mark.parametrize(
    ("name", "queries", "qrels", "words"),
    [
        ("mine", QUERIES, {"q2": {"d": 1}}, "--replace"),
        ("mine", QUERIES, {"q1": {"d": 1}, "q4": {"d": 2}}, "same text"),
        ("mine", QUERIES, {"q9": {"d": 1}}, "no query has a judgement"),
        ("mine", {"q1": "x" * 2001}, {"q1": {"d": 1}}, "2,001 characters"),
        ("m" * 51, QUERIES, {"q1": {"d": 1}}, "name"),
        ('"', QUERIES, {"q1": {"d": 1}}, "name"),
    ],
)
def test_what_the_workbench_refuses(
    tmp_path: Path, name: str, queries: dict[str, str], qrels: dict[str, dict[str, int]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        write_workbench(tmp_path / "out", name, queries, qrels)
    assert not (tmp_path / "out").exists()


def test_the_workload_gives_every_client_other_bodies(tmp_path: Path) -> None:
    bodies = [{"query": {"match": {"text": f"text {number} ü"}}} for number in range(10)]
    searches = {"sparse": Searches("s", bodies, "pipe"), "match": Searches("m", bodies[:3], "_none")}
    names = write_workload(tmp_path / "w", "index", searches, [20, 50.5], [1, 8], 60, 5, poisson=True)
    assert len(set(names)) == 8
    workload = json.loads((tmp_path / "w" / "workload.json").read_text())
    tasks = workload["test_procedures"][0]["schedule"]
    assert [task["name"] for task in tasks] == names
    assert tasks[0]["target-throughput"] == 20
    assert tasks[0]["time-period"] == 60
    assert tasks[0]["schedule"] == "poisson"
    operations = {one["name"]: one for one in workload["operations"]}
    assert {task["operation"] for task in tasks} == set(operations)
    assert operations["sparse"]["request-params"] == {"search_pipeline": "pipe"}

    spec = importlib.util.spec_from_file_location("plugin", tmp_path / "w" / "workload.py")
    assert spec is not None
    assert spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    source = plugin.Bodies(None, operations["sparse"])
    clients = [source.partition(number, 2) for number in range(2)]
    drawn = [[one.params()["body"] for _ in range(10)] for one in clients]
    assert drawn[0] == bodies
    assert drawn[1] == bodies[5:] + bodies[:5]


def test_bodies_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "body.json"
    path.write_text('{"size": 5, "query": {"bool": {"should": [{"match": {"t": "$query"}}]}}}')
    assert Template(path)('a "b"')["query"]["bool"]["should"][0]["match"]["t"] == 'a "b"'
    path.write_text('{"query": {"match_all": {}}}')
    with pytest.raises(InputError, match="query"):
        Template(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="JSON object"):
        Template(path)
