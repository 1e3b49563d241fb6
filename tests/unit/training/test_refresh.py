"""Hard negatives of a run: what is mined, when it is used, and that a resumed run uses the same."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import TEXTS

from neural_sparse.config import Recipe, TeacherConfig, recipe_to_dict
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.errors import InputError
from neural_sparse.io.files import sha256_file, write_json
from neural_sparse.mining import Mined
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.layout import map_tensors
from neural_sparse.teachers import EnsembleTeacher
from neural_sparse.teachers.teacher import PreparedPairs
from neural_sparse.text.keys import first_rows
from neural_sparse.training.batches import Schedule
from neural_sparse.training.prefetch import Prefetch
from neural_sparse.training.refresh import (
    RefreshedSchedule,
    RefreshNegatives,
    RunNegatives,
)
from neural_sparse.training.train import train
from neural_sparse.training.trainer import NeuralSparseTrainer

pytestmark = pytest.mark.integration  # trains

WORDS = [word for text in TEXTS for word in text.lower().rstrip(".").split()]


@pytest.fixture
def data() -> TrainingSet:
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 8)) for _ in range(24)]
    queries = [" ".join(documents[row].split()[:3]) for row in range(12)]
    return TrainingSet(queries, documents, np.arange(12))


def recipe(tmp_path: Path, model: Path, **more: Any) -> Recipe:
    values: dict[str, Any] = {
        "init": str(model),
        "train": ("none",),
        "output": str(tmp_path / "run"),
        "teacher_cache": str(tmp_path / "cache"),
        "ranking": {"info_nce": 1.0},
        "lambda_flops": 0.01,
        "num_steps": 12,
        "batch_size": 4,
        "num_hard_negatives": 2,
        "negatives_pool": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "max_length": 32,
        "bf16": False,
        "save_steps": 5,
    }
    return Recipe(**{**values, **more})


def test_negatives_of_a_step() -> None:
    negatives = RunNegatives.__new__(RunNegatives)
    negatives.every = 4
    # 4 steps are trained (0 to 3) before the first refresh, whose negatives come a step later.
    assert [negatives.in_force(step) for step in range(11)] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    negatives.every = None
    assert negatives.in_force(100) == 0


def test_each_position_draws_from_the_negatives_of_its_step(data: TrainingSet) -> None:
    class Numbered(RunNegatives):
        def __init__(self) -> None:
            self.every = 3

        def rows(self, number: int) -> Sequence[np.ndarray]:
            return [np.array([12 + number])] * 12

    schedule = RefreshedSchedule(Schedule(data, 40, 2, seed=1, batch_size=4), Numbered(), per_step=4)
    plain = Schedule(data, 40, 2, seed=1, batch_size=4)
    for position in (*range(40), 3, 39):
        example, negatives = schedule[position]
        assert example == plain[position][0]
        assert negatives.tolist() == [12 + max(0, position // 4 - 1) // 3]
    assert len(schedule) == 40


def test_data_with_their_own_negatives_keep_them_until_the_refresh(
    data: TrainingSet, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), 32)
    data.negatives = [np.array([20])] * 12
    settings = recipe(tmp_path, tiny_model("bert"))
    assert RunNegatives(settings, data, model).start() is data
    refreshed = RunNegatives(recipe(tmp_path, tiny_model("bert"), refresh_negatives_steps=4), data, model)
    assert [row.tolist() for row in refreshed.start().negatives] == [[20]] * 12
    refreshed.make(1)
    assert [row.tolist() for row in refreshed.rows(1)] != [[20]] * 12
    assert not (tmp_path / "run" / "negatives" / "part-000000").exists()


@pytest.mark.parametrize("every", [None, 4])
def test_queries_without_negatives_get_mined_ones_beside_given_ones(
    data: TrainingSet,
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    every: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As of a mixture one of whose sources brings negatives and another none."""
    model = NeuralSparseEncoder(tiny_model("bert"), 32)
    settings = recipe(tmp_path, tiny_model("bert"), refresh_negatives_steps=every)
    alone = [row.tolist() for row in RunNegatives(settings, data, model).start().negatives]
    given = [[20, 21] if row % 3 else [] for row in range(12)]
    data.negatives = [np.array(rows, np.int64) for rows in given]
    some = recipe(tmp_path / "some", tiny_model("bert"), refresh_negatives_steps=every)
    caplog.set_level("INFO")
    negatives = RunNegatives(some, data, model)
    found = [row.tolist() for row in negatives.start().negatives]
    assert found == [own or mined for own, mined in zip(given, alone, strict=True)]
    assert any(alone[row] for row in range(0, 12, 3))
    assert "8 queries keep the negatives that the data bring, for 4 they were mined" in caplog.text
    assert [row.tolist() for row in negatives.ahead().negatives] == found
    assert [row.tolist() for row in RunNegatives(some, data, model).start().negatives] == found
    data.negatives[1] = np.empty(0, np.int64)
    with pytest.raises(InputError, match="lacking:"):
        RunNegatives(some, data, model).start()


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
import neural_sparse.mining.miner, neural_sparse.mining.sources
from neural_sparse.config import Recipe
from neural_sparse.data.training_set import TrainingSet
from neural_sparse.io.files import read_json
from neural_sparse.training.train import train

