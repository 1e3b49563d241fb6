"""What the benchmarks share: two or more arms as processes of their own that take turns.

Each arm's peak memory is its own, and what slows the machine slows all arms alike. All have an allocator
that keeps freed memory, else mapping and clearing pages would dominate the arm that needs most.
"""

import argparse
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from neural_sparse.io.files import write_json

ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 36),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def lengths(kind: str, texts: int) -> list[int]:
    """Tokens per text: 128 each ("full"), or log-normal with median 60, between 5 and 256 ("realistic")."""
    import numpy as np

    if kind == "full":
        return [128] * texts
    drawn = np.random.default_rng(0).lognormal(np.log(60), 0.6, texts)
    return [int(n) for n in drawn.clip(5, 256)]


def take_turns(script: str, settings: dict[str, Any], arms: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """Run `script --arm {settings, arm}` for each arm: one untimed step each, then `repeats` in turn.

    Returns:
        For each arm the median of its figures, and under "steps" all of them; None for an arm that
        ran out of memory.
    """
    running = {}
    for name in arms:
        command = [sys.executable, script, "--arm", json.dumps({**settings, "arm": name})]
        running[name] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )
    steps: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    full = {name for name in arms if not _reply(name, running[name])}
    for repeat in range(repeats + 1):
        for name in arms:
            if name in full:
                continue
            running[name].stdin.write("\n")
            running[name].stdin.flush()
            if not (step := _reply(name, running[name])):
                full.add(name)
            elif repeat:
                steps[name].append(step)
    for process in running.values():
        process.communicate()
    results: dict[str, Any] = {"steps": steps}
    for name, taken in steps.items():
        medians = (
            {key: statistics.median(s[key] for s in taken) for key in taken[0] if key != "checks"}
            if (taken and name not in full)
            else None
        )
        results[name] = medians
    return results


def _reply(name: str, process: Any) -> dict[str, Any] | None:
    """A line of an arm; None if it ran out of memory."""
    line = process.stdout.readline()
    if not line and process.wait() != -signal.SIGKILL:
        sys.exit(f"the arm {name!r} failed")
    reply = json.loads(line) if line else {"out_of_memory": True}
    return None if "out_of_memory" in reply else reply


def ratio(results: dict[str, Any], slow: str, fast: str, key: str = "seconds") -> float | None:
    """Median over the turns of slow / fast; None where an arm failed."""
    if not results.get(slow) or not results.get(fast):
        return None
    both = zip(results["steps"][slow], results["steps"][fast], strict=True)
    return statistics.median(a[key] / b[key] for a, b in both)


def answer(step: Callable[[], Callable[[], dict[str, Any]]], start: float) -> None:
    """An arm's loop: a timed step for each line on stdin, its figures as a line on stdout.

    Args:
        step: does the work, and returns what describes its result, called when the clock has stopped.
        start: resident MiB to subtract from the peak, `peak_mib()` once everything is loaded.
    """
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            describe = step()
        except (MemoryError, RuntimeError) as error:
            if "memory" not in str(error):
                raise
            print(json.dumps({"out_of_memory": True}), flush=True)
            return
        figures = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        figures["peak_mib"] = peak_mib() - start
        print(json.dumps({**figures, **describe()}), flush=True)


def peak_mib() -> float:
    """Largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine(threads: int) -> str:
    """Processor, threads and versions, as a report states them."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    name = names[0] if names else platform.machine()
    return f"{name}, {threads} of {os.cpu_count()} cores, no GPU, torch {torch.__version__}"


def options(description: str | None) -> argparse.ArgumentParser:
    """What all of these scripts take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[30522, 105879])
    parser.add_argument("--lengths", nargs="+", choices=("full", "realistic"), default=["full", "realistic"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path, help="write all figures as JSON")
    parser.add_argument("--arm", type=json.loads, help=argparse.SUPPRESS)
    return parser


def table(
    chosen: argparse.Namespace,
    columns: list[str],
    cases: Iterable[dict[str, Any]],
    measure: Callable[[dict[str, Any]], dict[str, Any]],
    row: Callable[[dict[str, Any]], list[str]],
) -> None:
    """Measure each case and print its row; write all figures if asked."""
    print(machine(chosen.threads))
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)
    results = []
    for case in cases:
        results.append(measure(case))
        print("| " + " | ".join(row(results[-1])) + " |", flush=True)
    if chosen.output:
        report = {"machine": machine(chosen.threads), "command": sys.argv[1:], "results": results}
        write_json(chosen.output, report)


def cell(value: float | None, form: str) -> str:
    """A figure for a table, "-" where there is none."""
    return "-" if value is None else form.format(value)
