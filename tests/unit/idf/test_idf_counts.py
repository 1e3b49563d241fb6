"""Counting in words, in parts, in pieces and on top of earlier counts: always the plain count."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXTS, make_tokenizer
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from neural_sparse.cli import main as command_line
from neural_sparse.errors import InputError
from neural_sparse.idf import (
    DocumentCounter,
    DocumentFrequencies,
    compute_idf_weights,
    counting,
    document_frequencies,
    merge,
)
from neural_sparse.idf.corpus import count_corpus, count_part
from neural_sparse.io.files import read_json
from neural_sparse.model.own_vocabulary import learn_tokenizer
from neural_sparse.text.tokens import fingerprint, tokenizes_words_apart

# Spaces, control characters, combining marks and separators that a tokenizer may treat in its own way.
ODD = " \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u200b\u200d\u2028\u3000\u0301\u0338\ufffd\x00"
words = st.text(alphabet=st.sampled_from(ODD + "aAäßΣς'.,-[]#中国한ﬁ½İ🦊") | st.characters(), max_size=12)
special = st.sampled_from(["[SEP]", "[MASK]", "[ mask]", "list", "sorted", "\ud800", "x" * 60])
documents_of_words = st.lists(st.lists(words | special, max_size=8).map(" ".join), min_size=1, max_size=12)


def plain_count(texts: list[str], tokenizer: Any) -> np.ndarray:
    whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
    encode = tokenizer.backend_tokenizer.encode
    counts = Counter(token for text in whole for token in set(encode(text, add_special_tokens=False).ids))
    return np.array([counts[index] for index in range(tokenizer.backend_tokenizer.get_vocab_size())])


def write_corpus(file: Path, texts: list[str]) -> Path:
    file.write_text("".join(json.dumps({"_id": "1", "text": text}) + "\n" for text in texts))
    return file


@pytest.fixture(scope="module")
def counters(shared_data: Path) -> list[tuple[Any, DocumentCounter]]:
    """Real tokenizers of 30,522 and 105,879 tokens, and the tiny one."""
    files = sorted((shared_data / "tokenizers").glob("*/tokenizer.json"))
    real = [PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(file))) for file in files]
    assert all(map(tokenizes_words_apart, real))
    return [(tokenizer, DocumentCounter(tokenizer)) for tokenizer in (*real, make_tokenizer("bert"))]


@settings(max_examples=100, deadline=None)
@given(texts=documents_of_words)
def test_counting_words_apart_is_exact(counters: list[tuple[Any, DocumentCounter]], texts: list[str]) -> None:
    for tokenizer, counter in counters:
        counter.add(texts)
        np.testing.assert_array_equal(counter.take().counts, plain_count(texts, tokenizer))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_every_kind_of_tokenizer(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make_tokenizer(architecture)
    assert tokenizes_words_apart(tokenizer) == (architecture == "bert")
    texts = [*TEXTS, "", " ", "lone \ud800 surrogate", " ".join(TEXTS) * 30, "one  two   three"]
    expected = plain_count(texts, tokenizer)
    for known_words in (1 << 17, 5, 0):  # more words than are kept: the rest is tokenized each time
        monkeypatch.setattr(counting, "KNOWN_WORDS", known_words)
        counter = DocumentCounter(tokenizer)
        for start in range(0, len(texts), 3):
            counter.add(texts[start : start + 3])
        assert counter.documents == len(texts)
        np.testing.assert_array_equal(counter.take().counts, expected)
        assert counter.take().counts.sum() == 0


def test_words_that_are_split_by_script_are_counted_apart() -> None:
    texts = ["에서 abc부터 12월까지 カナ漢字かな", "abc  부터", "漢字 カナ p에"] * 4
    tokenizer = learn_tokenizer(texts, 100)
    assert tokenizes_words_apart(tokenizer)
    found = document_frequencies(texts, tokenizer, show_progress=False)
    np.testing.assert_array_equal(found.counts, plain_count(texts, tokenizer))
    # What splits within words must come behind what splits at spaces.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.UnicodeScripts()
    assert not tokenizes_words_apart(tokenizer)


def test_added_tokens_that_span_words_are_not_split() -> None:
    for token in (AddedToken("new list", normalized=False), AddedToken("sorted", normalized=True)):
        tokenizer = make_tokenizer("bert")
        tokenizer.add_tokens([token])
        assert not tokenizes_words_apart(tokenizer)
        texts = ["a new list", "new  list", "Sorted new list"]
        found = document_frequencies(texts, tokenizer, show_progress=False)
        np.testing.assert_array_equal(found.counts, plain_count(texts, tokenizer))


def test_fingerprint_is_that_of_the_ids(bert_tokenizer: Any) -> None:
    same = make_tokenizer("bert")
    same("a text", truncation=True, max_length=4, padding="max_length")
    assert fingerprint(same) == fingerprint(bert_tokenizer)
    same.add_tokens(["neu"])
    prints = {fingerprint(tokenizer) for tokenizer in (bert_tokenizer, same, make_tokenizer("roberta"))}
    assert len(prints) == 3


class TestFiles:
    def test_counts_come_back(self, bert_tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
        found = document_frequencies(texts, bert_tokenizer, show_progress=False)
        found.save(tmp_path / "deep" / "counts.safetensors")
        again = DocumentFrequencies.load(tmp_path / "deep" / "counts.safetensors")
        np.testing.assert_array_equal(again.counts, found.counts)
        assert again.counts.dtype == np.int64
        assert (again.documents, again.tokenizer, again.sources) == (5, fingerprint(bert_tokenizer), ())

    def test_what_is_no_counts_file(self, tmp_path: Path) -> None:
        from safetensors.numpy import save_file

        with pytest.raises(InputError, match="no such file"):
            DocumentFrequencies.load(tmp_path / "absent")
        (tmp_path / "broken").write_bytes(b"12345678901234567890")
        save_file({"counts": np.zeros(3)}, tmp_path / "other")
        for name in ("broken", "other"):
            with pytest.raises(InputError, match=f"{name}: holds no document frequencies"):
                DocumentFrequencies.load(tmp_path / name)


class TestMerge:
    def test_pieces_are_the_whole(self, bert_tokenizer: Any, texts: list[str]) -> None:
        pieces = [
            document_frequencies(part, bert_tokenizer, show_progress=False) for part in (texts[:2], texts[2:])
        ]
        merged = merge(pieces)
        np.testing.assert_array_equal(merged.counts, plain_count(texts, bert_tokenizer))
        assert merged.documents == len(texts)

    def test_other_tokenizers_are_refused(self, bert_tokenizer: Any, texts: list[str]) -> None:
        longer = make_tokenizer("bert")
        longer.add_tokens(["neu"])
        pieces = [document_frequencies(texts, one, show_progress=False) for one in (bert_tokenizer, longer)]
        with pytest.raises(InputError, match=r"different tokenizers \(of 133 and 134 tokens"):
            merge(pieces)
        with pytest.raises(InputError, match="no document frequencies to merge"):
            merge([])

    def test_a_file_counts_once(self, bert_tokenizer: Any, texts: list[str]) -> None:
        counter = DocumentCounter(bert_tokenizer)
        counter.add(texts)
        found = counter.take(source="abc")
        assert merge([found, counter.take(source="abd")]).sources == ("abc", "abd")
        with pytest.raises(InputError, match="already in these counts"):
            merge([found, found])


class TestParts:
    @pytest.mark.parametrize("part_bytes", [1, 7, 100, 10_000])
    def test_any_size_gives_the_same(
        self, bert_tokenizer: Any, texts: list[str], tmp_path: Path, part_bytes: int
    ) -> None:
        file = write_corpus(tmp_path / "corpus.jsonl", [*texts, "", "한국어 café"])
        if part_bytes == 1:
            file = tmp_path / "corpus.txt"
            file.write_text("\n\na\n list café\n\r\nlist", encoding="utf-8")
        found = count_corpus(file, bert_tokenizer, tmp_path / "work", workers=1, part_bytes=part_bytes)
        expected = ["a", "list café", "list"] if part_bytes == 1 else [*texts, "", "한국어 café"]
        np.testing.assert_array_equal(found.counts, plain_count(expected, bert_tokenizer))
        assert found.documents == len(expected)

    @pytest.mark.integration  # processes
    def test_processes_give_the_same(self, bert_tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
        file = write_corpus(tmp_path / "corpus.jsonl", texts * 3)
        found = count_corpus(file, bert_tokenizer, tmp_path / "work", workers=2, part_bytes=400)
        np.testing.assert_array_equal(found.counts, 3 * plain_count(texts, bert_tokenizer))

    def test_goes_on_with_what_is_missing(
        self, bert_tokenizer: Any, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = write_corpus(tmp_path / "corpus.jsonl", texts)
        made: list[int] = []

        def counted(
            file: Path, counter: DocumentCounter, number: int, part_bytes: int
        ) -> DocumentFrequencies:
            made.append(number)
            if len(made) == 3:
                raise KeyboardInterrupt
            return count_part(file, counter, number, part_bytes)

        monkeypatch.setattr("neural_sparse.idf.corpus.count_part", counted)
        with pytest.raises(KeyboardInterrupt):
            count_corpus(file, bert_tokenizer, tmp_path / "work", workers=1, part_bytes=100)
        found = count_corpus(file, bert_tokenizer, tmp_path / "work", workers=1, part_bytes=100)
        assert made == [0, 1, 2, *range(2, 5)]
        np.testing.assert_array_equal(found.counts, plain_count(texts, bert_tokenizer))
        write_corpus(file, texts[1:])
        with pytest.raises(InputError, match="parts of other work"):
            count_corpus(file, bert_tokenizer, tmp_path / "work", part_bytes=100)

    def test_an_error_names_the_line_of_the_file(self, bert_tokenizer: Any, tmp_path: Path) -> None:
        file = write_corpus(tmp_path / "corpus.jsonl", ["a"] * 20)
        with file.open("a") as out:
            out.write('{"_id": "21"}\n')
        with pytest.raises(InputError, match="line 21: lacks 'text'"):
            count_corpus(file, bert_tokenizer, tmp_path / "work", workers=1, part_bytes=64)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command says: its output, or its error."""

    def call(*arguments: Any) -> str:
        monkeypatch.setattr(sys, "argv", ["neural-sparse", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as caught:
            command_line.main()
        out, err = capsys.readouterr()
        assert (caught.value.code or 0) == (2 if err.startswith("error") else 0), err
        return out + err

    return call


class TestCommands:
    def test_update_and_merge_equal_counting_anew(
        self,
        run: Callable[..., str],
        tiny_model: Callable[..., Path],
        texts: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        model = tiny_model("bert")
        tokenizer = make_tokenizer("bert")
        first = write_corpus(tmp_path / "first.jsonl", texts[:2])
        second = write_corpus(tmp_path / "second.jsonl", texts[2:])
        expected = compute_idf_weights(texts, tokenizer, show_progress=False)
        monkeypatch.chdir(tmp_path)
        said = run("idf", first, "--model", model, "--counts", "a")
        assert "2 documents in" in said
        assert read_json("idf.json") == compute_idf_weights(texts[:2], tokenizer, show_progress=False)
        run("idf", second, "--model", model, "--counts", "b", "--output", "b.json")
        run("idf", "merge", "a", "b", "--model", model, "--output", "merged.json", "--counts", "both")
        assert read_json("merged.json") == expected
        run("idf", "compute", second, "--model", model, "--update", "a", "--output", "updated.json")
        assert read_json("updated.json") == expected
        assert Path("a").read_bytes() == Path("both").read_bytes()
        assert "already in these counts" in run("idf", second, "--model", model, "--update", "a")
        assert "different tokenizers" in run("idf", second, "--model", tiny_model("roberta"), "--update", "a")
        assert "belong to another tokenizer" in run("idf", "merge", "a", "--model", tiny_model("roberta"))
        assert "absent: no such file" in run("idf", second, "--model", model, "--update", "absent")
        assert {file.name for file in tmp_path.iterdir()} >= {"a", "b", "both", "idf.json"}
        assert not list(tmp_path.glob(".b.json*"))  # the parts are gone once the table is written