neural_sparse.mining.miner.BLOCK = 4
neural_sparse.mining.sources.PART = 10
left = int(sys.argv[2])
renamed = Path.replace

def dying(self, target):
    global left
    done = renamed(self, target)
    if self.name.startswith(".part-"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    return done

Path.replace = dying
work = read_json(sys.argv[1])
data = TrainingSet(work["queries"], work["documents"], np.arange(len(work["queries"])))
recipe = {key: tuple(value) if isinstance(value, list) else value for key, value in work["recipe"].items()}
train(Recipe(**recipe), data=data)
"""


def test_mining_that_is_killed_goes_on_block_by_block(
    data: TrainingSet, tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each set of negatives is three parts of the student's vectors, three blocks and the set itself."""

    def settings(name: str) -> Recipe:
        more = {"refresh_negatives_steps": 4, "negatives": ("bm25", "student")}
        return recipe(tmp_path / name, tiny_model("bert"), **more)

    def written(name: str) -> dict[str, str]:
        folder = tmp_path / name / "run"
        files = [*folder.glob("negatives/**/*"), *folder.glob("final_model/**/*.safetensors")]
        return {str(file.relative_to(folder)): sha256_file(file) for file in files if file.is_file()}

    def killed_after(parts: int) -> bool:
        work = {
            "recipe": recipe_to_dict(settings("cut")),
            "queries": data.queries,
            "documents": data.documents,
        }
        write_json(tmp_path / "work.json", work)
        command = [sys.executable, "-c", KILLED, str(tmp_path / "work.json"), str(parts)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0

    # A kill loses what was at work, and the counts would be others if more were made again.
    # After two blocks of the second set, before any checkpoint:
    assert killed_after(3 + 3 + 1 + 3 + 2)
    # After one block of the third, with a checkpoint from three steps before:
    assert killed_after(1 + 1 + 3 + 1)
    assert not killed_after(2 + 1 + 1)
    monkeypatch.setattr("neural_sparse.mining.miner.BLOCK", 4)
    monkeypatch.setattr("neural_sparse.mining.sources.PART", 10)
    train(settings("whole"), data=data)
    assert len(written("whole")) > 4
    assert written("cut") == written("whole")


def test_mined_once_and_read_back(
    data: TrainingSet, tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), 32)
    settings = recipe(
        tmp_path,
        tiny_model("bert"),
        negatives=("bm25", "student"),
        negatives_relative_margin=0.01,
        teachers=(TeacherConfig("sparse", str(tiny_model("roberta"))),),
        refresh_negatives_steps=4,
    )
    first = RunNegatives(settings, data, model)
    rows = [row.tolist() for row in first.start().negatives]
    first.make(1)
    assert any(rows)
    for row, known in zip(rows, data.relevant, strict=True):
        assert not known & set(row)
    monkeypatch.setattr(RunNegatives, "mine", lambda *arguments: pytest.fail("mined again"))
    again = RunNegatives(settings, data, model)
    assert [row.tolist() for row in again.start().negatives] == rows
    again.make(1)
    other = TrainingSet(data.queries, [*data.documents, "one more"], data.positives)
    with pytest.raises(InputError, match="data:"):
        RunNegatives(settings, other, model).start()


def test_a_damaged_file_is_mined_again(
    data: TrainingSet, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = NeuralSparseEncoder(tiny_model("bert"), 32)
    settings = recipe(tmp_path, tiny_model("bert"))
    rows = [row.tolist() for row in RunNegatives(settings, data, model).start().negatives]
    (file,) = (tmp_path / "run" / "negatives").glob("part-*.safetensors")
    file.write_bytes(file.read_bytes()[:-8])
    assert [row.tolist() for row in RunNegatives(settings, data, model).start().negatives] == rows
    with pytest.raises(InputError, match="no mined negatives"):
        Mined.load(tmp_path / "run" / "negatives" / "parts.json")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"negatives": ("bm26",)}, "write bm25, student"),
        ({"negatives": ("dense:",)}, "write bm25, student"),
        ({"negatives": ()}, "at least one source"),
        ({"negatives_pool": 0}, "negatives_pool"),
        ({"negatives_relative_margin": 0.1}, "dense or sparse teacher"),
        ({"negatives": ("dense:a",), "negatives_absolute_margin": -1.0}, "must not be negative"),
        ({"refresh_negatives_steps": 0}, "refresh_negatives_steps"),
        ({"refresh_negatives_steps": 5, "num_hard_negatives": 0}, "raise num_hard_negatives"),
    ],
)
def test_recipes_that_make_no_sense(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        recipe(tmp_path, tmp_path, **wrong)


def test_margins_compare_the_first_dense_or_sparse_model(tmp_path: Path) -> None:
    teachers = (TeacherConfig("bm25"), TeacherConfig("dense", "d"))
    assert recipe(tmp_path, tmp_path, teachers=teachers).margin_teacher == "dense:d"
    named = recipe(tmp_path, tmp_path, teachers=teachers, negatives=("bm25", "sparse:s"))
    assert named.margin_teacher == "sparse:s"


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_after", [6, 9])
def test_a_resumed_run_ends_with_the_same_weights(
    data: TrainingSet,
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Refreshed after 4 and 8 steps, saved after 5 and 10: killed between a save and the next one."""

    def run(folder: str) -> Recipe:
        return recipe(
            tmp_path / folder,
            tiny_model("bert"),
            refresh_negatives_steps=4,
            negatives=("bm25", f"sparse:{tiny_model('bert')}"),
        )

    from safetensors.numpy import load_file

    def weights(model: Path) -> dict[str, np.ndarray]:
        return {
            str(path.relative_to(model)): array
            for path in sorted(model.rglob("*.safetensors"))
            for array in load_file(path).values()
        }

    whole = train(run("whole"), data=data)
    seen: list[int] = []
    mine = RunNegatives.mine
    monkeypatch.setattr(
        RunNegatives, "mine", lambda self, number, at: (seen.append(number), mine(self, number, at))[1]
    )
    end = RefreshNegatives.on_step_end

    def stopping(self: RefreshNegatives, args: Any, state: Any, control: Any, **more: Any) -> None:
        end(self, args, state, control, **more)
        if state.global_step == stop_after:
            raise Stop

    monkeypatch.setattr(RefreshNegatives, "on_step_end", stopping)
    with pytest.raises(Stop):
        train(run("cut"), data=data)
    monkeypatch.setattr(RefreshNegatives, "on_step_end", end)
    caplog.set_level("INFO")
    resumed = train(run("cut"), data=data)
    assert "IDF: 24 documents were counted before" in caplog.text
    assert sorted(seen) == [0, 1, 2]  # each mined once
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)
    files = [
        sorted(path.name for path in (tmp_path / one / "run" / "negatives").iterdir())
        for one in ("whole", "cut")
    ]
    assert files[0] == files[1]  # names hold digests


def test_pair_teachers_know_the_new_pairs(
    data: TrainingSet, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    """A teacher of single pairs is asked for the refreshed negatives, too."""
    asked: list[np.ndarray] = []

    class Pairs:
        name, in_batch = "pairs", False

        def prepare(self, queries: Any, documents: Any, pairs: np.ndarray, cache: Any) -> PreparedPairs:
            asked.append(pairs)
            scores = np.linspace(0, 1, len(pairs), dtype=np.float32)
            return PreparedPairs("pairs", first_rows(queries), first_rows(documents), pairs, scores)

    settings = recipe(
        tmp_path,
        tiny_model("bert"),
        refresh_negatives_steps=4,
        ranking={"kl": 1.0},
        teachers=(TeacherConfig("cross-encoder", "pairs"),),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "neural_sparse.training.train.build_ensemble",
            lambda *arguments: EnsembleTeacher(teachers=[(Pairs(), 1.0)]),
        )
        train(settings, data=data)
    negatives = RunNegatives(settings, data)
    assert len(asked) == 3
    for number in (1, 2):
        known = {tuple(pair) for pair in asked[number].tolist()}
        for example, rows in enumerate(negatives.rows(number)):
            assert {(example, row) for row in rows.tolist()} <= known


class Direct(Iterator[Any]):
    """Each batch is made when it is asked for."""

    def __init__(self, items: Iterator[Any], depth: int, limit: int | None = None) -> None:
        self.items = items

    def __next__(self) -> Any:
        return next(self.items)

    def allow(self, limit: int | None) -> None: ...

    def close(self) -> None: ...


def tensors(batch: dict[str, Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    map_tensors(batch, lambda tensor: (found.append(tensor), tensor)[1])
    return found


class Patient(Prefetch[Any]):
    """All that may be made ahead is made before a batch is taken, as if training were very slow."""

    def __next__(self) -> Any:
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._ready) >= self._depth or not self._is_allowed() or self._end
            )
        return super().__next__()


def test_batches_made_ahead_are_those_made_when_asked_for(
    data: TrainingSet, tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refreshed after every second step, with a teacher of pairs; killed and resumed; whatever is quicker."""
    seen: list[dict[str, Any]] = []
    stop_after = 0
    prepare = NeuralSparseTrainer._prepare_inputs

    def noting(self: NeuralSparseTrainer, inputs: dict[str, Any]) -> dict[str, Any]:
        if self.state.global_step == stop_after > 0:
            raise Stop
        seen.append(inputs)
        return prepare(self, inputs)

    monkeypatch.setattr(NeuralSparseTrainer, "_prepare_inputs", noting)

    class Pairs:
        name, in_batch = "pairs", False

        def prepare(self, queries: Any, documents: Any, pairs: np.ndarray, cache: Any) -> PreparedPairs:
            scores = np.cos(pairs @ [1, 100]).astype(np.float32)
            return PreparedPairs("pairs", first_rows(queries), first_rows(documents), pairs, scores)

    monkeypatch.setattr(
        "neural_sparse.training.train.build_ensemble",
        lambda *arguments: EnsembleTeacher(teachers=[(Pairs(), 1.0)]),
    )

    def batches(kind: type, accumulation: int, stop: int = 0) -> list[dict[str, Any]]:
        nonlocal stop_after
        monkeypatch.setattr("neural_sparse.training.trainer.Prefetch", kind)
        settings = recipe(
            tmp_path / f"{kind.__name__}-{accumulation}",
            tiny_model("bert"),
            refresh_negatives_steps=2,
            gradient_accumulation_steps=accumulation,
            ranking={"kl": 1.0},
            teachers=(TeacherConfig("cross-encoder", "pairs"),),
            num_steps=7,
            save_steps=2,
        )
        seen.clear()
        if stop:
            stop_after = stop
            with pytest.raises(Stop):
                train(settings, data=data)
            stop_after = 0
        train(settings, data=data)
        return list(seen)

    for accumulation, kinds in ((1, {Prefetch: 0, Patient: 5}), (2, {Patient: 5})):
        expected = batches(Direct, accumulation)
        assert len(expected) == 7 * accumulation
        for kind, stop in kinds.items():
            found = batches(kind, accumulation, stop)
            if stop:  # steps 0 to 4, then again from step 4 on
                assert len(found) == 8 * accumulation
                found = found[: 4 * accumulation] + found[5 * accumulation :]
            assert len(found) == len(expected)
            for one, other in zip(expected, found, strict=True):
                assert one.keys() == other.keys()
                for mine, its in zip(tensors(one), tensors(other), strict=True):
                    assert torch.equal(mine, its)
