"""A comparison as text: terminal tables, Markdown, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from neural_sparse.evaluation.compare import LEVEL, Difference, Pair, Report
from neural_sparse.report.tables import ABSENT, markdown_table, terminal_table
from neural_sparse.search.hits import APPROXIMATE

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {1: "▲", 0: "", -1: "▼"}
_BESIDE = {1: "\u00a0▲", 0: "\u00a0\u2007", -1: "\u00a0▼"}  # as wide with a mark as without

# key of Evaluation.summary -> heading and format
COST_COLUMNS = {
    "FLOPS": ("FLOPS", "{:.2f}"),
    "L1": ("L1 / doc", "{:.1f}"),
    "doc_terms": ("terms / doc", "{:.0f}"),
    "query_terms": ("terms / query", "{:.1f}"),
    "saturation": ("saturation", "{:.0%}"),
    "index_bytes": ("index MB", "{:.1f}"),
    "latency_p50_ms": ("p50 ms in-process", "{:.2f}"),
    "latency_p99_ms": ("p99 ms in-process", "{:.2f}"),
    "queries_per_second": ("queries / s", "{:,.0f}"),
    "documents_per_second": ("docs / s", "{:,.0f}"),
}

_ACROSS = 6  # collections that fit beside each other

Rows = list[list[str]]


def relevance(report: Report) -> tuple[list[str], Rows]:
    """One row per system: every measure and the hole rate, means over the collections."""
    rows = []
    for system in report.systems:
        means = report.macro(system)
        holes = f"{means['hole_rate']:.0%}" if "hole_rate" in means else ABSENT
        rows.append([system.name, *(f"{means[measure]:.4f}" for measure in report.measures), holes])
    return ["system", *report.measures, "unjudged in first ten"], rows


def cost(report: Report) -> tuple[list[str], Rows]:
    """One row per system that has a cost, means over the collections; columns no system has are left out."""
    means = {system.name: report.macro(system) for system in report.systems}
    columns = [key for key in COST_COLUMNS if any(key in values for values in means.values())]
    rows = [
        [name, *(_cell(key, values) for key in columns)]
        for name, values in means.items()
        if any(key in values for key in columns)
    ]
    return ["system", *(COST_COLUMNS[key][0] for key in columns)], rows


def cost_ratios(report: Report) -> tuple[list[str], Rows]:
    """Cost of every system as a multiple of the first one's; no rows where nothing can be compared."""
    first, *others = [report.macro(system) for system in report.systems]
    keys = [
        key
        for key in ("FLOPS", "L1", "doc_terms", "index_bytes", "latency_p50_ms", "latency_p99_ms")
        if first.get(key) and any(key in values for values in others)
    ]
    rows = [
        [system.name, *(f"{values[key] / first[key]:.2f}x" if key in values else ABSENT for key in keys)]
        for system, values in zip(report.systems[1:], others, strict=True)
    ]
    return ["system", *(COST_COLUMNS[key][0] for key in keys)], rows if keys else []


def timing_note(report: Report) -> str:
    """What the times are of, and which rankings are approximate; nothing where there are no times."""
    if not any("latency_p50_ms" in report.macro(system) for system in report.systems):
        return ""
    modes: dict[str, list[str]] = {}
    approximate: list[str] = []
    for system in report.systems:
        for name in report.collections:
            evaluation = system.evaluations[name]
            latency = evaluation.latency
            told = [str(evaluation.details.get("search", "")), latency.mode if latency is not None else ""]
            found = [mode for mode in dict.fromkeys(told) if mode.startswith(APPROXIMATE)]
            approximate += [f" {system.name} on {name}: {mode}." for mode in found]
            exact = told[1] if told[1] not in found else ""
            if exact and name not in modes.setdefault(exact, []):
                modes[exact].append(name)
    alone = len(modes) == 1
    here = "; ".join(mode if alone else f"{mode} on {', '.join(names)}" for mode, names in modes.items())
    return (
        "Times are of one query at a time in this process, without network or server (95% interval over queries). BM25 "
        f"and sparse models are searched by one exact index{f' (here: {here})' if here else ''}: block maxima skip "
        "documents that cannot be hits; elsewhere every posting of the query's words is read, which engines that skip "
        "do not." + "".join(approximate)
    )


def by_collection(report: Report, measure: str | None = None) -> tuple[list[str], Rows]:
    """Systems by collections and their mean, marked where they differ from the first system.

    Collections go to the right, or downwards where there are many.
    """
    measure = measure or report.measure
    columns = [*report.collections, "mean"]
    rows = []
    for place, system in enumerate(report.systems):
        pair = report.pair(report.systems[0].name, system.name, measure) if place else None
        marks = [pair.verdict(name) for name in report.collections] + [pair.macro_verdict()] if pair else None
        values = [system.evaluations[name].means[measure] for name in report.collections]
        values.append(report.macro(system)[measure])
        cells = [
            f"{value:.4f}{_BESIDE[mark]}"
            for value, mark in zip(values, marks or [0] * len(values), strict=True)
        ]
        rows.append([system.name, *cells])
    if len(report.collections) <= _ACROSS:
        return [measure, *columns], rows
    turned = [[name, *cells] for name, *cells in zip(columns, *(row[1:] for row in rows), strict=True)]
    return [measure, *(row[0] for row in rows)], turned


