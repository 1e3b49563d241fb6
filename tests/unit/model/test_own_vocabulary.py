"""A start with a vocabulary learnt from the documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neural_sparse.adapt.reading import Reading
from neural_sparse.errors import InputError
from neural_sparse.idf import DEFAULT_IDF, compute_idf_weights, without_common
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.own_vocabulary import learn_tokenizer, make_start
from neural_sparse.model.tokenizer import load_tokenizer
from neural_sparse.text.tokens import tokenizes_words_apart, vocabulary
from neural_sparse.text.words import token_classes

NOUNS = ("서울", "부산", "기차", "버스", "여행", "바다", "음식", "시장", "학교", "도서관", "공원", "영화")
KOREAN = [
    f"{one}에서 {other}까지 가는 길은 멀다. p에 {number}번 {other}를 {one}의 사람들이 본다."
    for number, (one, other) in enumerate((a, b) for a in NOUNS for b in NOUNS if a != b)
]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_start(iter(KOREAN), tmp_path_factory.mktemp("own") / "start", vocabulary=300)


def test_its_documents_show_their_own_words(start: Path) -> None:
    model = NeuralSparseEncoder(start, 64)
    idf = compute_idf_weights(KOREAN, model.tokenizer, show_progress=False)
    model.set_query_weights(idf)
    vectors = model.encode_documents(KOREAN)
    queries = model.encode_queries(KOREAN[:20])
    assert vectors.getnnz(1).min() > 0
    assert np.diff(vectors.indptr).mean() < 60
    own = [set(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in KOREAN]
    shown = [len(set(row.indices) & tokens) / len(tokens) for row, tokens in zip(vectors, own, strict=True)]
    assert np.mean(shown) > 0.8
    best = np.asarray((queries @ vectors.T).todense()).argmax(1)
    assert (best == np.arange(20)).mean() > 0.8


def test_its_tokens_have_names_of_their_own_and_one_script(start: Path) -> None:
    tokenizer = load_tokenizer(str(start))
    names = vocabulary(tokenizer)
    assert len(set(names)) == len(names) <= 300
    assert "서울" in names
    assert not any("p" in name and len(name) > 1 and not name.isascii() for name in names)
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("p에 서울")
    assert [word for word, _ in split] == ["p", "에", "서울"]
    assert tokenizes_words_apart(tokenizer)
    assert tokenizer("서울")["input_ids"][0] == tokenizer.cls_token_id
    classes = token_classes(tokenizer, "bigrams")
    assert classes[names.index("서울")] >= 0
    assert (classes[tokenizer.all_special_ids] == -1).all()


def test_the_seed_is_of_the_weights(start: Path, tmp_path: Path) -> None:
    def layers(folder: Path) -> bytes:
        weights = load_file(folder / "model.safetensors")
        return b"".join(weights[name].numpy().tobytes() for name in sorted(weights) if ".layer." in name)

    torch.manual_seed(7)  # not the state that the fixture's call may have left
    before = torch.random.get_rng_state()
    again = make_start(KOREAN, tmp_path / "again", vocabulary=300)
    assert torch.equal(before, torch.random.get_rng_state())
    assert layers(again) == layers(start)
    assert layers(make_start(KOREAN, tmp_path / "other", vocabulary=300, seed=1)) != layers(start)


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 texts are too few"):
        learn_tokenizer(KOREAN[:4])
    with pytest.raises(InputError, match="99 pieces is too small"):
        learn_tokenizer(KOREAN, 99)
    with pytest.raises(InputError, match="multiple of 64"):
        make_start(KOREAN, tmp_path / "start", width=100)
    assert not (tmp_path / "start").exists()


def test_scripts_without_spaces() -> None:
    places = ("東京", "京都", "大阪", "図書館", "駅前", "公園", "学校", "市場")
    texts = [f"{one}は{other}の近くにある。" for one in places for other in places if one != other]
    tokenizer = learn_tokenizer(texts, 200)
    tokens = tokenizer.tokenize("図書館は公園の近くにある")
    assert "公園" in tokens
    assert len(tokens) < len("図書館は公園の近くにある")
    assert tokenizer.unk_token not in tokens


def test_whether_a_tokenizer_reads_a_language(start: Path) -> None:
    own = load_tokenizer(str(start))
    reading = Reading.of(KOREAN, own)
    assert reading.knows
    assert reading.told("MODEL") == []
    other = Reading.of(["Ελληνικά κείμενα για αναζήτηση, γραμμένα εδώ"], own)
    assert not other.knows
    assert "MODEL takes" in other.told("MODEL")[0]
    assert "--init own-vocabulary" in other.told("MODEL")[1]
    replaced = Reading(other.tokens_per_word, other.unknown, own_vocabulary=True)
    assert "knows nothing but a vocabulary learnt from the documents" in replaced.told("MODEL")[1]


def test_tokens_that_most_documents_have_weigh_nothing() -> None:
    tokenizer = learn_tokenizer(KOREAN, 300)
    idf = compute_idf_weights(KOREAN, tokenizer, show_progress=False)
    rare = without_common(idf, 1.5)
    names = vocabulary(tokenizer)
    assert list(rare) == list(idf) == names
    for name, weight in idf.items():
        assert rare[name] == (weight if weight >= 1.5 or weight == DEFAULT_IDF else 0.0)
    ordinary = idf.vector > 0
    np.testing.assert_array_equal(rare.vector[ordinary] > 0, np.array(list(rare.values()))[ordinary] > 0)
    assert not rare.vector[~ordinary].any()
    assert rare["."] == 0 < rare["도서관"] == idf["도서관"]
