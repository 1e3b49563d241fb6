"""Facts that stand twice so that the command line, a plan or a doctor import no torch: both places say the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from neural_sparse.cli.adapt import adapt
from neural_sparse.cli.data import prepare
from neural_sparse.cli.encode import BackendName, encode
from neural_sparse.cli.evaluate import evaluate
from neural_sparse.cli.export import export
from neural_sparse.cli.judge_teachers import judge_teachers
from neural_sparse.cli.mine import mine
from neural_sparse.cli.quickstart import quickstart
from neural_sparse.config import OWN_CANDIDATES, Recipe, TeacherKind


def options(command: Callable[..., Any]) -> dict[str, Any]:
    """What a command takes each option for that is not given."""
    return {
        name: one.default.default if isinstance(one.default, typer.models.ParameterInfo) else one.default
        for name, one in inspect.signature(command).parameters.items()
    }


def text(command: Callable[..., Any], name: str) -> str:
    return str(inspect.signature(command).parameters[name].default.help)


def same(command: Callable[..., Any], settings: object, but: tuple[str, ...] = ()) -> None:
    """Every attribute of `settings` that is an option by name has its default there; 0 says None, a list a tuple."""
    given = options(command)
    shared = [name for name in vars(settings) if name in given and name not in but]
    assert len(shared) > 1
    for name in shared:
        value, default = given[name], getattr(settings, name)
        plain = list(default) if isinstance(default, tuple) else default
        assert value == plain or (not value and not default), name


def test_a_commands_defaults_are_those_of_what_it_calls() -> None:
    from neural_sparse.adapt.quickstart import quickstart_settings
    from neural_sparse.adapt.settings import AdaptSettings, parse_budget
    from neural_sparse.data.cleaning import Cleaning
    from neural_sparse.data.prepare import PrepareOptions
    from neural_sparse.evaluation.measures import DEFAULT_MEASURES
    from neural_sparse.evaluation.systems import evaluate_encoder
    from neural_sparse.mining.miner import MiningOptions
    from neural_sparse.model.pruning import Pruning
    from neural_sparse.opensearch.export import ExportOptions
    from neural_sparse.teachers.quality import judge_teachers as judge

    same(prepare, Cleaning())
    same(prepare, PrepareOptions(), but=("workers",))  # all cores, of the command
    same(encode, Pruning())
    same(adapt, AdaptSettings(Path()), but=("corpus", "budget"))  # the latter as text
    assert parse_budget(options(adapt)["budget"]) == AdaptSettings(Path()).budget
    same(export, ExportOptions(), but=("prune",))  # as text, for "none" is one
    assert float(options(export)["prune"]) == ExportOptions().prune
    assert options(export)["version"] == ExportOptions().version
    same(mine, MiningOptions())
    mining, mined = MiningOptions(), options(mine)
    assert mined["negatives"] == mining.num_negatives
    assert mined["ranks"] == f"{mining.first_rank}-{mining.last_rank}"
    assert (mined["top"], mined["scores"]) == (not mining.sample, mining.below_positive)
    assert options(evaluate)["measure"] == list(DEFAULT_MEASURES)
    for command, called, names in (
        (evaluate, evaluate_encoder, ("k",)),
        (judge_teachers, judge, ("depth", "union")),
        (quickstart, quickstart_settings, ("data", "steps")),
    ):
        for name in names:
            value = options(command)[name]
            default = inspect.signature(called).parameters[name].default
            assert (str(value) if isinstance(value, Path) else value) == default, name
    cache = {str(options(mine)["teacher_cache"]), Recipe.__dataclass_fields__["teacher_cache"].default}
    assert cache == {"outputs/teacher_cache"}
    assert "outputs/teacher_cache" in str(
        inspect.signature(judge_teachers).parameters["teacher_cache"].default.show_default
    )


def test_a_commands_help_names_what_there_is() -> None:
    from neural_sparse.data.from_documents import WAYS
    from neural_sparse.engines.formats import VECTOR_FORMATS
    from neural_sparse.mining.sources import SOURCE_KINDS

    assert ", ".join(WAYS) in text(prepare, "queries_from")
    for command, name, kinds in (
        (export, "kind", ("opensearch", *VECTOR_FORMATS, "onnx", "fastembed", "sentence-transformers")),
        (mine, "source", SOURCE_KINDS),
        (judge_teachers, "teacher", get_args(TeacherKind)),
    ):
        missing = [kind for kind in kinds if kind not in text(command, name)]
        assert not missing, (name, missing)


def test_names_of_files_in_a_runs_folder() -> None:
    from neural_sparse.training import run_folder, run_record

    assert run_record.CONFIG_FILE == run_folder.CONFIG_FILE
    read = inspect.getsource(run_record.read_training_run)
    assert f'"{run_folder.METRICS_FILE}"' in read


def test_a_plans_batches_are_those_of_encoding() -> None:
    from neural_sparse.model.encoding import TOKENS_PER_BATCH
    from neural_sparse.planning.stages import TOKEN_BUDGET

    assert TOKENS_PER_BATCH["cuda"] == TOKEN_BUDGET


def test_encode_takes_every_backend() -> None:
    from neural_sparse.search.encoders import Backend

    assert tuple(BackendName) == get_args(Backend)


@pytest.mark.parametrize("kind", get_args(TeacherKind))
def test_which_teachers_score_a_querys_own_candidates_alone(kind: str) -> None:
    from neural_sparse import teachers

    classes = {
        "dense": teachers.DenseTeacher,
        "sparse": teachers.SparseTeacher,
        "cross-encoder": teachers.CrossEncoderTeacher,
        "bm25": teachers.BM25Teacher,
        "precomputed": teachers.PrecomputedTeacher,
        "endpoint": teachers.EndpointTeacher,
        "rerank-endpoint": teachers.RerankTeacher,
    }
    assert classes[kind].in_batch == (kind not in OWN_CANDIDATES)
