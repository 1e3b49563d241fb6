"""A comparison as one HTML page that needs no other file and no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neural_sparse.evaluation.compare import Difference, Report
from neural_sparse.io.files import write_json, write_text
from neural_sparse.report import pictures
from neural_sparse.report.comparison import (
    MARKS,
    Rows,
    by_collection,
    comparisons,
    cost,
    cost_ratios,
    legend,
    markdown,
    relevance,
    timing_note,
)

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --soft: #5c6670; --line: #d5dadf;
  --panel: #f5f7f9; --better: #12805e; --worse: #b3432a; }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --ink: #e3e7eb; --soft: #9aa5b0;
  --line: #333b44; --panel: #1c2229; --better: #3fbf95; --worse: #ea7a5f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .7rem; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .5rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); } .small { font-size: .875rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: normal; overflow-wrap: anywhere; min-width: 4rem;
  vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.better { color: var(--better); } .worse { color: var(--worse); }
svg { display: block; height: auto; margin: .6rem 0; } svg text { fill: currentColor; }
details > .scroll { padding: 0 .8rem; }
details { border: 1px solid var(--line); border-radius: 8px; margin: .5rem 0; background: var(--panel); }
summary { cursor: pointer; padding: .55rem .8rem; display: flex; gap: .8rem; align-items: baseline; }
summary .text { flex: 1; overflow-wrap: anywhere; } summary .number { font-variant-numeric: tabular-nums; }
summary::before { content: "▸"; color: var(--soft); } details[open] > summary::before { content: "▾"; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.2rem;
  padding: .2rem .8rem .9rem; }
.sides h4 { margin: .3rem 0; font-size: .9rem; }
.doc { border-top: 1px solid var(--line); padding: .5rem 0; font-size: .875rem; overflow-wrap: anywhere; }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 4px; padding: 0 .4rem;
  margin: .1rem .2rem .1rem 0; font-size: .8rem; } .tag b { font-weight: 600; }
""".strip()


def html_page(report: Report, title: str = "Comparison") -> str:
    """The report with its pictures; follows the reader's light or dark setting."""
    parts = [f"<h1>{html_text(title)}</h1>", *_headline(report)]
    parts += ["<h2>Relevance</h2>", html_table(*relevance(report), best=len(report.measures))]
    if len(report.systems) > 1 or len(report.collections) > 1:
        parts.append(pictures.bars(report))
    if len(report.collections) > 1:
        parts.append(html_table(*by_collection(report)))
    if report.pairs:
        parts.append(f'<p class="small soft">{html_text(legend(report))}</p>')
    heading, rows = cost(report)
    if rows:
        parts += ["<h2>Cost</h2>", html_table(heading, rows)]
        if note := timing_note(report):
            parts.append(f'<p class="small soft">{html_text(note)}</p>')
    heading, rows = cost_ratios(report)
    if rows:
        baseline = html_text(report.systems[0].name)
        parts += [f'<p class="soft">As a multiple of {baseline}:</p>', html_table(heading, rows)]
    if len(report.systems) > 1 and any("FLOPS" in report.macro(system) for system in report.systems):
        parts.append(pictures.relevance_against_cost(report))
    for a, b in report.gains:
        others = [
            pair for pair in report.pairs if (pair.a, pair.b) == (a, b) and pair.measure != report.measure
        ]
        parts += [
            f"<h2>{html_text(b)} against {html_text(a)}</h2>",
            html_table(*comparisons([report.pair(a, b)])),
            pictures.intervals(report.pair(a, b)),
            pictures.query_differences(report, a, b),
        ]
        if others:
            names = ", ".join(pair.measure for pair in others)
            table = html_table(*comparisons(others))
            parts.append(f"<details><summary>By {html_text(names)}</summary>{table}</details>")
        parts += _changes(f"Where {b} gains most", report.gains[a, b], a, b)
        parts += _changes(f"Where {b} loses most", report.losses[a, b], a, b)
    return html_document(title, parts)


