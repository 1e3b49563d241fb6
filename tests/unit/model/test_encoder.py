"""The encoder against plain sentence-transformers, both ways, on tiny models of several architectures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from tiny_models import ARCHITECTURES, make_masked_lm, make_tokenizer
from torch import nn

from neural_sparse import InputError, NeuralSparseEncoder, compute_idf_weights
from neural_sparse.model.encoding import packed_features
from neural_sparse.text.tokens import tokenize

TinyModel = Callable[..., Path]
ODD = ["", "naïve café 한국어 🦊", "list list list", "return a new file " * 40 + "stream"]


def plain_documents(model: SparseEncoder, texts: list[str]) -> np.ndarray:
    return model.encode_document(texts, convert_to_sparse_tensor=False, batch_size=3).numpy()


def plain_queries(model: SparseEncoder, texts: list[str]) -> np.ndarray:
    return model.encode_query(texts, convert_to_sparse_tensor=False).numpy()


def published(folder: Path, output: Path, weights: torch.Tensor, activation: str = "relu") -> Path:
    """An inference-free model as sentence-transformers itself makes and saves them."""
    transformer = Transformer(str(folder), transformer_task="fill-mask")
    query = SparseStaticEmbedding(transformer.tokenizer, weights, frozen=True)
    document = [transformer, SpladePooling("max", activation)]
    router = Router.for_query_document([query], document)
    SparseEncoder(modules=[router], similarity_fn_name="dot").save_pretrained(str(output))
    return output


def random_weights(folder: Path, seed: int = 0) -> torch.Tensor:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = torch.rand(len(tokenizer.get_vocab()), generator=torch.Generator().manual_seed(seed)) * 9 + 0.1
    weights[tokenizer.all_special_ids] = 0.0
    return weights


@pytest.fixture(scope="module")
def model(tiny_model: TinyModel) -> NeuralSparseEncoder:
    return NeuralSparseEncoder(tiny_model("bert"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_model_is_a_plain_one(
    architecture: str, tiny_model: TinyModel, texts: list[str], tmp_path: Path
) -> None:
    ours = NeuralSparseEncoder(tiny_model(architecture), max_length=20, idf=None)
    ours.set_query_weights(compute_idf_weights(texts, ours.tokenizer))
    ours.save_pretrained(str(tmp_path / "model"))
    assert not [file for file in (tmp_path / "model").rglob("*") if file.suffix in (".bin", ".pt", ".pkl")]
    for other in (SparseEncoder(str(tmp_path / "model")), NeuralSparseEncoder(tmp_path / "model")):
        documents, queries = [*texts, *ODD], [*texts, *ODD]
        np.testing.assert_allclose(
            plain_documents(other, documents), ours.encode_documents(documents).toarray(), atol=1e-5
        )
        np.testing.assert_allclose(
            plain_queries(other, queries), ours.encode_queries(queries).toarray(), atol=1e-6
        )
    again = NeuralSparseEncoder(tmp_path / "model")
    assert again.max_length == 20
    assert again.idf_table() == ours.idf_table()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_published_model_loads(
    architecture: str, tiny_model: TinyModel, texts: list[str], tmp_path: Path
) -> None:
    folder = tiny_model(architecture)
    output = published(folder, tmp_path / "model", random_weights(folder), "log1p_relu")
    plain, ours = SparseEncoder(str(output)), NeuralSparseEncoder(output)
    assert ours.activation == "double_log1p"
    documents = [*texts, *ODD]
    special = ours.tokenizer.all_special_ids
    expected = plain_documents(plain, documents)
    assert expected[:, special].max() > 0.1  # sentence-transformers silences nothing
    expected[:, special] = 0
    np.testing.assert_allclose(ours.encode_documents(documents).toarray(), expected, atol=1e-5)
    np.testing.assert_allclose(plain_documents(ours, documents), expected, atol=1e-5)
    # Plain sentence-transformers cuts a query at its tokenizer's limit; a lookup has no reason to.
    queries = documents[:-1]
    np.testing.assert_allclose(
        ours.encode_queries(queries).toarray(), plain_queries(plain, queries), atol=1e-6
    )
    scores = ours.similarity(ours.encode_query(texts), ours.encode_document(texts))
    expected = plain.similarity(plain.encode_query(texts), plain.encode_document(texts))
    torch.testing.assert_close(scores.to_dense(), expected.to_dense(), atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("activation", ["log1p", "double_log1p"])
def test_weights_are_the_plain_formula(architecture: str, activation: Any, tiny_model: TinyModel) -> None:
    from transformers import AutoModelForMaskedLM

    folder = tiny_model(architecture)
    model = NeuralSparseEncoder(folder, activation=activation)
    batch = model.tokenizer(["return a new list", "file", ""], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForMaskedLM.from_pretrained(folder)(**batch).logits
        ours = model(batch["input_ids"], batch["attention_mask"])
    weights = torch.log1p(torch.relu(logits)).masked_fill(batch["attention_mask"][..., None] == 0, 0).amax(1)
    expected = torch.log1p(weights) if activation == "double_log1p" else weights
    expected[:, model.tokenizer.all_special_ids] = 0  # silenced: a bare masked LM knows nothing of retrieval
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    assert (ours > 0).any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_special_tokens_are_silent_and_stay_so(
    architecture: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture))
    special = model.tokenizer.all_special_ids
    assert len(special) >= 4
    documents = model.encode_documents(["a new list", "[CLS] <mask> </s> [MASK]", ""]).toarray()
    assert (documents[:, special] == 0).all()
    assert (model.query_weights[special] == 0).all()
    model.save_pretrained(str(tmp_path))
    assert (plain_documents(SparseEncoder(str(tmp_path)), ["a new list"])[:, special] == 0).all()


@pytest.mark.parametrize("form", ["masked LM", "siamese", "inference-free"])
def test_every_form_of_a_model_is_silenced(
    form: str, tiny_model: TinyModel, texts: list[str], tmp_path: Path
) -> None:
    """As the published code of OpenSearch's models does; their tables give special tokens 1, as here."""
    folder = tiny_model("bert")
    if form == "siamese":
        modules = [Transformer(str(folder), transformer_task="fill-mask"), SpladePooling("max")]
        SparseEncoder(modules=modules).save_pretrained(str(tmp_path / "start"))
        folder = tmp_path / "start"
    elif form == "inference-free":
        folder = published(folder, tmp_path / "start", random_weights(folder).clamp(min=1.0))
        assert SparseEncoder(str(folder)).encode_query("\N{SNOWMAN}").to_dense().count_nonzero() == 1  # [UNK]
    model = NeuralSparseEncoder(folder)
    special = model.tokenizer.all_special_ids
    assert model.encode_documents([*texts, "\N{SNOWMAN}"])[:, special].nnz == 0
    assert model.encode_queries(["\N{SNOWMAN} [CLS] [MASK]"]).nnz == 0
    ordinary = np.setdiff1d(np.arange(model.vocab_size), special)
    assert (model.query_weights[ordinary] >= 1).all()
    model.save_pretrained(str(tmp_path / "saved"))
    saved = SparseEncoder(str(tmp_path / "saved"))
    assert plain_documents(saved, texts)[:, special].max() == 0
    assert plain_queries(saved, ["\N{SNOWMAN}"]).max() == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_rows_of_the_vocabulary_are_dropped(
    architecture: str, tiny_model: TinyModel, texts: list[str], tmp_path: Path
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture, padding=7))
    size = len(model.tokenizer.get_vocab())
    assert model.vocab_size == size
    vectors = model.encode_documents(texts)
    assert vectors.shape == (len(texts), size)
    assert model.projection.weight is model.mlm.get_input_embeddings().weight  # still tied
    model.save_pretrained(str(tmp_path))
    np.testing.assert_allclose(
        plain_documents(SparseEncoder(str(tmp_path)), texts), vectors.toarray(), atol=1e-5
    )


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "xlm-roberta"])
@pytest.mark.parametrize("seed", range(3))
def test_packed_equals_padded_with_gradients(architecture: str, seed: int, tiny_model: TinyModel) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture))  # eval: no dropout, but gradients
    rng = np.random.default_rng(seed)
    words = ["return", "a", "new", "list", "open", "the", "file", "naïve", "café", "json"]
    texts = [" ".join(rng.choice(words, length)) for length in rng.integers(0, 15, 9)]
    tokens = tokenize(texts, model.tokenizer, 12, special_tokens=True)
    batch = model.tokenizer(texts, padding=True, truncation=True, max_length=12, return_tensors="pt")
    upstream = torch.rand(9, model.vocab_size, generator=torch.Generator().manual_seed(seed))

    results = []
    for run in (
        lambda: model(batch["input_ids"], batch["attention_mask"]),
        lambda: model(packed_features(tokens))["sentence_embedding"],
    ):
        model.zero_grad()
        vectors = run()
        (vectors * upstream).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((vectors.detach(), gradients))
    (padded, expected), (packed, ours) = results
    torch.testing.assert_close(packed, padded, atol=2e-5, rtol=1e-5)
    assert ours.keys() == expected.keys()
    assert len(ours) > 10
    assert_gradients_close(ours, expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("cache_tokens", [1, 20, 1000])
def test_gradient_cache_changes_nothing(architecture: str, cache_tokens: int, tiny_model: TinyModel) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture))
    texts = ["return a new list", "", "file", "open the file and return a stream", "file", "naïve café"]
    features = packed_features(tokenize(texts, model.tokenizer, 12, special_tokens=True))
    upstream = torch.rand(6, model.vocab_size, generator=torch.Generator().manual_seed(0))
    results = []
    for model.cache_tokens in (None, cache_tokens):
        model.zero_grad()
        vectors = model(features)["sentence_embedding"]
        # Not linear in the vectors: as in a loss, every document's gradient depends on all others.
        (vectors @ vectors.T @ upstream * upstream).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((vectors.detach(), gradients))
    (plain, expected), (cached, ours) = results
    torch.testing.assert_close(cached, plain, atol=1e-5, rtol=1e-5)
    assert ours.keys() == expected.keys()
    assert_gradients_close(ours, expected)


