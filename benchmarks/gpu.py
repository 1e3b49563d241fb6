"""Everything that a GPU has to say, in one command of at most eight minutes, without downloads.

    python benchmarks/gpu.py --output gpu.json       # the GPU tables of docs/performance.md
    python benchmarks/gpu.py --only kernels tiles    # some of them
    python benchmarks/gpu.py --tiny                  # seconds; without a GPU under Triton's interpreter

Models have random weights (the 4.4M one is real where it is installed), texts log-normal lengths from a seed. Each
section has a share of the time, what it leaves goes to those after it; what is left out for time is listed. What runs
out of memory says OOM, and the rest goes on.

kernels     values, winners and gradients of the Triton kernels against the torch operations
tiles       forward pass of 440 texts with other tiles and orders than those chosen
head        projection and pooling against full logits and sentence-transformers' SpladePooling
step        a training step against sentence-transformers doing the same work, time and memory
encode      texts to vectors against sentence-transformers
waiting     share of real training that waits for its next batch (at most: the device may be busy meanwhile), and
            how often a step waits for the device
auto_batch  the batch that is found, and how near it comes to the memory
compiled    torch.compile of the transformer over batches of random lengths, and how often it compiles anew
"""

import argparse
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

MINUTES = 8.0
MARGIN = 15  # seconds for what cannot be interrupted, such as a compiler at work
BEGAN = time.monotonic()
Figures = dict[str, Any]


class TimeUp(BaseException):  # not an Exception: no library's handler may take it
    """A section has had its share."""


@dataclass(frozen=True)
class Section:
    """One table.

    Attributes:
        share: of the whole time.
        cases: what is measured, most telling first.
        measure: a case to its figures.
        row: case and figures to the cells of a row.
    """

    name: str
    share: float
    columns: str
    cases: list[Figures]
    measure: Callable[[Figures], Figures]
    row: Callable[[Figures], list[str]]


# --- measuring -------------------------------------------------------------------------------------


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def timed(step: Callable[[], Any], repeats: int) -> Figures:
    """Median seconds of a step after an untimed one, and MiB at its peak, in all and above what lay there before."""
    import torch

    cuda = device() == "cuda"
    result = step()
    held = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats):
        result = None
        start = time.perf_counter()
        result = step()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    figures: Figures = {"seconds": statistics.median(seconds)}
    if cuda:
        peak = torch.cuda.max_memory_allocated()
        figures |= {"peak_mib": peak / 2**20, "above_mib": (peak - held) / 2**20}
    return figures | (result() if callable(result) else {})


def attempt(work: Callable[[], Figures]) -> Figures:
    """The figures of `work`, or that it ran out of memory; what it held is released."""
    import torch
    from triton.runtime.errors import OutOfResources

    try:
        figures = work()
    except torch.OutOfMemoryError:
        figures = {"failed": "OOM"}
    except OutOfResources:
        figures = {"failed": "does not fit"}
    except Exception:
        # A fault: the others are still worth their time, and the command ends with 1.
        traceback.print_exc()
        figures = {"failed": "error"}
    release()  # outside the handler, for the exception holds the frames that hold the tensors
    return figures


def release() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def show(figures: Figures, key: str, form: str, factor: float = 1.0) -> str:
    if "failed" in figures:
        return str(figures["failed"])
    return "-" if figures.get(key) is None else form.format(figures[key] * factor)


def times(slow: Figures, fast: Figures) -> str:
    return f"{slow['seconds'] / fast['seconds']:.1f}x" if "seconds" in slow and "seconds" in fast else "-"


# --- sections --------------------------------------------------------------------------------------


