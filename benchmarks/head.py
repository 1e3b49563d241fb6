"""The fused head against full logits and sentence-transformers' SpladePooling, forward and backward.

    python benchmarks/head.py                        # the table in docs/performance.md
    python benchmarks/head.py --widths 384 --vocabularies 30522 --lengths full --repeats 3

Each arm is a process of its own, so that its peak memory is its own; the two take turns, one repeat each,
on the same tensors. Both have an allocator that keeps freed memory, else mapping and clearing pages would
dominate the arm that needs most. The head's bias is set so that `--active` of the pooled values are positive.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from neural_sparse.files import write_json

ARMS = ("naive", "fused")
COLUMNS = ["width", "vocabulary", "texts", "dtype", "active", "naive", "fused", "ratio", "CPU time"]
COLUMNS += ["naive MiB", "fused MiB"]
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 36), "MALLOC_TRIM_THRESHOLD_": str(1 << 36)}


def lengths(kind: str, texts: int) -> list[int]:
    """Tokens per text: 128 each, or log-normal with median 60, between 5 and 256."""
    import numpy as np

    if kind == "full":
        return [128] * texts
    drawn = np.random.default_rng(0).lognormal(np.log(60), 0.6, texts)
    return [int(n) for n in drawn.clip(5, 256)]


def arm(settings: dict[str, Any]) -> None:
    """One arm: builds its tensors, then answers each line on stdin with one timed step."""
    import torch
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    from neural_sparse.model.head import pack, pooled_logits

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    counts = torch.tensor(lengths(settings["lengths"], settings["texts"]))
    mask = (torch.arange(int(counts.max())) < counts[:, None]).long()
    hidden = torch.randn(*mask.shape, settings["width"], requires_grad=True)
    decoder = torch.nn.Linear(settings["width"], settings["vocabulary"])
    upstream = torch.randn(len(counts), settings["vocabulary"])
    pooling = SpladePooling("max").train()
    half = torch.autocast("cpu", torch.bfloat16, enabled=settings["dtype"] == "bfloat16")

    def head(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if settings["arm"] == "fused":
            return pooled_logits(*pack(hidden, mask), decoder.weight, decoder.bias).log1p()
        features = {"token_embeddings": decoder(hidden), "attention_mask": mask}
        return pooling(features)["sentence_embedding"].float()

    with torch.no_grad():
        torch.nn.init.normal_(decoder.weight, std=settings["width"] ** -0.5)
        decoder.bias.zero_()
        sample = torch.stack(
            [(h[:n] @ decoder.weight[:2000].T).amax(0) for h, n in zip(hidden[:16], counts, strict=False)]
        )
        decoder.bias.fill_(
            -float(
                sample.flatten().sort(descending=True).values[int(settings["active"] * (sample.numel() - 1))]
            )
        )
    with half:
        head(hidden[:1], mask[:1]).sum().backward()  # compiles the kernels
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        hidden.grad = decoder.weight.grad = decoder.bias.grad = None
        wall, cpu = time.perf_counter(), time.process_time()
        with half:
            out = head(hidden, mask)
        forward = time.perf_counter()
        (out * upstream).sum().backward()
        done = time.perf_counter()
        step = {
            "seconds": done - wall,
            "forward": forward - wall,
            "backward": done - forward,
            "cpu_seconds": time.process_time() - cpu,
            "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024,
            "active": (out > 0).float().mean().item(),
            "checks": [
                t.double().norm().item() for t in (out, hidden.grad, decoder.weight.grad, decoder.bias.grad)
            ],
        }
        print(json.dumps(step), flush=True)


def compare(settings: dict[str, Any], repeats: int, arms: tuple[str, ...]) -> dict[str, Any]:
    """Medians of both arms over alternating repeats, after one untimed step each."""
    running = {}
    for name in arms:
        command = [sys.executable, __file__, "--arm", json.dumps({**settings, "arm": name})]
        running[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **ALLOCATOR}
        )
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    for name in arms:
        running[name].stdout.readline()
    for repeat in range(repeats + 1):
        for name in arms:
            running[name].stdin.write("\n")
            running[name].stdin.flush()
            step = json.loads(running[name].stdout.readline())
            if repeat:
                steps[name].append(step)
    for process in running.values():
        process.stdin.close()
        process.wait()
    result: dict[str, Any] = dict(settings)
    for name, taken in steps.items():
        keys = ("seconds", "forward", "backward", "cpu_seconds", "peak_mib", "active")
        result[name] = {key: statistics.median(step[key] for step in taken) for key in keys}
    if len(arms) == 2:
        both = list(zip(steps["naive"], steps["fused"], strict=True))
        for key, name in (("seconds", "speedup"), ("cpu_seconds", "cpu_speedup")):
            result[name] = statistics.median(naive[key] / fused[key] for naive, fused in both)
        result["largest_relative_difference"] = max(
            abs(a - b) / max(abs(a), 1e-30)
            for a, b in zip(both[0][0]["checks"], both[0][1]["checks"], strict=True)
        )
    return result


def machine(threads: int) -> str:
    """Processor, threads and versions, as a report states them."""
    import torch

    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    name = names[0] if names else platform.machine()
    return f"{name}, {threads} of {os.cpu_count()} cores, no GPU, torch {torch.__version__}"


def row(result: dict[str, Any]) -> str:
    parts = [
        str(result["width"]),
        f"{result['vocabulary']:,}",
        f"{result['texts']} {result['lengths']}",
        result["dtype"],
    ]
    parts.append(f"{result['fused']['active']:.1%}")
    for name in ARMS:
        parts.append(f"{result[name]['seconds']:.2f} s" if name in result else "-")
    parts += [f"{result[key]:.1f}x" if key in result else "-" for key in ("speedup", "cpu_speedup")]
    for name in ARMS:
        parts.append(f"{result[name]['peak_mib']:,.0f}" if name in result else "-")
    return "| " + " | ".join(parts) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 384, 768])
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[30522, 105879])
    parser.add_argument("--lengths", nargs="+", choices=("full", "realistic"), default=["full", "realistic"])
    parser.add_argument(
        "--texts", type=int, help="texts in a batch (default 64, or 16 above 60,000 dimensions)"
    )
    parser.add_argument("--active", type=float, default=0.01, help="share of positive pooled values")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: autocast"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=ARMS, help="one arm alone, where the other does not fit")
    parser.add_argument("--output", type=Path, help="write all figures as JSON")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm:
        return arm(json.loads(arguments.arm))
    print(machine(arguments.threads))
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    results = []
    for vocabulary in arguments.vocabularies:
        texts = arguments.texts or (64 if vocabulary <= 60_000 else 16)
        for width in arguments.widths:
            for kind in arguments.lengths:
                settings = {
                    "width": width,
                    "vocabulary": vocabulary,
                    "lengths": kind,
                    "texts": texts,
                }
                settings |= {
                    "active": arguments.active,
                    "dtype": arguments.dtype,
                    "threads": arguments.threads,
                }
                arms = (arguments.only,) if arguments.only else ARMS
                results.append(compare(settings, arguments.repeats, arms))
                print(row(results[-1]), flush=True)
    if arguments.output:
        report = {"machine": machine(arguments.threads), "command": sys.argv[1:], "results": results}
        write_json(arguments.output, report)
    return None


if __name__ == "__main__":
    main()
