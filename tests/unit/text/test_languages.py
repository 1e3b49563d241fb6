"""Words of a language: how they are cut, folded, left out, and which language it is."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import Stemmer
from tiny_models import TEXTS

from neural_sparse.config import LANGUAGES, TeacherConfig, recipe_from_dict
from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.evaluation.systems import evaluate_bm25
from neural_sparse.mining import bm25_source
from neural_sparse.search import BM25Index
from neural_sparse.teachers.bm25 import BM25Teacher
from neural_sparse.teachers.builder import TeacherBuilder
from neural_sparse.text.languages import Analysis, language_of_collection
from neural_sparse.text.words import Words, token_classes

KIWI = pytest.mark.skipif(
    importlib.util.find_spec("kiwipiepy") is None, reason="pip install kiwipiepy: Korean's morphemes"
)
KOREAN = [
    "서울에서 부산까지 기차로 세 시간이 걸린다.",
    "1990년에 학교를 세웠다. iPhone은 없었다.",
    "바다를 건너던 배가 항구로 돌아왔다.",
]
GERMAN = [
    f"Die Häuser der Stadt {number} wurden im Winter gebaut, und viele Menschen wohnten darin." * 2
    for number in range(20)
]


def words_of(language: str, text: str) -> list[str]:
    words = Words.of(Analysis.of(language, [text]))
    (ids,) = words.learn([text])
    names = list(words.vocabulary)
    return [names[i] for i in ids]


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_language_has_words(language: str) -> None:
    if language == "korean" and importlib.util.find_spec("kiwipiepy") is None:
        pytest.skip("pip install kiwipiepy")
    if language not in Stemmer.algorithms() and Analysis.of("en").language == language:
        pytest.skip("an older PyStemmer")
    assert words_of(language, "OpenSearch 2026 서울 नमस्ते مرحبا")


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("german", "Die Häuser und das Haus", ["haus", "haus"]),
        ("de", "Häusern", ["haus"]),
        ("spanish", "las bibliotecas de la biblioteca", ["bibliotec", "bibliotec"]),
        ("plain", "The cats of A", ["the", "cats", "of"]),
        ("english", "The cats of A", ["cat"]),
        ("bigrams", "서울에서 iPhone 4 까지 a", ["서울", "울에", "에서", "iphone", "4", "까지"]),
        ("bigrams", "물 東京都 ラーメン", ["물", "東京", "京都", "ラー", "ーメ", "メン"]),
        ("bigrams", "iPhone은 1990년", ["iphone", "은", "1990", "년"]),
        ("japanese", "東京都", ["東京", "京都"]),
        ("hindi", "किताबें", ["किताब"]),  # vowel signs are part of the word
        ("auto", KOREAN[0], ["서울", "울에", "에서", "부산", "산까", "까지", "기차", "차로", "세", "시간"]),
    ],
)
def test_words(language: str, text: str, expected: list[str]) -> None:
    assert words_of(language, text)[: len(expected)] == expected


@KIWI
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("학교에서 학교를 학교까지", ["학교"] * 3),
        ("걸어갔다 걸어가면서", ["걸어가"] * 2),
        ("1990년에 iPhone이", ["1990", "iphone", "년"]),
        ("그리고 그러나", []),
        ("", []),
    ],
)
def test_korean_words_are_morphemes(text: str, expected: list[str]) -> None:
    assert words_of("korean", text) == expected


@KIWI
def test_a_korean_index_is_saved_and_travels(tmp_path: Path) -> None:
    index = BM25Index.build(KOREAN, list("abc"), language="korean")
    asked = ["부산에 가는 기차", "항구에서"]
    found = index.search_texts(asked, 3)
    assert found.ids() == [["a"], ["c"]]
    index.save(tmp_path / "index")
    loaded = BM25Index.load(tmp_path / "index")
    assert loaded.words.segmenter == "korean"
    for other in (loaded.encode_queries(asked), pickle.loads(pickle.dumps(index.words)).count(asked)):  # noqa: S301
        assert (other != index.encode_queries(asked)).nnz == 0


def test_without_the_analyser_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kiwipiepy", None)
    with pytest.raises(InputError, match=r"neural-sparse\[korean\].*bigrams"):
        BM25Index.build(KOREAN, list("abc"), language="korean")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (KOREAN, "bigrams"),
        (["東京都の天気は晴れです。"], "japanese"),
        (["北京的天气很好，我们去公园散步。"], "chinese"),
        (["ประเทศไทยมีอากาศร้อน"], "thai"),
        (GERMAN, "german"),
        (["Московские улицы были пусты, и снег шёл всю ночь над рекой."] * 30, "russian"),
        (["The houses of the city were built in winter."] * 100, "english"),
        (["w1x w2x w3x zzgh qrst"] * 100, "english"),  # of no language that is known well enough
        (["Die Häuser der Stadt"], "english"),  # too little to tell
        ([], "english"),
    ],
)
def test_the_language_is_told_from_a_sample(texts: list[str], expected: str) -> None:
    assert language_of_collection(texts) == expected


def test_unknown_languages_are_refused_before_the_work() -> None:
    for refused in (
        lambda: BM25Index.build(KOREAN, list("abc"), language="klingon"),
        lambda: TeacherConfig("bm25", language="klingon"),
        lambda: recipe_from_dict({"init": "m", "train": ["t"], "language": "klingon"}),
    ):
        with pytest.raises(InputError, match=r"unknown language 'klingon'; choose from auto, .*german.*ISO"):
            refused()
    with pytest.raises(InputError, match="dense counts no words, and takes no language"):
        TeacherConfig("dense", "d", language="german")


def scores(teacher: Any, queries: list[str], documents: list[str]) -> np.ndarray:
    from neural_sparse.teachers.cache import TeacherCache

    prepared = teacher.prepare(queries, documents, None, TeacherCache())
    known = np.zeros((len(queries), len(documents)), bool)
    return prepared.scores(np.arange(len(queries)), np.arange(len(documents)), known)[0]


def test_a_language_reaches_teachers_negatives_and_evaluation() -> None:
    queries = ["부산", "항구"]
    plain = scores(BM25Teacher(language="plain"), queries, KOREAN)
    assert not plain.any()  # no word is written so in a document
    told = recipe_from_dict(
        {
            "init": "m",
            "train": ["t"],
            "language": "ko",
            "teachers": [{"kind": "bm25", "language": "bigrams"}, {"kind": "bm25"}],
        }
    )
    assert told.language == "korean"
    builder = TeacherBuilder.of(told)
    first, second = (builder.teacher(config) for config in told.teachers)
    assert (first.language, second.language) == ("bigrams", "korean")  # type: ignore[attr-defined]
    assert builder.bm25_language == "bigrams"
    found = scores(first, queries, KOREAN)
    assert (found > 0).tolist() == [[True, False, False], [False, False, True]]
    source, other = (bm25_source(queries, KOREAN, language) for language in ("auto", "plain"))
    assert source.search(np.arange(2), 1).tolist() == [[0], [2]]
    assert source.identity != other.identity
    english = bm25_source(queries, TEXTS)
    assert sorted(english.identity) == [
        "b",
        "k1",
        "kind",
        "stemmer",
        "stopwords",
    ]  # as earlier versions wrote it
    judged = Collection(
        "c", list("abc"), KOREAN, dict(zip("xy", queries, strict=True)), {"x": {"a": 1}, "y": {"c": 1}}
    )
    assert evaluate_bm25(judged, 3, ["nDCG@10"], latency_queries=0).means["nDCG@10"] == 1
    assert evaluate_bm25(judged, 3, ["nDCG@10"], language="plain", latency_queries=0).means["nDCG@10"] == 0


class Vocabulary:
    """As much of a tokenizer as classes need."""

    all_special_ids = (0,)

    def __init__(self, *names: str) -> None:
        self._names = names

    def get_vocab(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self._names)}


def test_forms_of_one_word_by_language() -> None:
    names = ("[PAD]", "häuser", "haus", "und", "##er", "the", ",")
    german = token_classes(Vocabulary(*names), "german").tolist()
    assert german[1] == german[2] >= 0
    assert (german[3], german[6], german[0]) == (-1, -1, -1)
    assert len({*german[4:6], german[1]}) == 3
    assert token_classes(Vocabulary(*names)).tolist()[5] == -1  # English


@KIWI
def test_forms_of_one_korean_word() -> None:
    names = ("[PAD]", "학교", "학교에서", "에서", "먹는", "##은", "서울")
    classes = token_classes(Vocabulary(*names), "korean").tolist()
    assert classes[1] == classes[2] >= 0
    assert classes[3] == -1  # a particle
    assert len({classes[1], classes[4], classes[5], classes[6]}) == 4


def test_own_words_of_a_language(tiny_model: Callable[..., Path]) -> None:
    from neural_sparse import NeuralSparseEncoder

    model = NeuralSparseEncoder(str(tiny_model("bert")), own_words=1.0)
    assert model.own_words is not None
    english = model.own_words.classes
    model.set_own_words(1.0, language="plain")
    assert model.own_words is not None
    assert (english != model.own_words.classes).any()
