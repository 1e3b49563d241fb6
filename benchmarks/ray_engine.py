"""Encoding on Ray against encoding in this process: overhead of one worker, speed of two.

    python benchmarks/ray_engine.py                        # the table in docs/scaling.md; about six minutes on 2 cores
    python benchmarks/ray_engine.py --documents 2000 --repeats 2

Each arm encodes the same corpus with the same model, one thread per worker, and writes the same collection
(compared byte by byte). "rate" counts documents from when every worker has finished its first part until the
last part: start-up, which does not grow with the corpus, is left out; "start-up" is what Ray needs more than
this process until then. See arms.py for how the arms take turns.
"""

import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from arms import answer, machine, options, peak_mib, take_turns

ARMS = ("in-process", "ray, 1 worker", "ray, 2 workers")


def write_corpus(folder: Path, documents: int) -> Path:
    """Words of the Python documentation, 5 to 100 per document."""
    from neural_sparse.corpora.python_docs import python_docs

    words = [word for word in " ".join(python_docs().collection.texts).split() if word.isalpha()][:200_000]
    rng, file = random.Random(0), folder / "corpus.jsonl"
    with file.open("w") as lines:
        for number in range(documents):
            at = rng.randrange(len(words) - 100)
            text = " ".join(words[at : at + rng.randint(5, 100)])
            lines.write(f'{{"_id": "{number}", "text": "{text}"}}\n')
    return file


def arm(settings: dict[str, Any]) -> None:
    import torch

    from neural_sparse.search.encode_corpus import encode_corpus
    from neural_sparse.work.workers import in_workers

    torch.set_num_threads(1)
    workers = int(settings["arm"].partition(", ")[2][:1] or 1)
    engine: Any = in_workers
    if settings["arm"].startswith("ray"):
        from neural_sparse.work.ray_engine import RayEngine

        engine = RayEngine("local", num_cpus=workers)
    times: list[tuple[float, int]] = []

    def watched(*arguments: Any) -> Iterator[Any]:
        for number, (documents, content) in engine(*arguments):
            times.append((time.perf_counter(), documents))
            yield number, (documents, content)

    def step() -> Callable[[], dict[str, Any]]:
        times.clear()
        folder = Path(tempfile.mkdtemp())
        begun = time.perf_counter()
        encode_corpus(
            settings["model"],
            settings["corpus"],
            folder / "out",
            workers=workers,
            threads=1,
            engine=watched,
            part_bytes=settings["part_bytes"],
            show_progress=False,
        )

        def describe() -> dict[str, Any]:
            first, last = times[workers - 1][0], times[-1][0]
            digest = hashlib.sha256()
            for file in sorted((folder / "out").rglob("*")):
                if file.is_file():
                    digest.update(file.read_bytes())
            rate = sum(documents for _, documents in times[workers:]) / (last - first)
            return {"rate": rate, "start": first - begun, "checks": digest.hexdigest()}

        return describe

    answer(step, peak_mib())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--documents", type=int, default=8000)
    parser.add_argument("--model", default="cognition/model")
    parser.add_argument("--part-bytes", type=int, default=60_000)
    chosen = parser.parse_args()
    if chosen.arm:
        arm(chosen.arm)
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "corpus": str(write_corpus(Path(folder), chosen.documents)),
            "model": chosen.model,
            "part_bytes": chosen.part_bytes,
        }
        os.environ["OMP_NUM_THREADS"] = "1"
        taken = take_turns(__file__, settings, ARMS, chosen.repeats)
    steps = taken["steps"]
    digests = {step["checks"] for name in ARMS for step in steps[name]}
    print(f"{machine(1)}; {chosen.documents:,} documents, {chosen.model}, {chosen.repeats} repeats")
    print("| | documents per second | against the line above | start-up |\n|---|---|---|---|")
    above = None
    for name in ARMS:
        ratios = (
            sorted(b["rate"] / a["rate"] for a, b in zip(steps[above], steps[name], strict=True))
            if above
            else []
        )
        against = f"{ratios[len(ratios) // 2]:.2f}x" if ratios else "-"
        print(f"| {name} | {taken[name]['rate']:,.0f} | {against} | {taken[name]['start']:.1f} s |")
        above = name
    print("same bytes" if len(digests) == 1 else f"DIFFERENT BYTES: {digests}")
    if chosen.output:
        from neural_sparse.io.files import write_json

        write_json(chosen.output, {"machine": machine(1), "command": sys.argv[1:], "results": taken})


if __name__ == "__main__":
    main()
