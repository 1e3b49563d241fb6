"""The page that `adapt` ends with: what was done, what was measured, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neural_sparse.adapt.candidates import Candidate, mean_of
from neural_sparse.adapt.examples import Example
from neural_sparse.adapt.queries import LENGTHS, length_of
from neural_sparse.adapt.verdict import KEEP, MEASURE, SHIP, Verdict, p_text
from neural_sparse.data.cleaning import language_of
from neural_sparse.evaluation.compare import Report, System
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.significance import Comparison, compare_scores
from neural_sparse.report import pictures
from neural_sparse.report.explained_html import explained_search_html
from neural_sparse.report.html_page import html_document, html_table, html_text
from neural_sparse.report.tables import ABSENT

SYSTEMS = {
    "BM25": "what search engines do unless told otherwise: English stemmer, 33 stop words (another language: its own)",
    "BM25 over word pieces": "the same over the pieces that the model cuts words into, in any language",
    "start": "the model as it was, untrained on these documents",
    "own words": "the start, with the words of each document counted as BM25 counts them; nothing was trained",
    "trained": "the start, trained on these documents",
    "pruned": "without the lightest terms of each document, for a cheaper index and cheaper queries",
    "with BM25": "its score and BM25's added up, in one index; a search engine adds them in one query",
    "passages": "long documents as passages, each document found by its best one",
    "dense teacher": "a model that has to read each query, too; what the trained one learns from",
    "sparse teacher": "the same, in the form of terms with weights",
}
KINDS = {  # of candidates, in the legend of a picture
    "bm25": "BM25",
    "start": "start",
    "free": "untrained",
    "trained": "trained",
    "teacher": "teachers",
}
LEAST_IN_GROUP = 10  # queries
P99 = "ms, slowest 1%, predicted"
_SHORT = (MEASURE, "p (Holm)", "FLOPS", "ms / query", "index MB", P99)
MARKS = {1: "▲", 0: "", -1: "▼"}


@dataclass(frozen=True)
class Group:
    """Judging queries of one type or length: the chosen candidate against BM25."""

    by: str
    name: str
    comparison: Comparison


@dataclass(frozen=True)
class Slowest:
    """The time of the slowest hundredth of the queries in the exact index, where it was limited.

    Attributes:
        milliseconds, documents: the limit.
        predicted: candidate -> milliseconds in so many documents, by the cost model.
        chosen: the candidate that was timed. queries: whose, of several the slower ones.
        measured: its milliseconds in `measured_documents` like the judged ones;
            predicted_there: what the cost model says of these.
    """

    milliseconds: float
    documents: int
    predicted: Mapping[str, float]
    chosen: str
    queries: str
    measured: float
    measured_documents: int
    predicted_there: float

    def told(self) -> list[str]:
        there = (
            f"measured {self.measured:.2g} ms in {self.measured_documents:,} documents like the judged ones"
        )
        if self.measured_documents != self.documents:
            there += f", for which {self.predicted_there:.2g} ms are predicted"
        return [
            f"The slowest hundredth of the queries may take {self.milliseconds:g} ms among {self.documents:,} "
            "documents, as asked for: processor time of the exact index on one core of this machine, by a cost model "
            "that was timed here. Queries are those that do not judge.",
            f"{self.chosen}, {self.queries}: {self.predicted[self.chosen]:.2g} ms predicted; {there}.",
        ]

    def to_dict(self) -> dict[str, Any]:
        found = {key: value for key, value in asdict(self).items() if key != "predicted"}
        return found | {"predicted": self.predicted[self.chosen]}


@dataclass
class Story:
    """All that the page tells.

    Attributes:
        name: of the corpus. verdict, candidates: measured; of each the whole evaluation.
        test: ids of the judging queries. groups: by type and length.
        notes: sentences on data, plan and caveats, by heading.
        corpus: documents that there are. next_steps: commands. slowest: where a time was limited.
        examples: searches with the chosen system.
    """

    name: str
    verdict: Verdict
    candidates: list[Candidate]
    test: frozenset[str]
    select: frozenset[str]
    groups: list[Group]
    notes: Mapping[str, Sequence[str]]
    corpus: int
    next_steps: Sequence[str]
    slowest: Slowest | None = None
    examples: Sequence[Example] = ()


def groups_of(
    verdict: Verdict,
    values: Mapping[str, Mapping[str, float]],
    texts: Mapping[str, str],
    kinds: Mapping[str, str],
    languages: bool = False,
) -> list[Group]:
    """The chosen candidate against BM25, by the type of the queries, their length and perhaps their language; small
    groups are left out."""
    ours, theirs = values[verdict.chosen], values[verdict.baseline]
    found = []
    labels: dict[str, Callable[[str], str]] = {
        "type": kinds.__getitem__,
        "length": lambda key: length_of(texts[key]),
    }
    if languages:
        labels["language"] = lambda key: language_of(texts[key])
    for by, label in labels.items():
        names = dict.fromkeys(map(label, ours))
        ordered = [name for _, name in LENGTHS if name in names] if by == "length" else sorted(names)
        for name in ordered:
            keys = [key for key in ours if label(key) == name]
            if len(keys) >= LEAST_IN_GROUP:
                part = compare_scores({key: theirs[key] for key in keys}, {key: ours[key] for key in keys})
                found.append(Group(by, name, part))
    return found


def table(story: Story, whole: bool = True) -> tuple[list[str], list[list[str]]]:
    """One row per candidate: relevance on the judging queries, lead over BM25, cost.

    Args:
        whole: with all columns, for a page; a terminal has room for some.
    """
    heading = [
        "system",
        f"{MEASURE}",
        f"points above {story.verdict.baseline}",
        "p (Holm)",
        "R@100",
        "FLOPS",
        "ms / query",
        "index MB",
        "terms / document",
        f"{MEASURE} where chosen",
    ]
    predicted = story.slowest.predicted if story.slowest is not None else {}
    if predicted:
        heading.append(P99)
    rows = []
    for one in story.candidates:
        test = story.verdict.test(story.verdict.baseline, one.name)
        lead, p = ABSENT, ABSENT
        if test is not None:
            found = test.comparison
            interval = f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
            lead = f"{100 * found.difference:+.1f} {interval} {MARKS[test.mark]}".strip()
            p = _p(test.p)
        cost, latency = one.evaluation.cost, one.evaluation.latency
        rows.append(
            [
                one.name,
                _mean(one.evaluation, MEASURE, story.test),
                lead,
                p,
                _mean(one.evaluation, "R@100", story.test),
                f"{cost.flops:.2f}" if cost else ABSENT,
                f"{latency.p50:.2f}" if latency else ABSENT,
                f"{cost.index_bytes / 1e6:.1f}" if cost and cost.index_bytes else ABSENT,
                f"{cost.doc_terms:.0f}" if cost else ABSENT,
                _mean(one.evaluation, MEASURE, story.select),
            ]
        )
        if predicted:
            rows[-1].append(f"{predicted[one.name]:.2f}" if one.name in predicted else ABSENT)
    if not whole:
        kept = [place for place, name in enumerate(heading) if name in _SHORT or place in (0, 2)]
        return [heading[place] for place in kept], [[row[place] for place in kept] for row in rows]
    return heading, rows


def _p(value: float) -> str:
    return p_text(value).removeprefix("= ")


def _mean(evaluation: Evaluation, measure: str, keys: frozenset[str]) -> str:
    values = [value for key, value in evaluation.per_query[measure].items() if key in keys]
    return f"{sum(values) / len(values):.3f}" if values else ABSENT


def legend(story: Story) -> str:
    family = len(story.verdict.tests)
    return (
        f"{MEASURE} and R@100 on {story.verdict.queries:,} judging queries; points by which each system is ahead of "
        f"{story.verdict.baseline}, with 95% bootstrap interval; ▲ ▼ where p < .05 (paired randomisation test, "
        f"Holm over {family} comparisons). ms: median of one query, text in and ten documents out, in this process, "
        f"all systems in turn; FLOPS: multiplications per query and document. Chosen by the lead over BM25 on the "
        "queries that choose, less its standard error."
    )


def adapt_page(story: Story) -> str:
    """The whole page, with its pictures; needs no other file and no network."""
    verdict = story.verdict
    style = {SHIP: "better", KEEP: "worse"}.get(verdict.decision, "")
    headline = {
        SHIP: f"Ship: {verdict.recommended}",
        KEEP: f"Keep BM25 ({verdict.baseline})",
    }.get(verdict.decision, "Not enough evidence")
    provisional = " (provisional: queries made from the documents)" if verdict.made_queries else ""
    parts = [
        "<style>th { overflow-wrap: normal; }</style>",
        f"<h1>{html_text(story.name)}</h1>",
        f'<p style="font-size:1.35rem"><b class="{style}">{html_text(headline)}</b>'
        f'<span class="soft">{html_text(provisional)}</span></p>',
        *(f"<p>{html_text(sentence)}</p>" for sentence in verdict.sentences),
        *_price(story),
        "<h2>What was measured</h2>",
        html_table(*table(story)),
        f'<p class="small soft">{html_text(legend(story))}</p>',
    ]
    if verdict.tests:
        report = _report(story)
        against = [(one.b, one.comparison, one.mark) for one in verdict.tests if one.a == verdict.baseline]
        parts += [
            f"<h3>Ahead of {html_text(verdict.baseline)}, with 95% intervals</h3>",
            pictures.interval_lines(against, MEASURE, f"Difference in {MEASURE} from {verdict.baseline}"),
            "<h3>Relevance against cost</h3>",
            pictures.relevance_against_cost(report),
            f"<h3>{html_text(verdict.chosen)} against {html_text(verdict.baseline)}, query by query</h3>",
            pictures.query_differences(report, verdict.baseline, verdict.chosen),
        ]
        rest = [one for one in verdict.tests if one.a != verdict.baseline]
        if rest:
            rows = [
                [
                    f"{one.b} against {one.a}",
                    f"{100 * one.comparison.difference:+.1f}",
                    f"{100 * one.comparison.low:+.1f} to {100 * one.comparison.high:+.1f}",
                    f"{_p(one.p)} {MARKS[one.mark]}".strip(),
                ]
                for one in rest
            ]
            parts += [
                "<h3>Against start, teachers and the other BM25</h3>",
                html_table(["comparison", "points", "95% interval", "p (Holm)"], rows),
            ]
    if story.groups:
        rows = [
            [
                f"{group.by}: {group.name}",
                f"{group.comparison.queries:,}",
                f"{group.comparison.mean_a:.3f}",
                f"{group.comparison.mean_b:.3f}",
                f"{100 * group.comparison.difference:+.1f}",
                f"{100 * group.comparison.low:+.1f} to {100 * group.comparison.high:+.1f}",
            ]
            for group in story.groups
        ]
        heading = ["queries", "count", verdict.baseline, verdict.chosen, "points", "95% interval"]
        parts += [
            "<h2>By type and length of the query</h2>",
            html_table(heading, rows),
            '<p class="small soft">Intervals are of each group alone and not corrected for their number: a hint '
            "where to look, no verdict.</p>",
        ]
    if story.examples:
        parts.append(f"<h2>Searches with {html_text(verdict.chosen)}</h2>")
        parts += [explained_search_html(one.query, one.hits) for one in story.examples]
    shown = [
        (name, said) for name, said in SYSTEMS.items() if any(name in one.name for one in story.candidates)
    ]
    parts.append("<h2>What the systems are</h2>")
    parts += [f"<p><b>{html_text(name)}</b>: {html_text(said)}.</p>" for name, said in shown]
    for heading_text, sentences in story.notes.items():
        if sentences:
            parts.append(f"<h2>{html_text(heading_text)}</h2>")
            parts += [f"<p>{html_text(sentence)}</p>" for sentence in sentences]
    parts.append("<h2>What next</h2>")
    parts += [f"<pre>{html_text(command)}</pre>" for command in story.next_steps]
    return html_document(f"{story.name}: {headline}", parts)


def _price(story: Story) -> list[str]:
    """What the recommended system costs beside BM25."""
    by_name = {one.name: one.evaluation for one in story.candidates}
    shown, bm25 = by_name[story.verdict.chosen], by_name[story.verdict.baseline]
    if shown is bm25 or shown.cost is None or bm25.cost is None:
        return []
    said = (
        f"A query costs {shown.cost.flops:.2f} multiplications per document with {story.verdict.chosen} and "
        f"{bm25.cost.flops:.2f} with {story.verdict.baseline} "
        f"({shown.cost.flops / max(bm25.cost.flops, 1e-9):.2f} times)"
    )
    if shown.latency and bm25.latency:
        said += f", {shown.latency.p50:.2f} ms and {bm25.latency.p50:.2f} ms in this process"
    if shown.cost.index_bytes and bm25.cost.index_bytes:
        said += (
            f"; the index of {shown.cost.documents:,} documents has {shown.cost.index_bytes / 1e6:.1f} MB and "
            f"{bm25.cost.index_bytes / 1e6:.1f} MB"
        )
        if story.corpus > 1.05 * shown.cost.documents:
            times = story.corpus / shown.cost.documents
            said += (
                f", that of all {story.corpus:,} about {times * shown.cost.index_bytes / 1e6:,.0f} MB and "
                f"{times * bm25.cost.index_bytes / 1e6:,.0f} MB"
            )
    return [f'<p class="soft">{html_text(said)}. Queries need no model either way.</p>']


def points(story: Story) -> list[dict[str, Any]]:
    """Relevance on the judging queries against cost, as `plot_relevance_against_cost` draws them."""
    return [
        {
            "name": one.name,
            "kind": KINDS[one.kind],
            "cost": one.evaluation.cost.flops if one.evaluation.cost else None,
            "relevance": mean_of(one.evaluation.per_query[MEASURE], story.test),
        }
        for one in story.candidates
    ]


def _report(story: Story) -> Report:
    """The judging part alone, in the form that pictures are drawn from; BM25 first."""
    systems = []
    ordered = sorted(story.candidates, key=lambda one: one.name != story.verdict.baseline)
    for one in ordered:
        values = {key: value for key, value in one.evaluation.per_query[MEASURE].items() if key in story.test}
        mean = sum(values.values()) / max(1, len(values))
        part = Evaluation(
            one.name,
            story.name,
            means={MEASURE: mean},
            per_query={MEASURE: values},
            cost=one.evaluation.cost,
        )
        systems.append(System.of(part))
    return Report(systems, [story.name], [MEASURE], pairs=[])


def summary(story: Story) -> dict[str, Any]:
    """verdict.json: all figures of the page."""
    heading, rows = table(story, whole=False)
    return {
        "verdict": story.verdict.to_dict(),
        "candidates": [
            {"name": one.name, "kind": one.kind, "settings": one.settings, **_figures(one, story)}
            for one in story.candidates
        ],
        "groups": [{"by": one.by, "name": one.name, **one.comparison.to_dict()} for one in story.groups],
        "notes": {name: list(sentences) for name, sentences in story.notes.items()},
        "examples": [one.to_dict() for one in story.examples],
        "table": {"heading": heading, "rows": rows},
        **({"target_p99": story.slowest.to_dict()} if story.slowest is not None else {}),
    }


def _figures(one: Candidate, story: Story) -> dict[str, Any]:
    evaluation = one.evaluation
    found: dict[str, Any] = {}
    for part, keys in (("select", story.select), ("test", story.test)):
        for measure, values in evaluation.per_query.items():
            picked = [value for key, value in values.items() if key in keys]
            found[f"{part}_{measure}"] = sum(picked) / len(picked) if picked else None
    if evaluation.cost is not None:
        found |= {"FLOPS": evaluation.cost.flops, "index_bytes": evaluation.cost.index_bytes}
    if evaluation.latency is not None:
        found["latency_p50_ms"] = evaluation.latency.p50
    if story.slowest is not None and one.name in story.slowest.predicted:
        found["predicted_p99_ms"] = story.slowest.predicted[one.name]
    return found
