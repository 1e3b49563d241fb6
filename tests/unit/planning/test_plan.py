"""Plans: sizes as the files have them, estimates that grow with the work, refusals that name the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from neural_sparse.cli.main import app
from neural_sparse.config import RECIPES, Recipe, TeacherConfig, read_recipe
from neural_sparse.errors import InputError
from neural_sparse.planning import sizes
from neural_sparse.planning.estimate import Basis, Figure, assumed, measured
from neural_sparse.planning.hardware import KNOWN, Hardware, hardware_of
from neural_sparse.planning.rates import DEFAULT
from neural_sparse.planning.shapes import PUBLISHED, shape_of
from neural_sparse.planning.stages import TOKEN_BUDGET, TOKEN_BUDGET_CPU, Planner, plan
from neural_sparse.planning.table import duration, limits, size
from neural_sparse.planning.workload import workload_of

TEACHERS = (
    TeacherConfig("dense", "Alibaba-NLP/gte-large-en-v1.5"),
    TeacherConfig("sparse", "opensearch-project/opensearch-neural-sparse-encoding-v1"),
    TeacherConfig("cross-encoder", "cross-encoder/ms-marco-MiniLM-L-12-v2"),
    TeacherConfig("bm25"),
)
RECIPE = Recipe(
    init="distilbert/distilbert-base-uncased",
    train=("nowhere.jsonl",),
    teachers=TEACHERS,
    negatives=("bm25", "dense:BAAI/bge-m3", "sparse:google-bert/bert-base-uncased", "student"),
)


def planned(documents: float, hardware: Hardware | str = "h100x8", recipe: Recipe = RECIPE) -> list[Any]:
    machine = hardware if isinstance(hardware, Hardware) else hardware_of(hardware)
    return plan(recipe, workload_of(recipe, documents), machine, DEFAULT)


# Bytes: against what is really written.


@pytest.fixture(scope="module")
def collection(tiny_model: Callable[..., Path], texts: list[str], tmp_path_factory: Any) -> Path:
    from neural_sparse.search.encode_corpus import encode_corpus

    folder = tmp_path_factory.mktemp("planned")
    rng = np.random.default_rng(0)
    words = " ".join(texts).split()
    rows = [{"_id": f"d{n}", "text": " ".join(rng.choice(words, rng.integers(0, 30)))} for n in range(123)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    encode_corpus(str(tiny_model("bert")), folder / "corpus.jsonl", folder / "out", show_progress=False)
    return folder / "out"


def test_an_encoded_collection_has_the_bytes_foretold(collection: Path) -> None:
    from neural_sparse.search.encoded import EncodedCollection

    found = EncodedCollection(collection)
    postings = int(found.index.posting_lengths.sum())
    vocabulary = len(found.index.posting_lengths)
    ids = sum(map(len, found.doc_ids)) / len(found.doc_ids)
    arrays = [file for file in (collection / "index").iterdir() if file.suffix == ".npy"]
    on_disk = sum(file.stat().st_size for file in arrays)
    assert sizes.index(123, postings, vocabulary, ids) == pytest.approx(on_disk, abs=1e-6)
    texts = (collection / "texts.bin").stat().st_size
    on_disk += texts + (collection / "text_offsets.npy").stat().st_size
    assert sizes.collection(123, postings, vocabulary, ids, texts) == pytest.approx(on_disk, abs=1e-6)


def test_teachers_caches_have_the_bytes_foretold() -> None:
    from scipy.sparse import random as random_matrix

    from neural_sparse.teachers.rows import pack
    from neural_sparse.teachers.shards import KEY_BYTES

    def stored(matrix: Any, rows: int) -> int:
        return sum(array.nbytes for array in pack(matrix, np.float16).values()) + rows * KEY_BYTES

    assert sizes.dense_cache(7, 24) == stored(np.zeros((7, 24), np.float16), 7)
    sparse = random_matrix(9, 500, 0.1, "csr", np.float32)
    # One offset more than rows, and the width.
    assert sizes.sparse_cache(9, sparse.nnz / 9) == stored(sparse, 9) - 16
    assert sizes.pair_cache(5) == stored(np.zeros((5, 1), np.float32), 5)


def test_parameters_are_the_models(tiny_model: Callable[..., Path]) -> None:
    from transformers import AutoModelForMaskedLM

    shape = shape_of("cognition/model")
    assert shape.basis is Basis.derived
    model = AutoModelForMaskedLM.from_pretrained(__import__("cognition").__path__[0] + "/model")
    assert shape.parameters == pytest.approx(model.num_parameters(), rel=0.02)
    small = shape_of(str(tiny_model("modernbert")))
    assert small.gated
    assert small.layers == 2


def test_arithmetic_is_what_torch_counts() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        attn_implementation="eager",
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        BertForMaskedLM(config)(torch.zeros(2, 32, dtype=torch.int64))
    from neural_sparse.planning.shapes import ModelShape

    shape = ModelShape("bert", 3, 64, 256, 100)
    assert counter.get_total_flops() == 64 * (shape.body_flops(32) + shape.head_flops)


def test_published_sizes_are_those_their_cards_state() -> None:
    stated = {
        "Alibaba-NLP/gte-large-en-v1.5": 434e6,
        "google-bert/bert-base-uncased": 110e6,
        "BAAI/bge-base-en-v1.5": 109e6,
        "opensearch-project/opensearch-neural-sparse-encoding-multilingual-v1": 168e6,
        "cross-encoder/ms-marco-MiniLM-L-12-v2": 33e6,
    }
    for name, parameters in stated.items():
        assert PUBLISHED[name.lower()].parameters == pytest.approx(parameters, rel=0.03)


def test_the_batch_on_a_device_is_the_encoders() -> None:
    from neural_sparse.model.encoding import TOKENS_PER_BATCH

    assert TOKENS_PER_BATCH == {"cuda": TOKEN_BUDGET, "cpu": TOKEN_BUDGET_CPU}


# Estimates.


@pytest.mark.parametrize("hardware", sorted(KNOWN))
def test_more_documents_never_take_less(hardware: str) -> None:
    machine = hardware_of(hardware)
    before = None
    for documents in (1e3, 1e5, 1e6, 8.84e6, 1e9):
        now = planned(documents, hardware)
        for one in now:
            assert one.seconds > 0, one.stage
            assert all(part >= 0 for part in one.parts.values())
            assert one.memory > 0
            assert one.disk > 0
            assert one.basis is Basis.assumed
        for earlier, later in zip(before or now, now, strict=True):
            assert later.seconds >= earlier.seconds
            assert later.memory >= earlier.memory
            assert later.disk >= earlier.disk
            assert later.price(machine) >= earlier.price(machine)
        before = now


def test_what_runs_on_all_devices_gets_faster_and_what_one_process_does_does_not() -> None:
    one = {estimate.stage: estimate for estimate in planned(8.84e6, "h100x8")}
    many = {estimate.stage: estimate for estimate in planned(8.84e6, "cluster32")}
    assert many["teach"].parts["arithmetic"] == pytest.approx(one["teach"].parts["arithmetic"] / 32)
    assert many["idf"].parts["counting"] == pytest.approx(one["idf"].parts["counting"] / 32)
    assert many["index"].seconds == one["index"].seconds
    # 40 queries x 8 documents are 320 pieces for 256 devices; gradients have to be exchanged.
    assert many["train"].parts["exchanging gradients"] > one["train"].parts["exchanging gradients"]


def test_devices_without_a_document_of_the_batch_do_not_help() -> None:
    recipe = replace(RECIPE, batch_size=2, num_hard_negatives=1)
    busy, idle = replace(KNOWN["h100x8"], devices=4), KNOWN["h100x8"]
    times = [planned(1e6, machine, recipe)[3].parts["arithmetic"] for machine in (busy, idle)]
    assert times[0] == pytest.approx(times[1])


def test_recipes_decide() -> None:
    def stage(number: int, **changes: Any) -> Any:
        return planned(1e6, "h100x8", replace(RECIPE, **changes))[number]

    assert stage(3, gradient_checkpointing=True).seconds > stage(3).seconds
    assert stage(3, gradient_checkpointing=True).device_memory < stage(3).device_memory
    assert stage(3, cache_tokens=512).device_memory < stage(3).device_memory
    assert stage(3, vocabulary_sample=3000).seconds < stage(3).seconds
    assert stage(3, vocabulary_sample=3000).device_memory < stage(3).device_memory
    assert stage(3, vocabulary_sample=10**6).seconds == stage(3).seconds
    assert stage(3, num_steps=100).seconds == pytest.approx(stage(3, num_steps=50).seconds * 2)
    assert stage(2, teachers=TEACHERS[:1]).seconds < stage(2).seconds
    assert stage(1, num_hard_negatives=0, teachers=TEACHERS[:2]).seconds == 0


def test_a_guess_shows_in_what_rests_on_it() -> None:
    """The cores' speed is a guess unless they were timed; then the guesses that are left show where they are used."""
    work = workload_of(RECIPE, 1e6)
    known = {
        field.name: measured(1.0, "for the test")
        for field in fields(work)
        if isinstance(getattr(work, field.name), Figure)
    }
    work = replace(work, **known)
    timed = {
        field.name: measured(1.0, "for the test")
        for field in fields(DEFAULT)
        if isinstance(getattr(DEFAULT, field.name), Figure)
    }
    recipe = replace(RECIPE, init="cognition/model", teachers=(), ranking={"info_nce": 1.0})

    def bases(**changes: Any) -> dict[str, Basis]:
        rates = replace(DEFAULT, **{**timed, "of_this_machine": True, **changes})
        return {one.stage: one.basis for one in plan(recipe, work, Hardware("this", cores=2), rates)}

    assert set(bases().values()) == {Basis.derived}
    assert set(bases(of_this_machine=False).values()) == {Basis.assumed}
    guess = assumed(1.0, "a guess")
    assert {stage for stage, basis in bases(hashing=guess).items() if basis is Basis.assumed} == {
        "idf",
        "encode",
    }