def test_gradient_cache_draws_the_same_dropout_again(tiny_model: TinyModel) -> None:
    model = NeuralSparseEncoder(tiny_model("bert")).train()
    model.cache_tokens = 12
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    texts = ["return a new list", "file", "open the file and return a stream"] * 3
    features = packed_features(tokenize(texts, model.tokenizer, 12, special_tokens=True))
    weight = model.projection.weight
    torch.manual_seed(0)
    model(features)["sentence_embedding"].square().sum().backward()
    gradient = weight.grad
    # The dropout of the first pass, kept: the same groups without recomputation.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neural_sparse.model.encoder.checkpoint", lambda run, *args, use_reentrant: run(*args))
        model.zero_grad()
        torch.manual_seed(0)
        model(features)["sentence_embedding"].square().sum().backward()
    torch.testing.assert_close(gradient, weight.grad)


def assert_gradients_close(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    # Some gradients are zero but for rounding (a key's bias), so the scale is that of all together.
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        difference = float((ours[name] - gradient).abs().max())
        assert difference < 1e-5 * largest, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_equal_those_of_the_plain_formula(architecture: str, tiny_model: TinyModel) -> None:
    from transformers import AutoModelForMaskedLM

    ours = NeuralSparseEncoder(tiny_model(architecture))
    plain = AutoModelForMaskedLM.from_pretrained(tiny_model(architecture)).eval()
    batch = ours.tokenizer(["return a new list", "file", "open a stream"], padding=True, return_tensors="pt")
    logits = plain(**batch).logits.masked_fill(batch["attention_mask"][..., None] == 0, -1e9)
    silent = torch.zeros(ours.vocab_size)
    silent[ours.tokenizer.all_special_ids] = -1e9
    expected = torch.log1p(torch.relu(logits.amax(1) + silent))
    vectors = ours(batch["input_ids"], batch["attention_mask"])
    upstream = torch.rand(expected.shape, generator=torch.Generator().manual_seed(0))
    (expected * upstream).sum().backward()
    (vectors * upstream).sum().backward()
    theirs = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    mine = {name: p.grad for name, p in ours.mlm.named_parameters() if p.grad is not None}
    assert theirs.keys() == mine.keys()
    assert_gradients_close(mine, theirs)


def test_forward_takes_what_callers_have(model: NeuralSparseEncoder) -> None:
    batch = model.tokenizer(["return a new list", "file"], padding=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    expected = model(ids, mask)
    assert expected.shape == (2, model.vocab_size)
    assert (model(input_ids=ids, attention_mask=mask) == expected).all()
    features = model({"input_ids": ids, "attention_mask": mask, "extra": 1})
    assert (features["sentence_embedding"] == expected).all()
    assert features["extra"] == 1
    assert (model(ids[:1]) == model(ids[:1], torch.ones_like(ids[:1]))).all()
    with pytest.raises(TypeError, match="needs input_ids and attention_mask"):
        model("a text")


def test_max_length(tiny_model: TinyModel, caplog: pytest.LogCaptureFixture) -> None:
    assert NeuralSparseEncoder(tiny_model("bert"), 17).max_length == 17
    with caplog.at_level(logging.WARNING):
        long = NeuralSparseEncoder(tiny_model("bert"), 1000)
        roberta = NeuralSparseEncoder(tiny_model("roberta"), 1000)
    assert long.max_length == 64
    assert "max_length 1000 is more than the model's 64; using that" in caplog.text
    assert roberta.max_length == 64  # of 66 positions, RoBERTa starts counting at 2
    for clipped in (long, roberta):
        assert clipped.encode_documents(["new list " * 500]).nnz > 0


def test_saved_length_is_kept_unless_another_is_asked_for(model: NeuralSparseEncoder, tmp_path: Path) -> None:
    model.save_pretrained(str(tmp_path))
    assert NeuralSparseEncoder(tmp_path).max_length == model.max_length
    assert NeuralSparseEncoder(tmp_path, max_length=9).max_length == 9


def test_bf16_autocast_is_close(model: NeuralSparseEncoder, texts: list[str]) -> None:
    batch = model.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        exact = model(batch["input_ids"], batch["attention_mask"])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(batch["input_ids"], batch["attention_mask"])
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert (rough - exact).abs().max() < 0.1
    assert torch.nn.functional.cosine_similarity(rough, exact).min() > 0.999


def test_gradient_checkpointing_gives_the_same_gradients(tiny_model: TinyModel) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"))
    batch = model.tokenizer(["return a new list", "file"], padding=True, return_tensors="pt")
    gradients = []
    for _ in range(2):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.zero_grad()
        model(batch["input_ids"], batch["attention_mask"]).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.gradient_checkpointing_enable()
    assert model.mlm.is_gradient_checkpointing
    torch.testing.assert_close(gradients[1], gradients[0])


class TestQuerySide:
    def test_a_bare_masked_lm_weighs_every_token_alike(self, model: NeuralSparseEncoder) -> None:
        vector = model.encode_queries(["the list the"])
        assert dict(model.top_terms(vector)) == {"the": 1.0, "list": 1.0}

    def test_idf_as_table_file_or_later(
        self, tiny_model: TinyModel, texts: list[str], tmp_path: Path
    ) -> None:
        folder = tiny_model("bert")
        tokenizer = NeuralSparseEncoder(folder).tokenizer
        weights = compute_idf_weights(texts, tokenizer, tmp_path / "idf.json")
        for idf in (weights, dict(weights), tmp_path / "idf.json", str(tmp_path / "idf.json")):
            model = NeuralSparseEncoder(folder, idf=idf)
            np.testing.assert_array_equal(model.query_weights.numpy(), weights.vector)
            assert dict(model.top_terms(model.encode_queries(["list"])))["list"] == pytest.approx(
                weights["list"]
            )
        assert model.idf_table()["list"] == pytest.approx(weights["list"])
        assert model.idf_table()["[CLS]"] == 0

    def test_the_table_outlives_the_weights_it_was_read_from(self, model: NeuralSparseEncoder) -> None:
        table = model.idf_table()
        before = table.vector.copy()
        with torch.no_grad():
            model.query_weights.mul_(3)
        np.testing.assert_array_equal(table.vector, before)
        assert before.any()

    def test_a_table_of_another_tokenizer(self, tiny_model: TinyModel, texts: list[str]) -> None:
        foreign = compute_idf_weights(texts, make_tokenizer("roberta"))
        with pytest.raises(InputError, match="belongs to another tokenizer"):
            NeuralSparseEncoder(tiny_model("bert"), idf=foreign)


def test_terms_and_own_tokens(model: NeuralSparseEncoder) -> None:
    vector = model.encode_documents(["a new list"])
    terms = model.top_terms(vector)
    assert len(terms) == vector.nnz
    assert [weight for _, weight in terms] == sorted(vector.data.tolist(), reverse=True)
    assert len(model.top_terms(vector, 3)) == 3
    assert model.text_tokens("a new list") == {"[CLS]", "a", "new", "list", "[SEP]"}
    assert model.get_sparsity_stats(vector)["avg_nonzero_terms"] == vector.nnz


class TestRefusals:
    def test_a_tokenizer_of_another_model(self, tmp_path: Path) -> None:
        make_masked_lm("bert", make_tokenizer("bert")).save_pretrained(tmp_path)
        make_tokenizer("roberta").save_pretrained(tmp_path)
        with pytest.raises(
            InputError, match=r"the tokenizer has 3\d\d tokens but the model 133: they do not belong"
        ):
            NeuralSparseEncoder(tmp_path)

    def test_far_more_rows_than_tokens(self, tiny_model: TinyModel) -> None:
        with pytest.raises(InputError, match="do not belong together"):
            NeuralSparseEncoder(tiny_model("bert", padding=600))

    def test_a_model_without_masked_lm_head(self, tmp_path: Path, tiny_model: TinyModel) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Transformer as Plain
        from sentence_transformers.sentence_transformer.modules import Pooling

        transformer = Plain(str(tiny_model("bert")))
        SentenceTransformer(modules=[transformer, Pooling(24)]).save_pretrained(str(tmp_path / "dense"))
        with pytest.raises(InputError, match=r"without a masked-LM head.*new_head=true"):
            NeuralSparseEncoder(tmp_path / "dense")

    def test_mean_pooling(self, tmp_path: Path, tiny_model: TinyModel) -> None:
        transformer = Transformer(str(tiny_model("bert")), transformer_task="fill-mask")
        SparseEncoder(modules=[transformer, SpladePooling("sum")]).save_pretrained(str(tmp_path))
        with pytest.raises(InputError, match="pools by 'sum'; only max pooling"):
            NeuralSparseEncoder(tmp_path)

    def test_weights_that_are_no_safetensors(self, tmp_path: Path, tiny_model: TinyModel) -> None:
        model = make_masked_lm("bert", make_tokenizer("bert"))
        model.config.save_pretrained(tmp_path)
        make_tokenizer("bert").save_pretrained(tmp_path)
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        with pytest.raises(InputError):
            NeuralSparseEncoder(tmp_path)

    @pytest.mark.parametrize("name", ["no-such-org/no-such-model", "./absent-folder"])
    def test_a_name_that_is_found_nowhere(self, name: str) -> None:
        with pytest.raises(InputError) as caught:
            NeuralSparseEncoder(name)
        for way_out in (name, "folder that holds config.json", "HF_HOME", "HF_TOKEN"):
            assert way_out in str(caught.value)

    def test_settings(self, tiny_model: TinyModel) -> None:
        with pytest.raises(InputError, match="use_relu=False"):
            NeuralSparseEncoder(tiny_model("bert"), use_relu=False)
        with pytest.raises(InputError, match="unknown activation 'relu': choose from log1p, double_log1p"):
            NeuralSparseEncoder(tiny_model("bert"), activation="relu")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="model name is empty"):
            NeuralSparseEncoder("")


def test_a_siamese_splade_becomes_inference_free(
    tiny_model: TinyModel, texts: list[str], tmp_path: Path
) -> None:
    """SPLADE's documents are kept; its queries become lookups."""
    transformer = Transformer(str(tiny_model("distilbert")), transformer_task="fill-mask")
    siamese = SparseEncoder(modules=[transformer, SpladePooling("max")])
    siamese.save_pretrained(str(tmp_path))
    expected = siamese.encode(texts, convert_to_sparse_tensor=False).numpy()
    ours = NeuralSparseEncoder(tmp_path)
    special = ours.tokenizer.all_special_ids
    vectors = ours.encode_documents(texts).toarray()
    others = np.setdiff1d(np.arange(ours.vocab_size), special)
    np.testing.assert_allclose(vectors[:, others], expected[:, others], atol=1e-5)
    assert ours.encode_queries(["list"]).nnz == 1


def test_a_router_whose_query_side_is_a_transformer(
    tiny_model: TinyModel, tmp_path: Path, texts: list[str]
) -> None:
    sides = [
        [Transformer(str(tiny_model("bert")), transformer_task="fill-mask"), SpladePooling("max")]
        for _ in range(2)
    ]
    plain = SparseEncoder(modules=[Router.for_query_document(*sides)])
    plain.save_pretrained(str(tmp_path))
    ours = NeuralSparseEncoder(tmp_path, query_encoder="inference-free")
    assert ours.encode_queries(["list"]).nnz == 1
    others = np.setdiff1d(np.arange(ours.vocab_size), ours.tokenizer.all_special_ids)
    np.testing.assert_allclose(
        ours.encode_documents(texts).toarray()[:, others], plain_documents(plain, texts)[:, others], atol=1e-5
    )


def test_a_saved_model_stays_until_the_new_one_stands(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    model = NeuralSparseEncoder(tiny_model("bert"))
    model.save_pretrained(str(folder))
    (folder / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    weights = model.state_dict()
    with torch.no_grad():
        model.query_weights.mul_(2)
    with monkeypatch.context() as patched:
        patched.setattr(type(model.transformer), "save", _full_disk)
        with pytest.raises(InputError, match="No space left on device"):
            model.save_pretrained(str(folder))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    model.save_pretrained(str(folder))
    again = NeuralSparseEncoder(folder)
    assert torch.equal(again.query_weights, model.query_weights)
    assert again.state_dict().keys() == weights.keys()
    assert (folder / "notes.txt").read_text() == "mine"
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {
        folder.stat().st_mode & 0o666
    }
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def _full_disk(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_dropout_training_is_evaluation(
    tiny_model: Callable[..., Path], texts: list[str], architecture: str
) -> None:
    model = NeuralSparseEncoder(tiny_model(architecture))
    for module in model.mlm.modules():  # ModernBERT has none by default
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    features = model.packed(tokenize(texts[:4], model.tokenizer, 32, special_tokens=True))
    expected = model(features)["sentence_embedding"].detach()
    model.train()
    dropped = model(features)["sentence_embedding"].detach()
    model.drop_nothing()
    found = model(features)["sentence_embedding"].detach()
    assert model.training
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(dropped, expected)
