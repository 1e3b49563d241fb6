from __future__ import annotations

import math
import pickle
from collections import Counter
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from neural_sparse.corpora.collection import Collection
from neural_sparse.errors import InputError
from neural_sparse.search import BM25Index, Retriever
from neural_sparse.text.words import Words

TEXTS = [
    "The cat sat on the mat, the cat slept",
    "A dog runs; dogs running everywhere",
    "",
    "snake_case names and the cat",
    "형태소 분석 은 어렵다",
]
IDS = ["cat", "dog", "empty", "code", "korean"]


def plain_bm25(texts: list[list[str]], query: list[str], k1: float, b: float) -> list[float]:
    """Robertson's formula as in Lucene, word by word."""
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        counts = Counter(text)
        score = 0.0
        for word in filter(counts.get, query):
            df = sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - df + 0.5) / (df + 0.5))
            score += idf * counts[word] / (counts[word] + k1 * (1 - b + b * len(text) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.0, 0.0)])
def test_scores_are_lucenes(k1: float, b: float) -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}x" for i in range(20)]
    texts = [[words[i] for i in rng.integers(0, 20, rng.integers(0, 12))] for _ in range(40)]
    index = BM25Index.build(
        [" ".join(text) for text in texts], [str(i) for i in range(40)], k1, b, stemmer=None, stopwords=None
    )
    query = ["w3x", "w7x", "w3x", "unknown"]
    expected = np.array(plain_bm25(texts, query, k1, b))
    hits = index.search_texts([" ".join(query)], 40)
    order = [row for row in np.argsort(-expected.astype(np.float32), kind="stable") if expected[row] > 0]
    assert [row for row in hits.docs[0] if row >= 0] == order
    np.testing.assert_allclose(hits.scores[0][: len(order)], expected[order], rtol=1e-5)
    product = (index.document_weights() @ index.encode_queries([" ".join(query)]).T).toarray()[:, 0]
    np.testing.assert_allclose(product, expected, rtol=1e-5)


def test_words_are_folded() -> None:
    index = BM25Index.build(TEXTS, IDS)
    found = index.index.ids(
        index.search_texts(["the CATS", "run", "case", "분석", "to be or not to be", ""], 5)
    )
    assert found == [["cat", "code"], ["dog"], ["code"], ["korean"], [], []]
    assert "the" not in index.words.vocabulary
    assert "cats" not in index.words.vocabulary
    assert "은" in index.words.vocabulary  # single letters of other scripts are words


def test_other_languages_and_own_stopwords() -> None:
    german = BM25Index.build(["die Häuser", "das Haus"], ["a", "b"], stemmer="german", stopwords="german")
    assert list(german.words.vocabulary) == ["haus"]
    own = BM25Index.build(["foo bar", "baz"], ["a", "b"], stemmer=None, stopwords=["foo"])
    assert set(own.words.vocabulary) == {"bar", "baz"}
    whole = BM25Index.build(["foo_bar x"], ["a"], stemmer=None, stopwords=None, pattern=r"\S+")
    assert set(whole.words.vocabulary) == {"foo_bar", "x"}


def test_a_saved_index_searches_the_same(tmp_path: Path) -> None:
    for number, options in enumerate([{}, {"stemmer": None, "stopwords": ["cat"]}]):
        index = BM25Index.build(TEXTS, IDS, k1=1.1, **options)  # type: ignore[arg-type]
        index.save(tmp_path / str(number))
        loaded = BM25Index.load(tmp_path / str(number))
        queries = ["cats running", "dogs", "분석", "nowhere"]
        for mine, theirs in zip(index.search_texts(queries, 3), loaded.search_texts(queries, 3), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert (loaded.k1, loaded.b) == (1.1, 0.4)


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    for options, message in [
        ({"k1": -1.0}, "k1 >= 0"),
        ({"b": 2.0}, "b <= 1"),
        ({"stemmer": "klingon"}, "unknown stemmer 'klingon'"),
        ({"stopwords": "klingon"}, "unknown stopword list"),
        ({"pattern": "("}, "no regular expression"),
    ]:
        with pytest.raises(InputError, match=message):
            BM25Index.build(TEXTS, IDS, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing to index"):
        BM25Index.build(["the", ""], ["a", "b"])
    BM25Index.build(TEXTS, IDS).save(tmp_path / "one")
    BM25Index.build(["other words"], ["a"]).save(tmp_path / "two")
    (tmp_path / "two" / "bm25.json").write_bytes((tmp_path / "one" / "bm25.json").read_bytes())
    with pytest.raises(InputError, match=r"bm25.json is (too long|truncated|damaged)"):
        BM25Index.load(tmp_path / "two")


@pytest.mark.parametrize(
    ("name", "plain", "expected"),
    [("scifact", False, 0.680), ("scifact", True, 0.656), ("korquad-dev", False, 0.846)],
)
def test_known_collections(shared_data: Path, name: str, plain: bool, expected: float) -> None:
    collection = Collection.load(shared_data / "collections" / name)
    options = {"stemmer": None, "stopwords": None} if plain else {}
    index: Retriever = BM25Index.build(collection.texts, collection.doc_ids, **options)  # type: ignore[arg-type]
    hits = index.search_texts(list(collection.queries.values()), 10)
    run = {
        query_id: {
            index.doc_ids[doc]: float(score) for doc, score in zip(docs, scores, strict=True) if doc >= 0
        }
        for query_id, docs, scores in zip(
            collection.queries, hits.docs.tolist(), hits.scores.tolist(), strict=True
        )
    }
    measure = ir_measures.nDCG @ 10
    assert ir_measures.calc_aggregate([measure], collection.qrels, run)[measure] == pytest.approx(
        expected, abs=1e-3
    )


@pytest.mark.parametrize("stemmer", ["english", None])
def test_words_travel_between_processes(stemmer: str | None) -> None:
    words = Words(stemmer, "english")
    words.learn(["opening files and the closed files", "naïve visitors queue"])
    other = pickle.loads(pickle.dumps(words))  # noqa: S301
    assert other.vocabulary == words.vocabulary
    texts = ["an opened file", "visitors and unknown words"]
    assert (other.count(texts) != words.count(texts)).nnz == 0
    assert words.count(texts).nnz > 0
