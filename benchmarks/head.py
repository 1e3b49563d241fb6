"""The fused head against full logits and sentence-transformers' SpladePooling, forward and backward.

    python benchmarks/head.py                        # the table in docs/performance.md
    python benchmarks/head.py --widths 384 --vocabularies 30522 --lengths full --repeats 3

The arms take turns on the same tensors (see arms.py). The head's bias is set so that `--active` of the
pooled values are positive.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from arms import answer, cell, lengths, options, peak_mib, ratio, table, take_turns

ARMS = ("naive", "fused")
COLUMNS = ["width", "vocabulary", "texts", "dtype", "active", "naive", "fused", "ratio", "CPU time"]
COLUMNS += ["naive MiB", "fused MiB"]


def prepare(settings: dict[str, Any]) -> Callable[[], Callable[[], dict[str, Any]]]:
    """The step of one arm, its tensors made: what is to be timed, returning what describes its results."""
    import torch
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    from neural_sparse.model.head import pack, pooled_logits

    device = torch.device(settings.get("device", "cpu"))
    torch.manual_seed(0)
    counts = torch.tensor(lengths(settings["lengths"], settings["texts"]))
    mask = (torch.arange(int(counts.max())) < counts[:, None]).long().to(device)
    hidden = torch.randn(*mask.shape, settings["width"], device=device, requires_grad=True)
    decoder = torch.nn.Linear(settings["width"], settings["vocabulary"], device=device)
    upstream = torch.randn(len(counts), settings["vocabulary"], device=device)
    pooling = SpladePooling("max").train()
    half = torch.autocast(device.type, torch.bfloat16, enabled=settings["dtype"] == "bfloat16")

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

    def step() -> Callable[[], dict[str, Any]]:
        hidden.grad = decoder.weight.grad = decoder.bias.grad = None
        with half:
            out = head(hidden, mask)
        (out * upstream).sum().backward()
        results = (out, hidden.grad, decoder.weight.grad, decoder.bias.grad)
        return lambda: {
            "active": (out > 0).float().mean().item(),
            "checks": [t.double().norm().item() for t in results if t is not None],
        }

    return step


def arm(settings: dict[str, Any]) -> None:
    """One arm: builds its tensors, then answers each line on stdin with one timed step."""
    import torch

    torch.set_num_threads(settings["threads"])
    step = prepare(settings)
    answer(step, peak_mib())


def compare(settings: dict[str, Any], repeats: int, arms: tuple[str, ...]) -> dict[str, Any]:
    """Medians of the arms, and how far they differ."""
    results = take_turns(__file__, settings, arms, repeats)
    steps = results.pop("steps") if len(arms) < 2 else results["steps"]
    summary: dict[str, Any] = {**settings, **{name: results[name] for name in arms}}
    if len(arms) == 2 and all(results[name] for name in arms):
        summary["speedup"] = ratio(results, *ARMS)
        summary["cpu_speedup"] = ratio(results, *ARMS, "cpu_seconds")
        summary["largest_relative_difference"] = max(
            abs(a - b) / max(abs(a), 1e-30)
            for a, b in zip(steps[ARMS[0]][0]["checks"], steps[ARMS[1]][0]["checks"], strict=True)
        )
    return summary


def row(result: dict[str, Any]) -> list[str]:
    fused = result.get("fused")
    parts = [
        str(result["width"]),
        f"{result['vocabulary']:,}",
        f"{result['texts']} {result['lengths']}",
        result["dtype"],
        cell(fused and fused["active"], "{:.1%}"),
    ]
    parts += [cell((result.get(name) or {}).get("seconds"), "{:.2f} s") for name in ARMS]
    parts += [cell(result.get(key), "{:.1f}x") for key in ("speedup", "cpu_speedup")]
    parts += [cell((result.get(name) or {}).get("peak_mib"), "{:,.0f}") for name in ARMS]
    return parts


def cases(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for vocabulary in chosen.vocabularies:
        for width in chosen.widths:
            for kind in chosen.lengths:
                yield {
                    "width": width,
                    "vocabulary": vocabulary,
                    "lengths": kind,
                    "texts": chosen.texts or (64 if vocabulary <= 60_000 else 16),
                    "active": chosen.active,
                    "dtype": chosen.dtype,
                    "threads": chosen.threads,
                }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 384, 768])
    parser.add_argument(
        "--texts", type=int, help="texts in a batch (default 64, or 16 above 60,000 dimensions)"
    )
    parser.add_argument("--active", type=float, default=0.01, help="share of positive pooled values")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: autocast"
    )
    parser.add_argument("--only", choices=ARMS, help="one arm alone, where the other does not fit")
    chosen = parser.parse_args()
    if chosen.arm:
        arm(chosen.arm)
        return
    arms = (chosen.only,) if chosen.only else ARMS
    table(chosen, COLUMNS, cases(chosen), lambda case: compare(case, chosen.repeats, arms), row)


if __name__ == "__main__":
    main()
