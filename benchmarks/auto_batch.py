"""How near auto_batch comes to the memory it may use.

    python benchmarks/auto_batch.py --budget 2 3 4      # GB; the table in docs/training.md

For each budget: the batch that is found from trials of at most 8 queries, then a few steps of it on the longest
documents, and the memory that the process really had at most. On a GPU the trials themselves are that large.
"""

import argparse
import os
import tempfile
import time

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="cognition/model")
    parser.add_argument("--budget", type=float, nargs="+", default=[2.0, 3.0, 4.0], help="GB")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--negatives", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    import torch

    from neural_sparse.config import Recipe, TeacherConfig
    from neural_sparse.data.training_set import TrainingSet
    from neural_sparse.idf import idf_weights
    from neural_sparse.io.resources import peak_memory, reset_peak_memory
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.text.tokens import vocabulary
    from neural_sparse.training.auto_batch import TrialSteps, largest_batch

    torch.set_num_threads(options.threads)
    model = NeuralSparseEncoder(options.model, options.length)
    names = vocabulary(model.tokenizer)
    words = [name for name in names if name.isalpha() and len(name) > 3]
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(words, rng.integers(60, 400))) for _ in range(4000)]
    data = TrainingSet([text[:60] for text in documents], documents, np.arange(len(documents)))
    idf = idf_weights(dict.fromkeys(names, 1.0), model.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(
            model.name,
            ("none",),
            output=folder,
            teachers=(TeacherConfig("bm25"),),
            max_length=options.length,
            num_hard_negatives=options.negatives,
            auto_batch=True,
        )
        print("| budget GB | batch_size | tried for s | peak GB | of the budget | s per step |")
        print("|---:|---:|---:|---:|---:|---:|")
        for gigabytes in options.budget:
            began = time.perf_counter()
            batch = largest_batch(recipe, model, idf, data, int(gigabytes * 1e9))
            tried = time.perf_counter() - began
            cuda = model.device.type == "cuda"
            torch.cuda.reset_peak_memory_stats() if cuda else reset_peak_memory()
            began = time.perf_counter()
            TrialSteps(recipe, model, idf, data).run(batch)
            step = (time.perf_counter() - began) / 2
            peak = (torch.cuda.max_memory_allocated() if cuda else peak_memory()) / 1e9
            share = peak / gigabytes
            print(
                f"| {gigabytes:g} | {batch} | {tried:.1f} | {peak:.2f} | {share:.0%} | {step:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
