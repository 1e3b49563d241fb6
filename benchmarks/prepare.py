"""How fast training data are prepared, and whether memory stays flat as they grow.

    python benchmarks/prepare.py                # the table in docs/data.md
    python benchmarks/prepare.py --sizes 15000 60000 --workers 2

Each line is a process of its own. Sizes above the number of real pairs (`--pairs`, JSONL files) are reached with
copies whose words are in another order, which are no duplicates. Memory is what the process holds itself, sampled
(anonymous pages); mapped files are not in it, for the system takes those back whenever it needs room. Processor time
is of this process (with one worker: all of it) and says more than the clock where other work is running.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from arms import machine

from neural_sparse.data.cleaning import Cleaning
from neural_sparse.data.prepare import PrepareOptions, prepare

PAIRS = Path(__file__).resolve().parents[2] / "shared" / "data" / "pairs"
CLEANING = {
    "equal texts only": Cleaning(near_duplicates=None),
    "near-duplicates": Cleaning(),
    "near-duplicates, language": Cleaning(languages=("en", "fr")),
}


def write_pairs(files: list[Path], size: int, output: Path) -> None:
    rng = random.Random(0)
    with output.open("w", encoding="utf-8") as out:
        written, copy = 0, 0
        while written < size:
            for file in files:
                for line in file.open(encoding="utf-8"):
                    if written == size:
                        return
                    row = json.loads(line)
                    if copy:
                        row = {
                            key: " ".join(rng.sample(row[key].split(), len(row[key].split()))) for key in row
                        }
                    out.write(
                        json.dumps({"query": row["query"], "pos": row["pos"]}, ensure_ascii=False) + "\n"
                    )
                    written += 1
            copy += 1


def own_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def arm(settings: dict[str, Any]) -> None:
    sampled, done = [own_mib()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            sampled.append(own_mib())

    threading.Thread(target=watch, daemon=True).start()
    began, began_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        options = PrepareOptions(cleaning=CLEANING[settings["cleaning"]], workers=settings["workers"])
        kept = len(prepare([settings["pairs"]], Path(folder) / "out", options))
        seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    done.set()
    print(json.dumps({"seconds": seconds, "cpu": cpu, "kept": kept, "mib": max(sampled)}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, nargs="+", default=sorted(PAIRS.glob("*.jsonl")))
    parser.add_argument("--sizes", type=int, nargs="+", default=[15_000, 59_931, 240_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        arm(json.loads(options.arm))
        return
    print(machine(options.workers))
    print("| pairs | cleaning | seconds | of processor | pairs per processor second | MiB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            file = Path(folder) / f"{size}.jsonl"
            write_pairs(options.pairs, size, file)
            for cleaning in (
                CLEANING if size == options.sizes[1 % len(options.sizes)] else ["near-duplicates"]
            ):
                settings = {"pairs": str(file), "cleaning": cleaning, "workers": options.workers}
                command = [sys.executable, __file__, "--arm", json.dumps(settings)]
                reply = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(
                    f"| {size:,} | {cleaning} | {reply['seconds']:.1f} | {reply['cpu']:.1f} | "
                    f"{size / reply['cpu']:,.0f} | {reply['mib']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
