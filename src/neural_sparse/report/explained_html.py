"""Why a document was found, as a part of a page."""

from __future__ import annotations

from collections.abc import Sequence

from neural_sparse.report.explained import ExplainedHit, expansion_of, figures_of, snippet_of
from neural_sparse.report.html_page import html_table, html_text


def explained_search_html(query: str, hits: Sequence[ExplainedHit], max_tokens: int = 12) -> str:
    """The query and, per document, its beginning, a table of matches and the expansion."""
    parts = [f"<h3>{html_text(query)}</h3>"]
    if not hits:
        parts.append("<p>No document shares a token with it.</p>")
    for rank, hit in enumerate(hits, start=1):
        relevant = ', <span class="better">relevant</span>' if hit.relevant else ""
        rows = [
            [match.token if match.in_text else f"{match.token} (added)", *figures_of(match)]
            for match in hit.matched[:max_tokens]
        ]
        left = len(hit.matched) - max_tokens
        parts += [
            f"<p>{rank}. <b>{html_text(hit.doc_id)}</b>, score {hit.score:.2f}{relevant}</p>",
            f'<p class="small soft">{html_text(snippet_of(hit.text))}</p>',
            html_table(["matched token", "query", "document", "contribution"], rows),
            f'<p class="small soft">{f"and {left} more; " if left > 0 else ""}added by the model: '
            f"{html_text(expansion_of(hit, max_tokens))}</p>",
        ]
    return "\n".join(parts)