def test_where_cores_compute_the_model_is_in_main_memory() -> None:
    cores = planned(1e5, Hardware("this", cores=2))
    for teach, encode in [(cores[2], cores[4])]:
        assert teach.memory > 4 * shape_of(TEACHERS[0].name or "").parameters
        assert encode.memory > 4 * shape_of(RECIPE.init).parameters
        assert teach.device_memory == encode.device_memory == 0


@pytest.mark.parametrize("recipe", sorted(file.stem for file in RECIPES.glob("*.yaml")))
def test_every_shipped_recipe_can_be_planned(recipe: str) -> None:
    settings = read_recipe(recipe, ["init=distilbert/distilbert-base-uncased", "train=nowhere.jsonl"])
    assert all(one.seconds >= 0 for one in planned(1e6, "gb10", settings))


def test_what_does_not_fit_is_said() -> None:
    machine = hardware_of("gb10")
    found = limits(planned(1e9, machine), machine)
    assert any(line.startswith("mine does not fit: memory") for line in found)
    assert any(line.startswith("the stages together do not fit: disk") for line in found)
    small = limits(planned(1e5, machine), machine)
    assert len(small) == 1
    assert "takes longest" in small[0]


def test_data_that_are_here_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [{"query": f"sort {n}", "pos": f"return the list {n}", "negs": ["a", "b"]} for n in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    recipe = replace(RECIPE, init="cognition/model", train=(str(file),))
    work = workload_of(recipe)
    assert (work.documents.value, work.queries.value, work.negatives.value) == (22, 20, 2)
    assert work.documents.basis is Basis.measured
    assert not work.mined
    file.write_text(
        "\n".join(json.dumps(row | {"negs": row["negs"][: 2 * (n < 5)]}) for n, row in enumerate(rows))
    )
    some = workload_of(recipe)
    assert some.mined == 0.75
    assert some.negatives.value == (5 * 2 + 15 * recipe.negatives_pool) / 20
    assert work.query_tokens.value == 2  # a word and a number, no special tokens
    larger = workload_of(recipe, documents=1e6)
    assert (larger.documents.value, larger.document_tokens) == (1e6, work.document_tokens)


def test_queries_are_no_more_than_documents_unless_given() -> None:
    assert workload_of(RECIPE, 1e5).queries.value == 1e5
    assert workload_of(RECIPE, 1e9).of(1e6).queries.value == workload_of(RECIPE, 1e6).queries.value == 502_939
    assert workload_of(RECIPE, 1e5, queries=3e5).queries.value == 3e5


# Refusals, and the command.


def test_unknown_hardware_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="unknown hardware 'h200'; choose from gb10, h100x8, cluster32, this"
    ):
        hardware_of("h200")
    file = tmp_path / "mine.yaml"
    file.write_text("cores: 64\ndevices: 2\ntflops: 400\nprice_per_hours: 3")
    with pytest.raises(InputError, match="unknown key 'price_per_hours'; did you mean 'price_per_hour'"):
        hardware_of(str(file))
    file.write_text("cores: many")
    with pytest.raises(InputError, match="cores must be int, not 'many'"):
        hardware_of(str(file))
    file.write_text("devices: 2")
    with pytest.raises(InputError, match="devices need tflops"):
        hardware_of(str(file))
    file.write_text("cores: 64\ndevices: 2\ntflops: 400\nprice_per_hour: 3")
    found = hardware_of(str(file))
    assert (found.name, found.cores, found.all_devices, found.price_per_hour) == ("mine", 64, 2, 3)


