"""One way from a name to a teacher: settings and trust reach it wherever it is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from tiny_models import TEXTS, save_with_own_code

from neural_sparse.cli import main as command_line
from neural_sparse.config import (
    ENDPOINTS,
    NAMELESS,
    OWN_CANDIDATES,
    Recipe,
    TeacherConfig,
    TeacherKind,
    recipe_from_dict,
)
from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.qrels_file import write_qrels
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.mining import Sources
from neural_sparse.teachers.builder import TeacherBuilder, build_ensemble
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.cross_encoder import CrossEncoderTeacher
from neural_sparse.teachers.dense import DenseTeacher
from neural_sparse.teachers.sparse import SparseTeacher
from neural_sparse.training.refresh import RunNegatives

KINDS = ("dense", "sparse", "cross-encoder")


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Folder of a model of a kind whose program code is beside its weights."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return lambda kind: str(save_with_own_code(kind, tmp_path / f"own_{kind.replace('-', '_')}"))


@pytest.fixture
def data() -> TrainingSet:
    return TrainingSet([text[:20] for text in TEXTS], [*TEXTS, "A file of cats."], np.arange(len(TEXTS)))


def recipe(**values: Any) -> Recipe:
    return recipe_from_dict(
        {"init": "m", "train": ["t"], "ranking": {"info_nce": 1.0}, "bf16": False} | values
    )


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_negatives_of_a_run_by_a_model_with_own_code(
    kind: str, own_code: Callable[[str], str], data: TrainingSet, tmp_path: Path
) -> None:
    name = own_code(kind)
    plain = {"negatives": [f"{kind}:{name}"], "negatives_pool": 2, "teacher_cache": str(tmp_path / "cache")}
    with pytest.raises(InputError, match="trust_remote_code"):
        RunNegatives(recipe(**plain), data).mine(0, tmp_path / "mining")
    mined = RunNegatives(recipe(**plain, trust_remote_code=[name]), data).mine(0, tmp_path / "mining")
    assert mined.counts["kept"]
    taught = recipe(**plain, trust_remote_code=[name], teachers=[{"kind": kind, "name": name}])
    ensemble = build_ensemble(taught)
    ensemble.prepare(data.queries, data.documents)
    assert not ensemble.cache.encoded  # mining had encoded all


@pytest.mark.parametrize("kind", KINDS)
def test_sources_with_own_code(kind: str, own_code: Callable[[str], str], data: TrainingSet) -> None:
    name = own_code(kind)
    rows, documents = np.array([0]), np.array([[0, 1]])
    with pytest.raises(InputError, match=r"--trust-remote-code .*own_"):
        Sources(data, TeacherCache()).scorer(f"{kind}:{name}").pair_scores(rows, documents)
    trusting = Sources(data, TeacherCache(), TeacherBuilder(bf16=False, trust_remote_code=(name,)))
    assert np.isfinite(trusting.scorer(f"{kind}:{name}").pair_scores(rows, documents)).all()


def test_settings_reach_mining(tiny_model: Callable[..., Path], data: TrainingSet, tmp_path: Path) -> None:
    name = str(tiny_model("bert"))
    settings = {"max_length": 8, "query_prompt": "find ", "document_prompt": "a ", "precision": "bfloat16"}
    taught = recipe(
        teachers=[{"kind": "bm25"}, {"kind": "sparse", "name": name, "batch_size": 2, **settings}],
        negatives=[f"sparse:{name}"],
        negatives_pool=2,
        teacher_cache=str(tmp_path / "cache"),
    )
    ensemble = build_ensemble(taught)
    ensemble.prepare(data.queries, data.documents)
    negatives = RunNegatives(taught, data)
    negatives.mine(0, tmp_path / "mining")
    assert len(list((tmp_path / "cache").iterdir())) == 2  # of queries and of documents: prompts differ
    teacher = ensemble.teachers[1]
    assert isinstance(teacher, SparseTeacher)
    assert (teacher.batch_size, teacher.max_length, teacher.precision) == (2, 8, "bfloat16")
    assert (teacher.prompt("query"), teacher.prompt("document")) == ("find ", "a ")


def test_a_teacher_is_built_alike_wherever_it_is_named() -> None:
    configs = (
        TeacherConfig("dense", "d", max_length=9, batch_size=3, query_prompt="q: ", document_prompt=""),
        TeacherConfig("cross-encoder", "c", precision="float32"),
    )
    builder = TeacherBuilder(configs, bf16=True, trust_remote_code=("d",), max_length=77)
    dense = builder.named("dense", "d")
    assert isinstance(dense, DenseTeacher)
    assert (dense.max_length, dense.batch_size, dense.precision) == (9, 3, "bfloat16")
    assert (dense.prompt("query"), dense.prompt("document"), dense.trust_remote_code) == ("q: ", "", True)
    reranker, other = builder.named("cross-encoder", "c"), builder.named("cross-encoder", "other")
    assert isinstance(reranker, CrossEncoderTeacher)
    assert isinstance(other, CrossEncoderTeacher)
    assert (reranker.precision, reranker.max_length) == ("float32", 77)
    assert (other.precision, other.trust_remote_code) == ("bfloat16", False)  # that of the run
    sparse = builder.named("sparse", "d")  # of another kind: nothing is said of it
    assert isinstance(sparse, SparseTeacher)
    assert (sparse.max_length, sparse.trust_remote_code) == (77, True)


@pytest.fixture
def collection(data: TrainingSet, tmp_path: Path) -> Path:
    """BEIR layout, with judgements to train and to judge by."""
    folder = tmp_path / "collection"
    ids = [f"d{row}" for row in range(len(data.documents))]
    found = {f"q{row}": {f"d{row}": 1} for row in range(len(data.queries))}
    queries = {f"q{row}": text for row, text in enumerate(data.queries)}
    Collection("c", ids, list(data.documents), queries, found).save(folder)
    for split in ("train", "dev"):
        write_qrels(folder / "qrels" / f"{split}.tsv", found)
    return folder


def test_commands_with_own_code(own_code: Callable[[str], str], collection: Path, tmp_path: Path) -> None:
    name = own_code("dense")
    shared = ["--teacher-cache", tmp_path / "cache", "--no-bf16", "--max-length", 32]
    mining = ["mine", collection, "-s", f"dense:{name}", "-n", 1, "-o", tmp_path / "mined.jsonl", *shared]
    judging = ["judge-teachers", "-c", collection, "-t", f"dense:{name}", *shared]
    trust = ["--trust-remote-code", name]
    for command in (mining, judging):
        assert (code_and_error := run(command))[0] == 2
        assert "--trust-remote-code" in code_and_error[1]
        code, error = run([*command, "--trust-remote-code", "stranger"])
        assert code == 2
        assert f"names stranger, which is no model that is used here; there is {name}" in error
        assert run([*command, *trust])[0] == 0
    assert (tmp_path / "mined.jsonl").is_file()
    values = {"init": "m", "teachers": [{"kind": "dense", "name": name}], "trust_remote_code": name}
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    assert run(["judge-teachers", tmp_path / "recipe.yaml", *judging[1:3], *shared])[0] == 0
    assert len(list((tmp_path / "cache").iterdir())) == 1  # mined and judged by the same vectors


def run(command: list[Any]) -> tuple[int, str]:
    """Exit status and message."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as told:
        patch.setattr(sys, "argv", ["neural-sparse", *map(str, command)])
        with pytest.raises(SystemExit) as caught:
            command_line.main()
    code = caught.value.code
    return code if isinstance(code, int) else 0, told.getvalue()


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"kind": "bm25", "batch_size": 4}, "bm25 has no model, and takes no batch_size"),
        ({"kind": "precomputed", "name": "f", "max_length": 9}, "takes no max_length"),
        (
            {"kind": "cross-encoder", "name": "c", "query_prompt": "q"},
            "cross-encoder .*takes no query_prompt",
        ),
        ({"kind": "dense", "name": "d", "batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"kind": "dense", "name": "d", "max_length": 2}, "max_length must be at least 3, not 2"),
        ({"kind": "dense", "name": "d", "precision": "float16"}, "choose from float32, bfloat16"),
    ],
)
def test_settings_that_cannot_be(teacher: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(teachers=[teacher])


def test_code_is_trusted_by_name() -> None:
    assert recipe(negatives=["dense:d"], trust_remote_code=["d"]).trust_remote_code == ("d",)
    with pytest.raises(InputError, match=r"trust_remote_code names e, which .* there is d"):
        recipe(negatives=["dense:d"], trust_remote_code=["e"])


def test_names_of_caches_stay(tmp_path: Path) -> None:
    """A cache that an earlier version filled is found: these hashes are a format on disk."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertForSequenceClassification"]}))
    settings = {"max_length": 128, "batch_size": 4}
    cache, name = TeacherCache(tmp_path / "cache"), str(tmp_path)
    found = {}
    for kind in ("dense", "sparse", "cross-encoder"):
        builder = TeacherBuilder((TeacherConfig(kind, name, **settings),), bf16=False)  # type: ignore[arg-type]
        teacher: Any = builder.named(kind, name)  # type: ignore[arg-type]
        jobs = teacher.jobs(["q"], ["d"], np.array([[0, 0]]))
        found[kind] = [cache._open(job).folder.name[-16:] for job in jobs]  # type: ignore[union-attr]
    assert found == {
        "dense": ["9f8d99f01802c969"] * 2,
        "sparse": ["e8779c719a7278e2"] * 2,
        "cross-encoder": ["2b1660ae224df916"],
    }


@pytest.mark.parametrize("kind", get_args(TeacherKind))
def test_what_a_recipe_says_of_a_kind_holds_of_its_teacher(kind: TeacherKind) -> None:
    """config.py tells kinds apart without importing torch; here its facts meet the classes."""
    name = "any/name@http://localhost/v1" if kind in ENDPOINTS else "any/name"
    config = TeacherConfig(kind, None if kind in NAMELESS else name)
    teacher = TeacherBuilder(bf16=False).teacher(config)
    assert teacher.in_batch == (kind not in OWN_CANDIDATES)
    assert hasattr(teacher, "precision") == config.has_model
