"""What `refresh` is asked for, checked before the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neural_sparse.errors import InputError, check_seed

MOST_ENCODED = 2000  # new documents that are encoded to judge and to look at


@dataclass(frozen=True)
class RefreshSettings:
    """
    Attributes:
        base: a folder that `encode` wrote, or a model.
        documents: the new ones: a folder in BEIR layout, a file of rows, a text file with a document per line, or a
            folder of .txt and .md files. One whose id the index has replaces that one.
        corpus: the old documents, of a model; an index holds them.
        counts: document frequencies of the old documents (`idf --counts`), in place of counting them.
        start: the IDF that training began at; None: IDF of the old documents.
        queries, qrels: kept queries and their judgements; both or neither.
        model: encodes new documents; None: the one that the base names.
        sample: new documents that are encoded, and old ones of a model, at most.
        count_repeats: a token weighs as often as a query holds it; as the engine does it.
        force: use the new weights although they are worse.
        seed: of everything random.
    """

    base: str
    documents: Path
    corpus: Path | None = None
    counts: Path | None = None
    start: Path | None = None
    queries: Path | None = None
    qrels: Path | None = None
    model: str | None = None
    sample: int = MOST_ENCODED
    count_repeats: bool = False
    force: bool = False
    seed: int = 42

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if (self.queries is None) != (self.qrels is None):
            lacking = "--qrels" if self.qrels is None else "--queries"
            raise InputError(f"kept queries need both --queries and --qrels ({lacking} is missing)")
        for path in (self.documents, self.corpus, self.counts, self.start, self.queries, self.qrels):
            if path is not None and not path.exists():
                raise InputError(f"{path}: no such file or folder")
        if self.sample < 1:
            raise InputError(f"--sample must be at least 1, not {self.sample}")