def test_an_unknown_model_names_the_known() -> None:
    with pytest.raises(
        InputError, match=r"'nobody/nothing' is not known \(not on.*download it.*bert-base-uncased"
    ):
        shape_of("nobody/nothing")
    with pytest.raises(
        InputError, match=r"first/run/model' is not known \(no such folder yet\).*start of the first"
    ):
        shape_of("first/run/model")  # of a stage that has not been trained


def test_no_data_and_no_number() -> None:
    with pytest.raises(InputError, match="say how many --documents"):
        workload_of(RECIPE)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(
        app, ["plan", "finetune", "init=distilbert/distilbert-base-uncased", *arguments]
    )


def test_the_command_shows_every_stage_and_what_it_rests_on() -> None:
    done = run("--documents", "8.84e6", "--hardware", "h100x8", "--price", "12")
    assert done.exit_code == 0, done.output
    for word in (
        "idf",
        "mine",
        "teach",
        "train",
        "encode",
        "index",
        "takes longest",
        "data sheet",
        "assumed",
    ):
        assert word in done.output
    for figure in ("12 USD/h", "core speed", "200 GB/s"):
        assert figure in done.output


def test_the_command_compares() -> None:
    sizes_, machines = ("1e5", "1e9"), ("gb10", "cluster32")
    given = [word for value in sizes_ for word in ("--documents", value)]
    given += [word for value in machines for word in ("--hardware", value)]
    done = run(*given, "--markdown")
    assert done.exit_code == 0, done.output
    rows = [line for line in done.output.splitlines() if line.startswith("| 1")]
    assert len(rows) == 4
    assert {row.split(" | ")[1] for row in rows} == set(machines)
    assert isinstance(run("--documents", "0").exception, InputError)


@pytest.mark.parametrize(
    ("seconds", "said"), [(3, "3 s"), (600, "10 min"), (9000, "2.5 h"), (1e6, "12 days"), (1e9, "32 years")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
    assert size(1536e9) == "1.5 TB"


def test_price() -> None:
    machine = replace(KNOWN["cluster32"], price_per_hour=2.0)
    planner = Planner(RECIPE, workload_of(RECIPE, 1e6), machine, DEFAULT)
    one = planner.teaching()
    assert one.price(machine) == pytest.approx(one.seconds / 3600 * 64)