def kernels(tiny: bool) -> Section:
    def measure(case: Figures) -> Figures:
        import torch

        from neural_sparse.model import head_torch, head_triton

        inputs = packed(case)
        pooled, winners = head_triton.forward(*inputs, True)
        hidden, offsets, weight, bias = inputs
        # Products of half precision are exact in float32.
        expected, expected_winners = head_torch.forward(hidden.float(), offsets, weight.float(), bias, True)
        generator = torch.Generator(device()).manual_seed(1)
        gradient = torch.randn(pooled.shape, device=pooled.device, generator=generator) * (pooled > 0)
        slow = head_torch.backward(gradient, winners, hidden, offsets, weight)
        fast = head_triton.backward(gradient, winners, hidden, offsets, weight)
        repeats = 1 if tiny else 5
        return {
            "value": float((pooled - expected).abs().max() / expected.abs().max()),
            # Where tokens score alike but for rounding, either may win.
            "winners": float((winners == expected_winners).float().mean()),
            "gradient": max(float((a - b).norm() / b.norm()) for a, b in zip(fast, slow, strict=True)),
            "active": float((pooled > 0).float().mean()),
            "forward": timed(lambda: head_triton.forward(*inputs, True)[0].sum().tolist(), repeats)[
                "seconds"
            ],
            "backward": timed(
                lambda: head_triton.backward(gradient, winners, hidden, offsets, weight)[0].sum().tolist(),
                repeats,
            )["seconds"],
            "torch forward": timed(lambda: head_torch.forward(*inputs, True)[0].sum().tolist(), 1)["seconds"],
            "torch backward": timed(
                lambda: head_torch.backward(gradient, winners, hidden, offsets, weight)[0].sum().tolist(), 1
            )["seconds"],
        }

    def row(case: Figures) -> list[str]:
        ms = [
            show(case, key, "{:,.2f}", 1e3)
            for key in ("forward", "torch forward", "backward", "torch backward")
        ]
        differences = [show(case, key, form) for key, form in DIFFERENCES.items()]
        return [*shape(case), case["dtype"], *differences, *ms]

    dtypes = ("float32", "float16") if device() == "cpu" else ("bfloat16", "float32", "float16")
    sizes = [(16, 300)] if tiny else [(768, 105879), (384, 30522), (128, 30522), (384, 105879), (768, 30522)]
    cases = [
        {
            "width": width,
            "vocabulary": vocabulary,
            "lengths": kind,
            "texts": 3 if tiny else 64,
            "dtype": dtype,
        }
        for width, vocabulary in sizes
        for kind in (("realistic",) if tiny else ("realistic", "full"))
        for dtype in dtypes
    ]
    columns = "width | vocabulary | texts | dtype | value | same winner | gradient | active"
    columns += " | forward ms | torch | backward ms | torch"
    return Section("kernels", 0.12, columns, cases, measure, row)


DIFFERENCES = {"value": "{:.1e}", "winners": "{:.3%}", "gradient": "{:.1e}", "active": "{:.1%}"}


def tiles(tiny: bool) -> Section:
    def measure(case: Figures) -> Figures:
        from neural_sparse.model import head_triton

        inputs = packed(case)
        chosen = head_triton.Tiles(*case["tile"]) if case["tile"] else None
        share, head_triton.CACHE_SHARE = (
            head_triton.CACHE_SHARE,
            case["cache_share"] or head_triton.CACHE_SHARE,
        )
        try:
            run = timed(lambda: head_triton.forward(*inputs, True, chosen)[0], 1 if tiny else 7)
        finally:
            head_triton.CACHE_SHARE = share
        products = len(inputs[0]) * case["width"] * case["vocabulary"]
        return {**run, "tflops": 2 * products / run["seconds"] / 1e12}

    def row(case: Figures) -> list[str]:
        *sides, warps, stages = case["tile"] or (0, 0)
        tile = f"{' x '.join(map(str, sides))}, {warps} warps, {stages} stages"
        share = case["cache_share"]
        return [
            *shape(case),
            tile if case["tile"] else "chosen",
            "one group" if share == ONE_GROUP else f"{share:.0%}" if share else "chosen",
            show(case, "seconds", "{:,.2f}", 1e3),
            show(case, "tflops", "{:,.0f}"),
        ]

    small = {"width": 16, "vocabulary": 300, "lengths": "realistic", "texts": 3, "dtype": "float16"}
    sizes = [(768, 105879), (384, 30522)]
    bases = (
        [small]
        if tiny
        else [
            small | {"width": width, "vocabulary": vocabulary, "texts": 440, "dtype": "bfloat16"}
            for width, vocabulary in sizes
        ]
    )
    default: tuple[int, ...] = ()
    variants = [(default, None), (default, ONE_GROUP), (default, 0.5)]
    if not tiny:
        variants += [(tile, None) for tile in OTHER_TILES]
    cases = [base | {"tile": tile, "cache_share": share} for base in bases for tile, share in variants]
    columns = "width | vocabulary | texts | tiles | of the cache | forward ms | TFLOP/s"
    return Section("tiles", 0.12, columns, cases, measure, row)


