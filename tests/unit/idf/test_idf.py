"""IDF by hand, and against the published MS MARCO table."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_tokenizer

from neural_sparse.errors import InputError
from neural_sparse.idf import (
    DocumentFrequencies,
    IdfWeights,
    adapt_weights,
    compute_idf_weights,
    document_frequencies,
    idf_from_counts,
    idf_weights,
    kept_frequencies,
    save_idf_weights,
)
from neural_sparse.io.files import read_json, write_json
from neural_sparse.text.tokens import vocabulary

MS_MARCO = 8_841_823  # passages


def test_formula_by_hand(bert_tokenizer: Any) -> None:
    documents = ["list list list", "list the", "the file", "", "list"]
    weights = compute_idf_weights(documents, bert_tokenizer)
    assert weights["list"] == pytest.approx(math.log(1 + (5 - 3 + 0.5) / (3 + 0.5)))
    assert weights["the"] == pytest.approx(math.log(1 + (5 - 2 + 0.5) / (2 + 0.5)))
    assert weights["file"] == pytest.approx(math.log(1 + (5 - 1 + 0.5) / (1 + 0.5)))
    assert weights["json"] == 1.0  # occurs nowhere
    assert compute_idf_weights(documents, bert_tokenizer, default_idf=7.5)["json"] == 7.5


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_counts_equal_a_plain_count(bert_tokenizer: Any, texts: list[str], batch_size: int) -> None:
    documents = [*texts, "", *texts[:2], " ".join(texts)]
    expected = np.zeros(len(bert_tokenizer.get_vocab()), int)
    for text in documents:
        for token in set(bert_tokenizer(text, add_special_tokens=False)["input_ids"]):
            expected[token] += 1
    found = document_frequencies(documents, bert_tokenizer, batch_size)
    np.testing.assert_array_equal(found.counts, expected)
    assert found.documents == len(documents)


def test_the_rarest_token_of_ms_marco() -> None:
    assert idf_from_counts(np.array([1]), MS_MARCO)[0] == pytest.approx(15.5895, abs=5e-5)


def test_published_values_are_those_of_whole_document_frequencies(shared_data: Path) -> None:
    published = read_json(shared_data / "tokenizers" / "bert-uncased" / "idf.json")
    assert len(published) == 30_522
    values = np.array(list(published.values()))
    assert values.max() == pytest.approx(15.5895, abs=5e-5)
    seen = values[values != 1.0]  # 1.0: occurs nowhere
    frequencies = np.round((MS_MARCO + 1) / np.exp(seen) - 0.5)
    assert frequencies.min() == 1
    # A token of few passages determines its document frequency exactly: the formula gives its value back.
    np.testing.assert_allclose(idf_from_counts(frequencies, MS_MARCO), seen, rtol=0, atol=1e-6)
    assert published["the"] == pytest.approx(0.135, abs=5e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 10**9), st.data())
def test_is_positive_and_falls_with_frequency(n_documents: int, data: st.DataObject) -> None:
    counts = np.sort(np.array(data.draw(st.lists(st.integers(0, n_documents), min_size=2, max_size=20))))
    values = idf_from_counts(counts, n_documents)
    assert (values > 0).all()
    assert (np.diff(values) <= 0).all()


def test_streams_a_generator(bert_tokenizer: Any, texts: list[str]) -> None:
    alive = 0

    def stream() -> Iterator[str]:
        nonlocal alive
        for number in range(300):
            alive += 1
            yield texts[number % len(texts)]

    def batches_of_ten() -> Iterator[str]:
        for position, text in enumerate(stream()):
            assert alive <= position + 1  # nobody reads ahead of what is counted
            yield text

    streamed = compute_idf_weights(batches_of_ten(), bert_tokenizer, batch_size=10)
    assert streamed == compute_idf_weights(texts * 60, bert_tokenizer)
    assert streamed["list"] == pytest.approx(math.log(1 + (300 - 60 + 0.5) / 60.5))


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "the corpus is empty"),
        (iter(()), "the corpus is empty"),
        (["", "  "], "none of the 2 documents has a token"),
        ("one string", "must be a list of texts"),
        (["a", 3], "text 1 is int"),
    ],
)
def test_refuses(bert_tokenizer: Any, documents: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compute_idf_weights(documents, bert_tokenizer)


def test_special_tokens_weigh_nothing_in_queries(bert_tokenizer: Any) -> None:
    weights = compute_idf_weights(["[MASK] list", "[SEP] [UNK]"], bert_tokenizer)
    vector = weights.vector
    assert vector.dtype == np.float32
    assert (vector[bert_tokenizer.all_special_ids] == 0).all()
    others = np.setdiff1d(np.arange(len(vector)), bert_tokenizer.all_special_ids)
    names = vocabulary(bert_tokenizer)
    np.testing.assert_allclose(vector[others], [weights[names[index]] for index in others], rtol=1e-6)
    assert list(weights) == names
    assert min(weights.values()) > 0  # the file itself holds what Lucene accepts


def test_says_range_and_mean(bert_tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    weights = compute_idf_weights(["list", "list the"], bert_tokenizer)
    said = capsys.readouterr().out
    assert "IDF range: 0.18 ~ 1.00" in said
    assert f"IDF mean: {np.mean(list(weights.values())):.2f}" in said
    assert "2 of 133 tokens occur in 2 documents" in said
    compute_idf_weights(["list"], bert_tokenizer, show_progress=False)
    assert capsys.readouterr().out == ""


def test_saved_table_comes_back(bert_tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    file = tmp_path / "deep" / "idf.json"
    weights = compute_idf_weights(texts, bert_tokenizer, file)
    assert json.loads(file.read_text()) == weights
    again = idf_weights(file, bert_tokenizer)
    assert again == weights
    np.testing.assert_array_equal(again.vector, weights.vector)
    save_idf_weights(again, tmp_path / "twice.json")
    assert (tmp_path / "twice.json").read_bytes() == file.read_bytes()
    np.testing.assert_array_equal(copy.deepcopy(weights).vector, weights.vector)


class TestForeignTables:
    def test_missing_tokens_get_the_default_and_few_unknown_ones_pass(self, bert_tokenizer: Any) -> None:
        names = vocabulary(bert_tokenizer)[5:]
        table = {**dict.fromkeys(names[:-1], 2.0), "not a token": 3.0}
        weights = idf_weights(table, bert_tokenizer, default_idf=0.25)
        assert weights[names[0]] == 2.0
        assert weights[names[-1]] == 0.25
        assert "not a token" not in weights
        # Unlike sentence-transformers' from_json, an unknown token does not become the weight of [UNK].
        assert weights.vector[bert_tokenizer.unk_token_id] == 0

    def test_table_of_another_tokenizer(self, bert_tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
        other = make_tokenizer("roberta")
        file = tmp_path / "idf.json"
        foreign = compute_idf_weights(texts, other, file)
        for table in (file, foreign, dict(foreign)):
            with pytest.raises(InputError, match=r"belongs to another tokenizer: .* compute one with"):
                idf_weights(table, bert_tokenizer)
        with pytest.raises(InputError, match="belongs to another tokenizer"):
            idf_weights({}, bert_tokenizer)

    @pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, None, "1", True])
    def test_weights_that_are_none(self, bert_tokenizer: Any, weight: Any) -> None:
        with pytest.raises(InputError, match=r"the weight of 'list' is .*, not a number >= 0"):
            idf_weights({"list": weight}, bert_tokenizer)

    def test_files_that_hold_no_table(self, bert_tokenizer: Any, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such file"):
            idf_weights(tmp_path / "absent.json", bert_tokenizer)
        write_json(tmp_path / "list.json", [1, 2])
        with pytest.raises(InputError, match="expected a flat JSON object"):
            idf_weights(tmp_path / "list.json", bert_tokenizer)
        (tmp_path / "broken.json").write_text('{"a": ')
        with pytest.raises(InputError, match="not valid JSON"):
            idf_weights(tmp_path / "broken.json", bert_tokenizer)

    def test_numpy_numbers_and_own_tables_pass(self, bert_tokenizer: Any) -> None:
        table = {"list": np.float32(2.5), "the": np.float64(0.5)}
        weights = idf_weights(table, bert_tokenizer)
        assert weights["list"] == 2.5
        assert isinstance(weights, IdfWeights)
        assert idf_weights(weights, bert_tokenizer) is weights


def test_trained_weights_are_carried_over_to_another_corpus(bert_tokenizer: Any) -> None:
    names = vocabulary(bert_tokenizer)
    one, two, three = (names[i] for i in range(len(names) - 3, len(names)))
    start = dict.fromkeys(names, 2.0) | {three: 0.0}
    trained = start | {one: 3.0, two: 0.0, three: 5.0}
    own = dict.fromkeys(names, 4.0) | {three: 7.0}
    adapted = adapt_weights(own, trained, start, bert_tokenizer)
    assert adapted[one] == 6.0  # half as much again
    assert adapted[two] == 0.0  # given up
    assert adapted[three] == 7.0  # nothing to compare with
    assert adapted[names[-4]] == 4.0  # as it was
    assert adapted.vector[bert_tokenizer.all_special_ids].max() == 0


def test_a_corpus_is_counted_once_for_each_tokenizer(
    bert_tokenizer: Any, texts: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    expected = document_frequencies(texts, bert_tokenizer)

    def counted(documents: list[str], tokenizer: Any) -> tuple[bool, DocumentFrequencies]:
        caplog.clear()
        found = kept_frequencies(documents, tokenizer, tmp_path / "idf")
        return "were counted before" not in caplog.text, found

    for anew in (True, False):
        made, found = counted(texts, bert_tokenizer)
        assert made == anew
        np.testing.assert_array_equal(found.counts, expected.counts)
        assert (found.documents, found.tokenizer) == (expected.documents, expected.tokenizer)
    assert counted([*texts[:-1], texts[-1] + "."], bert_tokenizer)[0]
    assert counted([*texts[:-2], texts[-2] + texts[-1]], bert_tokenizer)[0]  # where a text ends counts
    assert counted(texts, make_tokenizer("roberta"))[0]
    assert not counted(list(texts), bert_tokenizer)[0]
    for file in (tmp_path / "idf").iterdir():
        file.write_bytes(file.read_bytes()[:-5])
    made, found = counted(texts, bert_tokenizer)
    assert made
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(found.counts, expected.counts)
    with pytest.raises(InputError, match="text 1 is int"):
        kept_frequencies(["a", 7], bert_tokenizer, tmp_path / "idf")  # type: ignore[list-item]