def html_document(title: str, parts: Sequence[str]) -> str:
    """A page of these parts (HTML) in the style of all reports; needs no other file and no network."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html_text(title)}</title><style>{_STYLE}</style></head><body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def write_report(report: Report, folder: str | Path, title: str = "Comparison") -> None:
    """Write report.json, report.md and report.html (self-contained) to a folder."""
    folder = Path(folder)
    write_json(folder / "report.json", report.to_dict())
    write_text(folder / "report.md", markdown(report, title))
    write_text(folder / "report.html", html_page(report, title))


def _headline(report: Report) -> list[str]:
    """What the comparison says, in words."""
    count = len(report.collections)
    queries = sum(
        len(report.systems[0].evaluations[name].per_query[report.measure]) for name in report.collections
    )
    where = report.collections[0] if count == 1 else f"{count} collections"
    lines = [f'<p class="soft">{html_text(where)}, {queries:,} judged queries</p>']
    for system in report.systems[1:]:
        pair = report.pair(report.systems[0].name, system.name)
        verdict, one = pair.macro_verdict(), pair.macro
        means = f"{one.mean_b:.4f} against {one.mean_a:.4f}"
        what = {1: "significantly better", -1: "significantly worse", 0: "no significant difference"}[verdict]
        style = {1: "better", -1: "worse", 0: "soft"}[verdict]
        lines.append(
            f"<p><b>{html_text(system.name)}</b> reaches {html_text(report.measure)} {means} of {html_text(pair.a)}: "
            f'<span class="{style}">{MARKS[verdict]} {what}</span> '
            f'<span class="soft">({one.difference:+.4f}, 95% interval {one.low:+.4f} to '
            f"{one.high:+.4f})</span></p>"
        )
    return lines


def _changes(title: str, found: Sequence[Difference], a: str, b: str) -> list[str]:
    if not found:
        return []
    parts = [f"<h3>{html_text(title)}</h3>"]
    for one in found:
        change = one.b - one.a
        parts.append(
            "<details><summary>"
            f'<span class="number {"better" if change > 0 else "worse"}">{change:+.3f}</span>'
            f'<span class="text">{html_text(one.query or one.query_id)}</span>'
            f'<span class="small soft">{html_text(one.collection)} · {html_text(one.query_id)}</span></summary>'
            f'<div class="sides">{_side(a, one.a, one.documents_a)}'
            f"{_side(b, one.b, one.documents_b)}</div></details>"
        )
    return parts


def _side(system: str, score: float, documents: Sequence[dict[str, Any]]) -> str:
    shown = []
    for document in documents:
        rank = f"rank {document['rank']}" if document["rank"] else "not retrieved"
        grade = document["grade"]
        kind = "relevant" if grade else "not judged" if grade is None else "not relevant"
        style = "better" if grade else "worse"
        terms = "".join(
            f'<span class="tag"><b>{html_text(str(term))}</b> {value:.2f}</span>'
            for term, value in document["terms"]
        )
        shown.append(
            f'<div class="doc"><span class="{style}">{kind}</span>, {rank} '
            f'<span class="soft">· {html_text(str(document["doc"]))}</span><br>{html_text(document["text"])}'
            f"<br>{terms}</div>"
        )
    return f"<div><h4>{html_text(system)}: {score:.3f}</h4>{''.join(shown)}</div>"


def html_table(heading: Sequence[str], rows: Rows, best: int = 0) -> str:
    """An HTML table; in the first `best` columns after the name the largest value is bold."""
    largest = {
        column: max(range(len(rows)), key=lambda row: float(rows[row][column]))
        for column in range(1, best + 1)
        if len(rows) > 1
    }
    lines = ["<tr>" + "".join(f"<th>{html_text(cell)}</th>" for cell in heading) + "</tr>"]
    for number, row in enumerate(rows):
        cells = []
        for column, cell in enumerate(row):
            style = "better" if MARKS[1] in cell else "worse" if MARKS[-1] in cell else ""
            inner = f"<b>{html_text(cell)}</b>" if largest.get(column) == number else html_text(cell)
            cells.append(f'<td class="{style}">{inner}</td>' if style else f"<td>{inner}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def html_text(value: str) -> str:
    """A text as HTML shows it."""
    return html.escape(value, quote=True)