ONE_GROUP = 1e6  # share of the cache so large that all texts are one group
OTHER_TILES = [
    (64, 128, 64, 4, 3),
    (64, 128, 64, 8, 3),
    (64, 128, 64, 4, 4),
    (64, 256, 64, 4, 3),
    (64, 256, 64, 8, 4),
    (64, 256, 32, 8, 4),
    (128, 128, 64, 4, 3),
    (128, 128, 64, 8, 3),
    (128, 128, 64, 8, 4),
    (128, 256, 64, 8, 3),
    (32, 256, 64, 4, 3),
]


def head(tiny: bool) -> Section:
    def measure(case: Figures) -> Figures:
        from head import ARMS, prepare

        arms = {
            name: attempt(lambda name=name: timed(prepare(case | {"arm": name}), 1 if tiny else 5))
            for name in ARMS
        }
        return {"arms": arms}

    def row(case: Figures) -> list[str]:
        naive, fused = case["arms"]["naive"], case["arms"]["fused"]
        return [
            *shape(case),
            case["dtype"],
            show(fused, "active", "{:.1%}"),
            *(show(arm, "seconds", "{:,.1f}", 1e3) for arm in (naive, fused)),
            times(naive, fused),
            *(show(arm, "above_mib", "{:,.0f}") for arm in (naive, fused)),
        ]

    sizes = [(16, 300)] if tiny else [(768, 105879), (384, 30522), (384, 105879), (768, 30522), (128, 30522)]
    cases = [
        {
            "width": width,
            "vocabulary": vocabulary,
            "lengths": "realistic",
            "texts": texts,
            "dtype": dtype,
            "active": 0.01,
            "device": device(),
        }
        for dtype in ("bfloat16", "float32")
        for width, vocabulary in sizes
        for texts in ([4] if tiny else [64, 440])
    ]
    columns = "width | vocabulary | texts | dtype | active | full logits ms | fused ms | ratio"
    columns += " | full logits MiB | fused MiB"
    return Section("head", 0.12, columns, cases, measure, row)


def step(tiny: bool) -> Section:
    names = ("sentence-transformers", "neural-sparse")

    def measure(case: Figures) -> Figures:
        from models import folder_of
        from train_step import prepare

        case = case | {"folder": folder_of(case["shape"], case["vocabulary"]), "cache_tokens": None}
        case["device"] = device()
        arms = {
            name: attempt(lambda name=name: timed(prepare(case | {"arm": name}), 1 if tiny else 5))
            for name in names
        }
        return {"arms": arms}

    def row(case: Figures) -> list[str]:
        plain, ours = (case["arms"][name] for name in names)
        return [
            case["shape"],
            *shape(case),
            case["dtype"],
            *(show(arm, "seconds", "{:,.1f}", 1e3) for arm in (plain, ours)),
            times(plain, ours),
            *(show(arm, "peak_mib", "{:,.0f}") for arm in (plain, ours)),
        ]

    if tiny:
        chosen = [("tiny", 300, 8, "float32")]
    else:
        chosen = [
            (shape, vocabulary, texts, "bfloat16")
            for texts in (64, 440)
            for shape in ("minilm", "base", "4.4M")
            for vocabulary in (30522, 105879)
        ]
        chosen += [("minilm", vocabulary, 64, "float32") for vocabulary in (30522, 105879)]
    cases = [
        {"shape": shape, "vocabulary": vocabulary, "texts": texts, "dtype": dtype, "lengths": "realistic"}
        for shape, vocabulary, texts, dtype in chosen
    ]
    columns = "model | vocabulary | texts | dtype | sentence-transformers ms | neural-sparse ms | ratio"
    return Section("step", 0.24, columns + " | ST peak MiB | our peak MiB", cases, measure, row)


def encode(tiny: bool) -> Section:
    def measure(case: Figures) -> Figures:
        from arms import lengths
        from encode import ARMS, prepare
        from models import folder_of, random_texts
        from transformers import AutoTokenizer

        folder = folder_of(case["shape"], case["vocabulary"])
        texts = random_texts(AutoTokenizer.from_pretrained(folder), lengths(case["lengths"], case["texts"]))
        case = case | {"folder": folder, "device": device()}
        return {
            "arms": {
                name: attempt(lambda name=name: timed(prepare(case | {"arm": name}, texts), 1 if tiny else 2))
                for name in ARMS
            }
        }

    def row(case: Figures) -> list[str]:
        arms = list(case["arms"].values())
        rates = [{**arm, "rate": case["texts"] / arm["seconds"]} if "seconds" in arm else arm for arm in arms]
        return [
            case["shape"],
            *shape(case),
            *(show(arm, "rate", "{:,.0f}/s") for arm in rates),
            *(times(arms[0], arm) for arm in arms[1:]),
            *(show(arm, "peak_mib", "{:,.0f}") for arm in arms),
        ]

    sizes = [("minilm", 30522), ("base", 105879), ("4.4M", 30522), ("base", 30522), ("minilm", 105879)]
    cases = [
        {"shape": shape, "vocabulary": vocabulary, "texts": 8 if tiny else 4096, "lengths": "realistic"}
        for shape, vocabulary in ([("tiny", 300)] if tiny else sizes)
    ]
    columns = "model | vocabulary | texts | sentence-transformers | neural-sparse | bf16 | ratio | ratio bf16"
    return Section("encode", 0.12, columns + " | ST MiB | our MiB | bf16 MiB", cases, measure, row)


