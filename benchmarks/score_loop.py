"""`EnsembleTeacher.score` in a training loop of one's own: time and memory over thousands of steps.

    python benchmarks/score_loop.py                             # the figures in docs/teachers.md

Every step scores 40 new queries against 440 documents, a tenth of which have been there in one of the last steps.
The teachers draw a random vector for each text instead of running a model, so that what is left is what the library
adds: 1024 dimensions in float16 for one, 200 weighted terms for the other. Once with vectors in memory, bounded, and
once with `cache_dir`; each in a process of its own. A step's time is the processor's, and the mean over a window of
200 steps, for a step on disk now and then rewrites many.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from neural_sparse.teachers import EnsembleTeacher
from neural_sparse.teachers.bi_encoder import BiEncoderTeacher

WINDOW = 200  # steps
QUERIES, DOCUMENTS, REPEATED = 40, 440, 44
ARMS = ("memory", "disk")


class Drawn(BiEncoderTeacher):
    """Random vectors, dense or sparse."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.encoded = 0
        self._draw = np.random.default_rng(0)

    def identity(self, task: str) -> dict[str, Any]:
        return {"kind": self.kind}

    def jobs(self, queries: Any, documents: Any, pairs: Any = None) -> Any:
        from dataclasses import replace

        return [
            replace(one, at_start=lambda: None, batches=None)
            for one in super().jobs(queries, documents, pairs)
        ]

    def encode(self, texts: list[str], task: str) -> Any:
        self.encoded += len(texts)
        if self.kind == "dense":
            return self._draw.random((len(texts), 1024), np.float32).astype(np.float16)
        columns = np.sort(self._draw.integers(0, 150, (len(texts), 200)), axis=1) + np.arange(200) * 150
        weights = self._draw.random(columns.size, np.float32) + 0.1
        return csr_matrix((weights, columns.ravel(), np.arange(len(texts) + 1) * 200), (len(texts), 30522))


def arm(name: str, steps: int, mebibytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dense, sparse = Drawn("dense"), Drawn("sparse")
        bound = {"memory": mebibytes << 20} if mebibytes else {}
        ensemble = EnsembleTeacher(
            teachers=[(dense, 0.5), (sparse, 0.5)], cache_dir=folder if name == "disk" else None, **bound
        )
        rng = np.random.default_rng(0)
        lately: list[str] = []
        started = time.process_time()
        for step in range(1, steps + 1):
            new = [f"document {step} {number}" for number in range(DOCUMENTS - min(REPEATED, len(lately)))]
            old = rng.choice(lately, REPEATED, replace=False).tolist() if lately else []
            ensemble.score([f"query {step} {number}" for number in range(QUERIES)], [*old, *new])
            lately = [*lately, *new][-5 * DOCUMENTS :]
            if step % WINDOW == 0:
                spent = (time.process_time() - started) / WINDOW
                pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
                resident = (int(pages[1]) - int(pages[2])) * resource.getpagesize()  # without mapped files
                share = dense.encoded / (step * (QUERIES + DOCUMENTS))
                print(
                    json.dumps({"step": step, "ms": 1e3 * spent, "MiB": resident / 2**20, "encoded": share}),
                    flush=True,
                )
                started = time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--mebibytes", type=int, default=512, help="of vectors kept in memory; 0: the default"
    )
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        arm(options.arm, options.steps, options.mebibytes)
        return
    print("| vectors | steps | ms a step | MiB | texts encoded |\n|---|---|---:|---:|---:|")
    for name in options.arms:
        command = [sys.executable, __file__, "--arm", name, "--steps", str(options.steps)]
        command += ["--mebibytes", str(options.mebibytes)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                row = json.loads(line)
                steps = f"{row['step'] - WINDOW + 1}-{row['step']}"
                print(f"| {name} | {steps} | {row['ms']:.1f} | {row['MiB']:.0f} | {row['encoded']:.1%} |")


if __name__ == "__main__":
    main()
