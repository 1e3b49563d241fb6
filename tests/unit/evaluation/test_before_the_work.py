"""What can be refused is refused before the work, and labels say what was measured."""

from pathlib import Path

import pytest

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.evaluate import evaluate_external_run
from neural_sparse.evaluation.measures import parse_measures
from neural_sparse.evaluation.runs import check_ids, read_run, write_run
from neural_sparse.evaluation.systems import evaluate_bm25

MADE = Collection.of(
    {"d1": "sourdough bread", "d2": "sourdough", "d3": "sourdough soup"},
    {"q": "sourdough bread"},
    {"q": {"d3": 1}},
)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("alpha_nDCG@10", "alpha_nDCG@10 cannot be computed here"),
        ("nDCG@0", "nDCG@0 looks at no document"),
        ("nDGC@10", "unknown measure 'nDGC@10'; did you mean nDCG"),
    ],
)
def test_measures_are_tried_before_the_work(measure: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_measures([measure])


def test_a_measure_deeper_than_the_ranking_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert evaluate_bm25(MADE, 2, ["R@1000", "RR@2"]).means["R@1000"] <= 1
    assert (
        "k=2: only the first 2 documents are retrieved, so what is called R@1000 is measured no"
        in caplog.text
    )
    caplog.clear()
    evaluate_bm25(MADE, 3, ["R@1000"])  # all there are
    assert not caplog.text
    evaluate_external_run({"q": {"d3": 1.0}}, MADE, ["RR@10"])
    assert "its deepest ranking holds 1 documents, so what is called RR@10" in caplog.text


def test_ids_with_spaces_are_written_and_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = {"q 1": {"sour dough.pdf": 2.0, "d2": 1.0}}
    write_run(tmp_path / "run.trec", run)
    assert read_run(tmp_path / "run.trec") == run
    assert "parted by tabs, for 'q 1' holds a space: trec_eval cannot read it" in caplog.text


@pytest.mark.parametrize("bad", ["", " ", "a\tb", "a\nb", " a"])
def test_ids_that_no_run_file_holds(bad: str) -> None:
    with pytest.raises(InputError, match="a run file cannot hold the id"):
        check_ids(["fine"], [bad])