def waiting(tiny: bool) -> Section:
    def measure(case: Figures) -> Figures:
        from synchronisations import Synchronisations
        from transformers import TrainerCallback

        from neural_sparse.training.setup import build_trainer

        class Watch(TrainerCallback):
            """Seconds of the steps after the first two, those that went by in waiting for a batch, or what waited for
            the device instead."""

            def __init__(self, counting: bool) -> None:
                self.waits = Synchronisations(device()) if counting else None

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == 2:
                    self.start, self.waited = time.perf_counter(), trainer.batches.waited
                    if self.waits:
                        self.waits.__enter__()
                elif state.global_step == state.max_steps:
                    if self.waits:
                        self.waits.__exit__(None, None, None)
                    trainer.look()  # a value is read: all that was given to the device is done
                    self.seconds = time.perf_counter() - self.start
                    self.waited = trainer.batches.waited - self.waited

        watches = []
        for steps, counting in ((case["steps"], False), (4, True)):
            with training(case | {"steps": steps}) as (recipe, model, idf, data):
                trainer = build_trainer(recipe, model, idf, data, Scores(), None)  # type: ignore[arg-type]
                watches.append(Watch(counting))
                trainer.add_callback(watches[-1])
                trainer.args.save_strategy = "no"  # type: ignore[assignment]
                trainer.train()
        timed, counted = watches
        return {
            "seconds": timed.seconds / (case["steps"] - 2),
            "waiting": timed.waited / timed.seconds,
            "device waits": counted.waits.count / 2,
            "places": counted.waits.places,
        }

    def row(case: Figures) -> list[str]:
        figures = [
            show(case, "seconds", "{:,.1f}", 1e3),
            show(case, "waiting", "{:.1%}"),
            show(case, "device waits", "{:g}"),
        ]
        return [case["shape"], f"{case['vocabulary']:,}", f"{case['batch']} x 8", case["bf16"], *figures]

    sizes = [("minilm", 30522), ("base", 105879), ("4.4M", 30522)]
    cases = [
        {"shape": shape, "vocabulary": vocabulary, "batch": 2 if tiny else 48, "steps": 4 if tiny else 30}
        | {"bf16": bf16}
        for shape, vocabulary in ([("tiny", 300)] if tiny else sizes)
        for bf16 in (("off",) if device() == "cpu" else ("on", "off"))
    ]
    columns = "model | vocabulary | queries x documents | bf16 | step ms | waits for input"
    return Section("waiting", 0.08, columns + " | for the device, times a step", cases, measure, row)


def auto_batch(tiny: bool) -> Section:
    def measure(case: Figures) -> Figures:
        from neural_sparse.io.resources import available_memory, resident_memory
        from neural_sparse.training import auto_batch as tried

        with training(case) as (recipe, model, idf, data):
            budget = None
            if device() == "cpu":
                budget = int(min(resident_memory() + (64 << 20), available_memory()))
            start = time.perf_counter()
            found = tried.largest_batch(recipe, model, idf, data, budget)
            seconds = time.perf_counter() - start
            peak = attempt(lambda: timed(lambda: tried.TrialSteps(recipe, model, idf, data).run(found), 1))
        return {"found": found, "tried for": seconds, "peak_mib": peak.get("peak_mib")}

    def row(case: Figures) -> list[str]:
        return [
            case["shape"],
            f"{case['vocabulary']:,}",
            show(case, "found", "{:.0f}"),
            show(case, "tried for", "{:.1f}"),
            show(case, "peak_mib", "{:,.0f}"),
        ]

    sizes = [("base", 105879), ("minilm", 30522)]
    cases = [
        {"shape": shape, "vocabulary": vocabulary, "batch": 1, "steps": 2, "bf16": "on"}
        for shape, vocabulary in ([("tiny", 300)] if tiny else sizes)
    ]
    columns = "model | vocabulary | queries found, of 8 documents | tried for s | peak MiB"
    return Section("auto_batch", 0.1, columns, cases, measure, row)


