"""A training step against sentence-transformers doing the same work.

    python benchmarks/train_step.py                             # the table in docs/performance.md
    python benchmarks/train_step.py --shapes 4.4M --lengths full --repeats 3
    python benchmarks/train_step.py --arms sentence-transformers neural-sparse sampled "packed encoder" \\
        --shapes 4.4M       # and with the default of tiny-cpu, a sample of the vocabulary
    python benchmarks/train_step.py --arms neural-sparse sampled "packed encoder" --shapes 4.4M --texts 160 \\
        --vocabularies 30522 105879 250000 --lengths full --threads 1      # the table of the sampled vocabulary

Both arms load the same model folder, take the same documents and compute the same loss (KL to given teacher
scores, plus FLOPS) and AdamW step with clipping; "sentence-transformers" runs its own SparseEncoder
(Transformer and SpladePooling) on a padded batch, "neural-sparse" the same weights through
NeuralSparseEncoder on packed documents. Two more arms, the transformer alone on padded and on packed
documents, give the memory that remains without any head. "sampled" is neural-sparse with `vocabulary_sample`:
another sample in each step, drawing it included. See arms.py for how the arms take turns.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from arms import answer, cell, options, peak_mib, ratio, table, take_turns
from models import folder_of, token_batch, word_ids

ARMS = ("sentence-transformers", "neural-sparse", "padded encoder", "packed encoder", "sampled")
COLUMNS = ["model", "vocabulary", "texts", "dtype", "sentence-transformers", "neural-sparse", "ratio"]
COLUMNS += ["CPU time", "ST MiB above encoder", "ours above encoder", "share"]
SAMPLED = [
    "model",
    "vocabulary",
    "texts",
    "dtype",
    "sentence-transformers",
    "full",
    "sampled",
    "ST / sampled",
]
SAMPLED += ["full / sampled", "full, CPU s", "sampled, CPU s", "ratio of CPU time", "full MiB", "sampled MiB"]
SAMPLED += ["full MiB above encoder", "sampled MiB above encoder"]
GROUP = 4  # documents per query


def prepare(settings: dict[str, Any]) -> Callable[[], Callable[[], dict[str, Any]]]:
    """The step of one arm, its model loaded: what is to be timed, returning what describes its result."""
    import torch
    from sentence_transformers import SparseEncoder

    from neural_sparse.losses.idf_aware import IDFAwareLoss
    from neural_sparse.losses.vocabulary_sample import VocabularySampler, most_frequent_first
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.model.head import pack
    from neural_sparse.model.layout import map_tensors, split_by_length
    from neural_sparse.text.tokens import Tokens

    device = torch.device(settings["device"])
    ids, mask = token_batch(settings["lengths"], settings["texts"], settings["vocabulary"])
    ids, mask = ids.to(device), mask.to(device)
    queries = settings["texts"] // GROUP
    torch.manual_seed(2)
    query_ids = torch.randint(*word_ids(settings["vocabulary"]), (queries, 8)).to(device)
    teacher = torch.rand(queries, settings["texts"], device=device) * 30
    idf = torch.rand(settings["vocabulary"]) * 10
    loss = IDFAwareLoss(idf, settings["vocabulary"], 0.02, device=device)
    loss.step = 1000
    name = settings["arm"]
    model: Any
    if name == "sentence-transformers":
        model = SparseEncoder(settings["folder"], device=str(device))
    else:
        model = NeuralSparseEncoder(settings["folder"], 256, device=device)
        model.cache_tokens = settings["cache_tokens"]
    # Dropout would draw different numbers for different layouts; without it the losses can be compared.
    model.eval()
    if name == "sentence-transformers":
        model[1].train()  # in eval mode its pooling works in place, which has no gradient
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    half = torch.autocast(device.type, torch.bfloat16, enabled=settings["dtype"] == "bfloat16")
    if name in ("neural-sparse", "packed encoder", "sampled"):
        lengths = mask.sum(1)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).cpu()
        features = {"input_ids": ids[mask.bool()], "offsets": offsets}
        tokens = Tokens(features["input_ids"].cpu().numpy(), offsets.numpy())
        size, steps = settings.get("sample", 0), itertools.count()
        sampler = VocabularySampler(most_frequent_first(idf), size // 2, size - size // 2, seed=0)
    else:
        features = {"input_ids": ids, "attention_mask": mask}

    def step() -> Callable[[], dict[str, Any]]:
        optimizer.zero_grad(set_to_none=True)
        with half:
            if name == "padded encoder":
                value = (
                    pack(model.mlm(input_ids=ids, attention_mask=mask).logits, mask)[0]
                    .float()
                    .square()
                    .mean()
                )
            elif name == "packed encoder":
                groups = split_by_length(features["input_ids"], features["offsets"], 0)
                hidden = [
                    pack(model.mlm(input_ids=padded, attention_mask=real).logits, real)[0]
                    for _, padded, real in groups
                ]
                value = torch.cat(hidden).float().square().mean()
            elif name == "sampled":
                sample = sampler.sample(next(steps), query_ids.unique().cpu().numpy())
                inputs = model.packed(tokens, device, sample.columns)
                sample = map_tensors(sample, lambda tensor: tensor.to(device))
                vectors = model(inputs)["sentence_embedding"]
                mask_of_queries = torch.ones_like(query_ids)
                value = loss(query_ids, mask_of_queries, vectors, teacher, sample=sample)["loss"]
            else:
                vectors = model(dict(features))["sentence_embedding"]
                value = loss(query_ids, torch.ones_like(query_ids), vectors, teacher)["loss"]
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return lambda: {"checks": [value.item()], **_memory(device)}

    return step


def arm(settings: dict[str, Any]) -> None:
    """One arm: loads its model, then answers each line on stdin with one timed step."""
    import torch

    if settings["device"] == "cpu":
        torch.set_num_threads(settings["threads"])
    if limit := settings["limit_gib"]:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit << 30, limit << 30))
    step = prepare(settings)
    if settings["device"] != "cpu":
        torch.cuda.reset_peak_memory_stats()
    answer(step, peak_mib())


def _memory(device: Any) -> dict[str, float]:
    if device.type != "cuda":
        return {}
    import torch

    return {"peak_mib": torch.cuda.max_memory_allocated() / 2**20}


def compare(settings: dict[str, Any], repeats: int, arms: tuple[str, ...]) -> dict[str, Any]:
    results = take_turns(__file__, settings, arms, repeats)
    summary: dict[str, Any] = {**settings, "steps": results["steps"]}
    summary |= {name: results[name] for name in arms}
    summary["ratio"] = ratio(results, *ARMS[:2])
    summary["cpu_ratio"] = ratio(results, *ARMS[:2], "cpu_seconds")
    for name, alone in (*zip(ARMS[:2], ARMS[2:], strict=False), ("sampled", "packed encoder")):
        if summary.get(name) and summary.get(alone):
            summary[f"{name} above"] = max(0.0, summary[name]["peak_mib"] - summary[alone]["peak_mib"])
    above = [summary.get(f"{name} above") for name in ARMS[:2]]
    summary["share"] = above[1] / above[0] if above[0] and above[1] is not None else None
    if summary["ratio"]:
        a, b = (results["steps"][name][0]["checks"][0] for name in ARMS[:2])
        summary["loss_difference"] = abs(a - b) / abs(a)
    return summary


def row(result: dict[str, Any]) -> list[str]:
    def of(name: str, key: str) -> float | None:
        return (result.get(name) or {}).get(key)

    return [
        result["shape"],
        f"{result['vocabulary']:,}",
        f"{result['texts']} {result['lengths']}",
        result["dtype"],
        *(cell(of(name, "seconds"), "{:.2f} s") if result.get(name) else "does not fit" for name in ARMS[:2]),
        cell(result["ratio"], "{:.1f}x"),
        cell(result["cpu_ratio"], "{:.1f}x"),
        *(cell(result.get(f"{name} above"), "{:,.0f}") for name in ARMS[:2]),
        cell(result.get("share"), "{:.1%}"),
    ]


def sampled_row(result: dict[str, Any]) -> list[str]:
    peer, full, sampled = (result.get(name) or {} for name in (*ARMS[:2], "sampled"))
    by_peer, by_full, cpu = (
        cell(ratio(result, slow, "sampled", key), "{:.1f}x")
        for slow, key in ((ARMS[0], "seconds"), (ARMS[1], "seconds"), (ARMS[1], "cpu_seconds"))
    )
    return [
        *(result["shape"], f"{result['vocabulary']:,}", f"{result['texts']} {result['lengths']}"),
        result["dtype"],
        *(cell(arm.get("seconds"), "{:.2f} s") for arm in (peer, full, sampled)),
        by_peer,
        by_full,
        *(cell(arm.get("cpu_seconds"), "{:.2f}") for arm in (full, sampled)),
        cpu,
        *(cell(arm.get("peak_mib"), "{:,.0f}") for arm in (full, sampled)),
        *(cell(result.get(f"{name} above"), "{:,.0f}") for name in ("neural-sparse", "sampled")),
    ]


def cases(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for vocabulary in chosen.vocabularies:
        for shape in chosen.shapes:
            for kind in chosen.lengths:
                yield {
                    "shape": shape,
                    "vocabulary": vocabulary,
                    "folder": folder_of(shape, vocabulary),
                    "lengths": kind,
                    "texts": chosen.texts or (64 if vocabulary <= 60_000 else 16),
                    "dtype": chosen.dtype,
                    "device": chosen.device,
                    "threads": chosen.threads,
                    "limit_gib": chosen.limit_gib,
                    "cache_tokens": chosen.cache_tokens,
                    "sample": chosen.sample,
                }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--shapes", nargs="+", default=["4.4M", "minilm", "distilbert"])
    parser.add_argument("--texts", type=int, help="documents in a batch (default 64, or 16 above 60,000)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit-gib", type=int, default=0, help="address space of each arm; 0 for no limit")
    parser.add_argument("--cache-tokens", type=int, help="GradCache in our arm")
    parser.add_argument("--sample", type=int, default=3000, help="vocabulary_sample of the arm of this name")
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=ARMS[:4], help='with "sampled" its own table'
    )
    chosen = parser.parse_args()
    if chosen.arm:
        arm(chosen.arm)
        return
    columns, shown = (SAMPLED, sampled_row) if "sampled" in chosen.arms else (COLUMNS, row)
    table(
        chosen, columns, cases(chosen), lambda case: compare(case, chosen.repeats, tuple(chosen.arms)), shown
    )


if __name__ == "__main__":
    main()
