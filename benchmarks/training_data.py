"""Memory and time of opening prepared data, ordering them, and asking a pair-wise teacher about them.

    python benchmarks/training_data.py                      # 1,000,000 examples with 7 negatives each
    python benchmarks/training_data.py --examples 10000000

The folder is written here, with short texts, as `neural-sparse data prepare` writes it. Counted is memory of the
process's own (RssAnon), above what Python and its libraries take; mapped files are not.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

NEGATIVES = 7


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=1_000_000)
    arguments = parser.parse_args()

    from neural_sparse.data.training_set import load_training_set
    from neural_sparse.mining.miner import data_digest
    from neural_sparse.teachers.teacher import PreparedPairs
    from neural_sparse.text.keys import first_rows
    from neural_sparse.training.batches import Schedule
    from neural_sparse.training.inputs import candidate_pairs

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), arguments.examples)
        meter = Meter()
        data = load_training_set([folder])
        meter.say("opening")
        schedule = Schedule(data, arguments.examples, 4, seed=1, batch_size=16)
        _ = [schedule[position] for position in range(1000)]
        meter.say("the order of examples")
        pairs = candidate_pairs(data)
        meter.say(f"{len(pairs):,} pairs")
        table = PreparedPairs(
            "t",
            first_rows(data.queries),
            first_rows(data.documents),
            pairs,
            np.zeros(len(pairs), np.float32),
        )
        meter.say("the table of their scores")
        del pairs, table
        data_digest(data)
        meter.say("a digest of the data, as mining takes it")


class Meter:
    """Prints memory held, its peak and the time since it was last asked."""

    def __init__(self) -> None:
        self.start = self.peak = own_memory()
        self.since = time.perf_counter()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, own_memory())
            time.sleep(0.02)

    def say(self, what: str) -> None:
        seconds = time.perf_counter() - self.since
        gc.collect()
        held, peak = own_memory() - self.start, self.peak - self.start
        print(f"{what:42} {held:6.0f} MiB held, {max(peak, held):6.0f} at most, {seconds:6.1f} s", flush=True)
        self.peak, self.since = own_memory(), time.perf_counter()


def own_memory() -> float:
    """MiB of this process that are no mapped file."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def write(folder: Path, examples: int) -> None:
    """A prepared folder of two sources: every query once, random negatives, scores."""
    from neural_sparse.data.assembly import DOCUMENTS, EXAMPLES, EXAMPLES_SCHEMA, QUERIES, TEXTS_SCHEMA
    from neural_sparse.data.prepared import MANIFEST, file_sums
    from neural_sparse.io.files import write_json

    for name in (QUERIES, DOCUMENTS):
        with pa.ipc.new_file(str(folder / name), TEXTS_SCHEMA) as writer:
            for start in range(0, examples, 10_000):
                rows = range(start, min(start + 10_000, examples))
                texts = [f"{name} number {row} of many, which says something of its own" for row in rows]
                writer.write_batch(pa.record_batch([pa.array(texts)], schema=TEXTS_SCHEMA))
    rng = np.random.default_rng(0)
    negatives = pa.array(rng.integers(0, examples, NEGATIVES * examples))
    scores = pa.array(rng.random((NEGATIVES + 1) * examples, np.float32))
    offsets = np.arange(examples + 1)
    columns = [
        pa.array(offsets[:-1]),
        pa.array(rng.permutation(examples)),
        pa.LargeListArray.from_arrays(pa.array(offsets * NEGATIVES), negatives),
        pa.LargeListArray.from_arrays(pa.array(offsets * (NEGATIVES + 1)), scores),
        pa.array(offsets[:-1] % 2, pa.int32()),
    ]
    with pa.ipc.new_file(str(folder / EXAMPLES), EXAMPLES_SCHEMA) as writer:
        writer.write_batch(pa.record_batch(columns, schema=EXAMPLES_SCHEMA))
    manifest = {
        "sources": [{"name": name, "weight": None, "examples": examples // 2} for name in "ab"],
        "files": file_sums(folder, (QUERIES, DOCUMENTS, EXAMPLES)),
    }
    write_json(folder / MANIFEST, manifest)


if __name__ == "__main__":
    main()