def compiled(tiny: bool) -> Section:
    def measure(case: Figures) -> Figures:
        import torch
        from models import folder_of, word_ids

        from neural_sparse.model.encoder import NeuralSparseEncoder

        model = NeuralSparseEncoder(folder_of(case["shape"], case["vocabulary"]), 256, device=device())
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        if case["compile"] != "off":
            model.mlm.compile(dynamic=True, backend=case["compile"])
        generator = torch.Generator().manual_seed(0)
        seconds = []
        for number in range(case["steps"]):
            texts = (
                1 if number % 4 == 3 else case["texts"]
            )  # a group of one is a shape of its own to the compiler
            counts = (torch.randn(texts, generator=generator) * 0.6 + 4.1).exp().long().clamp(5, 256)
            ids = torch.randint(*word_ids(case["vocabulary"]), (int(counts.sum()),), generator=generator)
            offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            start = time.perf_counter()
            with torch.autocast(device(), torch.bfloat16, enabled=device() == "cuda"):
                out = model({"input_ids": ids.to(device()), "offsets": offsets})["sentence_embedding"]
            out.sum().backward()
            sum(parameter.grad.sum() for parameter in parameters if parameter.grad is not None).item()
            seconds.append(time.perf_counter() - start)
            for parameter in parameters:
                parameter.grad = None
        later = seconds[len(seconds) // 2 :]
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        return {
            "seconds": statistics.median(later),
            "first": seconds[0],
            "total": sum(seconds),
            "graphs": graphs,
        }

    def row(case: Figures) -> list[str]:
        return [
            case["shape"],
            f"{case['vocabulary']:,}",
            str(case["texts"]),
            case["compile"],
            show(case, "seconds", "{:,.1f}", 1e3),
            show(case, "first", "{:.1f}"),
            show(case, "graphs", "{:.0f}"),
        ]

    backend = "eager" if tiny else "inductor"
    cases = [
        {"shape": shape, "vocabulary": vocabulary, "texts": texts, "steps": 6 if tiny else 12, "compile": how}
        for shape, vocabulary, texts in (
            [("tiny", 300, 6)] if tiny else [("minilm", 30522, 64), ("base", 30522, 64)]
        )
        for how in ("off", backend)
    ]
    columns = "model | vocabulary | texts | compiled | step ms (later half) | first step s | graphs"
    return Section("compiled", 0.1, columns, cases, measure, row)


SECTIONS = (kernels, tiles, head, step, encode, waiting, auto_batch, compiled)


# --- what they work on -----------------------------------------------------------------------------


def shape(case: Figures) -> list[str]:
    width = [str(case["width"])] if "width" in case else []
    return [*width, f"{case['vocabulary']:,}", f"{case['texts']} {case['lengths']}"]


def packed(case: Figures) -> tuple[Any, Any, Any, Any]:
    """hidden, offsets, weight and bias, about 1% of whose pooled values are positive."""
    import torch
    from arms import lengths

    counts = torch.tensor(sorted(lengths(case["lengths"], case["texts"]), reverse=True))
    generator = torch.Generator(device()).manual_seed(0)
    dtype = getattr(torch, case["dtype"])

    def normal(*sizes: int) -> Any:
        return torch.randn(*sizes, generator=generator, device=device())

    hidden = normal(int(counts.sum()), case["width"]).to(dtype)
    weight = (normal(case["vocabulary"], case["width"]) * case["width"] ** -0.5).to(dtype)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(device())
    middle = offsets[len(counts) // 2 :][:2].tolist()
    sample = hidden[slice(*middle)].float() @ weight[:2000].float().T
    bias = -sample.amax(0).quantile(0.99)
    return hidden, offsets, weight, bias.expand(case["vocabulary"]).to(dtype).contiguous()


class Scores:
    """A teacher whose scores mean nothing: what is asked for is time, not learning."""

    def scores(self, query_rows: Any, doc_rows: Any, own: Any) -> tuple[Any, Any]:
        import numpy as np
        import torch

        size = np.asarray(own).shape
        return torch.rand(size), torch.ones(size, dtype=torch.bool)


@contextmanager
def training(case: Figures) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Recipe, model, query weights and data of a training run on random texts: 7 hard negatives."""
    import numpy as np
    from arms import lengths
    from models import folder_of, random_texts

    from neural_sparse.config import Recipe, TeacherConfig
    from neural_sparse.data.training_set import TrainingSet
    from neural_sparse.model.encoder import NeuralSparseEncoder

    folder = folder_of(case["shape"], case["vocabulary"])
    model = NeuralSparseEncoder(folder, 256, device=device())
    examples = case["batch"] * 2
    texts = random_texts(model.tokenizer, lengths("realistic", 8 * examples))
    queries = random_texts(model.tokenizer, [10] * examples, seed=1)
    rows = np.arange(8 * examples, dtype=np.int64).reshape(examples, 8)
    known = [frozenset([int(row)]) for row in rows[:, 0]]
    data = TrainingSet(queries, texts, rows[:, 0], list(rows[:, 1:]), known)
    with tempfile.TemporaryDirectory() as output:
        recipe = Recipe(
            folder,
            ("none",),
            output=output,
            teachers=(TeacherConfig("bm25"),),
            batch_size=case["batch"],
            num_steps=case["steps"],
            num_hard_negatives=7,
            max_length=256,
            warmup_steps=0,
            logging_steps=1000,
            report_to=(),
            bf16=case["bf16"] == "on",
        )
        yield recipe, model, model.idf_table(), data


# --- running ---------------------------------------------------------------------------------------


def machine() -> Figures:
    """Device, driver and versions."""
    import torch
    import triton
    from arms import machine as described

    about: Figures = {"machine": described(torch.get_num_threads()), "triton": triton.__version__}
    if device() == "cuda":
        properties = torch.cuda.get_device_properties(0)
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError):
            driver = "unknown"
        about |= {
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "l2_mib": properties.L2_cache_size / 2**20,
            "driver": driver,
            "cuda": torch.version.cuda,
        }
    return about


def run(section: Section, until: float) -> Figures:
    """Print the section's table; a case that `until` (seconds since the start) does not leave time for is listed."""

    def ring(*_: Any) -> None:
        raise TimeUp

    print(f"\n<!-- gpu-{section.name} -->")
    print(f"| {section.columns} |")
    print("|---" * (section.columns.count("|") + 1) + "|", flush=True)
    rows: list[Figures] = []
    left = list(section.cases)
    began = elapsed()
    signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(0.001, until - elapsed()))
        while left:
            case = left[0]
            figures = case | attempt(partial(section.measure, case))
            rows.append(figures)
            del left[0]
            print("| " + " | ".join(cells(section, figures)) + " |", flush=True)
    except TimeUp:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    release()
    print(f"<!-- /gpu-{section.name} -->")
    if left:
        print(f"{section.name}: left out for time, {len(left)} of {len(section.cases)}: {left}")
    return {"seconds": elapsed() - began, "rows": rows, "left_out": left}


def cells(section: Section, figures: Figures) -> list[str]:
    if "failed" not in figures:
        return section.row(figures)
    case = ", ".join(f"{name} {figures[name]}" for name in section.cases[0])
    return [case, figures["failed"], *["-"] * (section.columns.count("|") - 1)]


def elapsed() -> float:
    return time.monotonic() - BEGAN


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [section.__name__ for section in SECTIONS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--tiny", action="store_true", help="smallest sizes: that every section works")
    parser.add_argument("--output", type=Path, help="write all figures as JSON")
    chosen = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import torch

    if not torch.cuda.is_available():
        if not chosen.tiny:
            parser.error("there is no GPU here; --tiny shows that every section works")
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

    from neural_sparse.io.files import write_json

    report: Figures = {**machine(), "sections": {}}
    print(", ".join(f"{name} {value}" for name, value in report.items() if name != "sections"), flush=True)
    sections = [section(chosen.tiny) for section in SECTIONS if section.__name__ in chosen.only]
    end, began, done = 60 * chosen.minutes - MARGIN, elapsed(), 0.0
    for section in sections:
        done += section.share
        until = began + (end - began) * done / sum(each.share for each in sections)
        report["sections"][section.name] = run(section, until)
        report["seconds"] = elapsed()
        if chosen.output:
            write_json(chosen.output, report)
    print(f"\n{elapsed():.0f} s")
    if '"error"' in json.dumps(report):
        sys.exit("errors: see above")


if __name__ == "__main__":
    main()
