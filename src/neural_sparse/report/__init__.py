"""What is shown: tables, pictures, pages, and why a document was found."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.report.comparison import markdown, print_report
    from neural_sparse.report.explained import ExplainedHit, explain_hit, explained_search
    from neural_sparse.report.html_page import write_report
    from neural_sparse.report.pictures import relevance_against_cost
    from neural_sparse.report.plots import plot_losses, plot_relevance_against_cost

__all__ = [
    "ExplainedHit",
    "explain_hit",
    "explained_search",
    "markdown",
    "plot_losses",
    "plot_relevance_against_cost",
    "print_report",
    "relevance_against_cost",
    "write_report",
]
__getattr__, __dir__ = lazy(__name__)