def comparisons(pairs: Iterable[Pair]) -> tuple[list[str], Rows]:
    """One row per pair, measure and collection, and one for the mean where there are several collections."""
    heading = ["measure", "on", "difference", "95% interval", "p", "p (Holm)", "won / tied / lost", ""]
    rows = []
    for pair in pairs:
        entries = [
            (name, one, pair.adjusted[name], pair.verdict(name)) for name, one in pair.collections.items()
        ]
        if len(entries) > 1:
            entries.append(("mean", pair.macro, pair.macro_adjusted, pair.macro_verdict()))
        for name, one, adjusted, verdict in entries:
            rows.append(
                [
                    pair.measure,
                    name,
                    f"{one.difference:+.4f}",
                    f"{one.low:+.4f} to {one.high:+.4f}",
                    _p(one.p_value),
                    _p(adjusted),
                    f"{one.wins} / {one.ties} / {one.losses}",
                    MARKS[verdict],
                ]
            )
    return heading, rows


def legend(report: Report) -> str:
    if len(report.systems) < 2:
        return ""
    return (
        f"▲ ▼ significantly better or worse than {report.systems[0].name}: paired randomisation test, "
        f"p < {LEVEL} after Holm's correction over all {report.tests} comparisons of this report (pairs of systems, "
        "measures, collections and their mean)."
    )


def markdown(report: Report, title: str = "Comparison") -> str:
    """The whole report as Markdown."""
    parts = [f"# {title}\n"]
    queries = sum(
        len(report.systems[0].evaluations[name].per_query[report.measure]) for name in report.collections
    )
    parts.append(f"{len(report.collections)} collections, {queries:,} judged queries.\n")
    parts += ["## Relevance\n", markdown_table(*relevance(report))]
    heading, rows = cost(report)
    if rows:
        parts += ["## Cost\n", markdown_table(heading, rows)]
        parts += [f"{timing_note(report)}\n"] if timing_note(report) else []
    heading, rows = cost_ratios(report)
    if rows:
        parts += [f"As a multiple of {report.systems[0].name}:\n", markdown_table(heading, rows)]
    if len(report.collections) > 1:
        parts += [
            "## By collection\n",
            *(markdown_table(*by_collection(report, name)) for name in report.measures),
        ]
    if report.pairs:
        parts.append(legend(report) + "\n")
    for (a, b), gains in report.gains.items():
        pairs = [pair for pair in report.pairs if (pair.a, pair.b) == (a, b)]
        parts += [f"## {b} against {a}\n", markdown_table(*comparisons(pairs))]
        parts += _changes("Largest gains", gains) + _changes("Largest losses", report.losses[a, b])
    return "\n".join(parts)


def print_report(report: Report, console: Console) -> None:
    """The report's tables in a terminal."""

    def show(title: str, heading: Sequence[str], rows: Rows) -> None:
        console.print(terminal_table(heading, rows, title))

    show("Relevance", *relevance(report))
    heading, rows = cost(report)
    if rows:
        show("Cost", heading, rows)
        if note := timing_note(report):
            console.print(note, style="dim")
    heading, rows = cost_ratios(report)
    if rows:
        show(f"Cost as a multiple of {report.systems[0].name}", heading, rows)
    if len(report.collections) > 1:
        show("By collection", *by_collection(report))
    for a, b in report.gains:
        show(f"{b} against {a}", *comparisons([report.pair(a, b)]))
    if report.pairs:
        console.print(legend(report))


def _cell(key: str, values: Mapping[str, float]) -> str:
    if key not in values:
        return ABSENT
    form = COST_COLUMNS[key][1]
    text = form.format(values[key] / 1e6 if key == "index_bytes" else values[key])
    stem = key.removesuffix("_ms")
    if f"{stem}_low_ms" in values:
        text += f" ({form.format(values[f'{stem}_low_ms'])}–{form.format(values[f'{stem}_high_ms'])})"
    return text


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else f"{value:.4f}"


def _changes(title: str, found: Sequence[Difference]) -> list[str]:
    if not found:
        return []
    rows = [
        [one.collection, one.query_id, one.query, f"{one.a:.3f}", f"{one.b:.3f}", f"{one.b - one.a:+.3f}"]
        for one in found
    ]
    return [
        f"{title}:\n",
        markdown_table(["collection", "query", "text", "before", "after", "difference"], rows),
    ]
