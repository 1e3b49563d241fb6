"""Why a document was found: the tokens that matched, and those the model added to the text."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

SNIPPET = 240  # characters


@dataclass(frozen=True)
class MatchedToken:
    """A token of the query that the document's vector holds; `in_text` is False where the model added it."""

    token: str
    query_weight: float
    doc_weight: float
    in_text: bool

    @property
    def contribution(self) -> float:
        """What the token adds to the score."""
        return self.query_weight * self.doc_weight


@dataclass(frozen=True)
class ExplainedHit:
    """A document found for a query.

    Attributes:
        doc_id, text, score: the document and its score.
        matched: tokens shared with the query, largest contribution first; their contributions add up to the
            score.
        expansion: (token, weight) of the document's vector that its text does not contain, heaviest first.
        relevant: whether it is what was looked for; None where nobody judged.
    """

    doc_id: str
    text: str
    score: float
    matched: tuple[MatchedToken, ...]
    expansion: tuple[tuple[str, float], ...]
    relevant: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, contributions included."""
        matched = [{**asdict(token), "contribution": token.contribution} for token in self.matched]
        return {**asdict(self), "matched": matched, "expansion": [list(pair) for pair in self.expansion]}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ExplainedHit:
        """Of `to_dict`."""
        matched = tuple(
            MatchedToken(**{key: value for key, value in one.items() if key != "contribution"})
            for one in values["matched"]
        )
        expansion = tuple((str(token), float(weight)) for token, weight in values["expansion"])
        return cls(**{**values, "matched": matched, "expansion": expansion})


def explain_hit(
    doc_id: str,
    text: str,
    query_weights: Mapping[str, float],
    doc_weights: Mapping[str, float],
    text_tokens: Collection[str],
    relevant: bool | None = None,
) -> ExplainedHit:
    """Take a score apart: sum over shared tokens of query weight x document weight (equation 5).

    Args:
        query_weights, doc_weights: token -> weight; weights of 0 are no tokens of a vector.
        text_tokens: tokens of the document's own text, by the model's tokenizer.

    >>> query, document = {"sort": 2.0, "lists": 3.0}, {"sort": 1.5, "order": 0.5}
    >>> hit = explain_hit("d1", "Sorts in place.", query, document, text_tokens=["sort", "in", "place"])
    >>> hit.score, hit.matched[0].token, hit.expansion
    (3.0, 'sort', (('order', 0.5),))
    """
    own = set(text_tokens)
    shared = [token for token, weight in doc_weights.items() if weight and query_weights.get(token)]
    matched = [
        MatchedToken(token, float(query_weights[token]), float(doc_weights[token]), token in own)
        for token in shared
    ]
    matched.sort(key=lambda match: (-match.contribution, match.token))
    added = [(token, float(weight)) for token, weight in doc_weights.items() if weight and token not in own]
    added.sort(key=lambda pair: (-pair[1], pair[0]))
    score = sum(match.contribution for match in matched)
    return ExplainedHit(
        doc_id, text, score=score, matched=tuple(matched), expansion=tuple(added), relevant=relevant
    )


def explained_search(query: str, hits: Sequence[ExplainedHit], max_tokens: int = 12) -> RenderableType:
    """For the terminal: the query and, per document, its beginning, a table of matches and the expansion."""
    parts: list[RenderableType] = [Text.assemble(("query  ", "dim"), (query, "bold cyan"))]
    if not hits:
        parts.append(Text("  no document shares a token with it", style="dim"))
    for rank, hit in enumerate(hits, start=1):
        heading = Text.assemble((f"{rank}. ", "dim"), (hit.doc_id, "bold"), f"  {hit.score:.2f}")
        if hit.relevant:
            heading.append("  relevant", style="green")
        snippet = Text(snippet_of(hit.text))
        words = [match.token for match in hit.matched if match.in_text and match.token.isalnum()]
        if words:
            snippet.highlight_regex(rf"(?i)\b({'|'.join(map(re.escape, words))})\b", "bold yellow")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("matched token")
        for title in ("query", "document", "contribution"):
            table.add_column(title, justify="right")
        for match in hit.matched[:max_tokens]:
            name = Text(match.token) if match.in_text else Text(f"{match.token} (added)", style="magenta")
            table.add_row(name, *figures_of(match))
        parts += [Text(), heading, Padding(snippet, (0, 0, 0, 3)), Padding(table, (0, 0, 0, 3))]
        if len(hit.matched) > max_tokens:
            parts.append(Text(f"   and {len(hit.matched) - max_tokens} more", style="dim"))
        added = Text.assemble(("added by the model: ", "dim"), (expansion_of(hit, max_tokens), "magenta"))
        parts.append(Padding(added, (0, 0, 0, 3)))
    return Group(*parts)


def figures_of(match: MatchedToken) -> tuple[str, str, str]:
    """Weight in the query, weight in the document, contribution."""
    return f"{match.query_weight:.2f}", f"{match.doc_weight:.2f}", f"{match.contribution:.2f}"


def expansion_of(hit: ExplainedHit, max_tokens: int) -> str:
    """What the model added, heaviest first."""
    if not hit.expansion:
        return "nothing"
    shown = ", ".join(f"{token} {weight:.2f}" for token, weight in hit.expansion[:max_tokens])
    left = len(hit.expansion) - max_tokens
    return f"{shown} and {left} more" if left > 0 else shown


def snippet_of(text: str) -> str:
    """The beginning of a text on one line, cut between words."""
    line = " ".join(text.split())
    if len(line) <= SNIPPET:
        return line
    return line[:SNIPPET].rsplit(" ", 1)[0] + " …"
