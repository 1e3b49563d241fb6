"""From a folder of documents to a verdict, in stages that are each whole or absent."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from rich.console import Console

from neural_sparse.adapt.budget import Plan, plan, seconds_of_training, steps_within, too_small
from neural_sparse.adapt.candidates import (
    STOPWORD_BM25,
    STRENGTHS,
    USUAL_STRENGTH,
    Candidate,
    Judge,
    QuerySide,
    best_strength,
    mean_of,
    own_word_vectors,
    pruning_within,
)
from neural_sparse.adapt.corpus import OTHER_IDS, clean_corpus, texts_below
from neural_sparse.adapt.data import AdaptData, describe, make_data, with_general
from neural_sparse.adapt.estimate import SAMPLE_SECONDS, Estimate, estimate
from neural_sparse.adapt.examples import Example, example_searches
from neural_sparse.adapt.limits import Flops, QueryCost, SlowestTime, scaled
from neural_sparse.adapt.long_documents import LONG_SHARE, long_share
from neural_sparse.adapt.page import Slowest, Story, adapt_page, groups_of, legend, points, summary
from neural_sparse.adapt.queries import Generator, generator_of
from neural_sparse.adapt.reading import LOOKED_AT, Reading
from neural_sparse.adapt.settings import (
    FROM_DOCUMENTS,
    FROM_TITLES,
    MOST_LENGTH,
    OWN_VOCABULARY,
    START,
    TIMES_BM25,
    TIMES_BM25_MADE,
    TIMES_BM25_MADE_BESIDE,
    USUAL_LENGTH,
    AdaptSettings,
    config_values,
)
from neural_sparse.adapt.stages import Stages
from neural_sparse.adapt.training import (
    SPARE,
    bm25_flops,
    judged_teachers,
    recipe_for,
    teachers_told,
    trained_model,
)
from neural_sparse.adapt.verdict import MEASURE, Standing, Verdict, choose, decide, sure_lead
from neural_sparse.config import TeacherConfig
from neural_sparse.corpora.collection import Collection
from neural_sparse.corpora.corpus_file import corpus_texts, read_queries
from neural_sparse.corpora.qrels_file import read_qrels, whole_grades
from neural_sparse.data.training_set import TrainingSet, load_training_set
from neural_sparse.errors import DivergedError, InputError
from neural_sparse.evaluation.runs import check_ids
from neural_sparse.idf import IdfWeights, compute_idf_weights, idf_weights, save_idf_weights, without_common
from neural_sparse.io.files import (
    check_output,
    read_json,
    replacing,
    replacing_folder,
    write_json,
    write_text,
)
from neural_sparse.io.parts import alone
from neural_sparse.io.terminal import story_console
from neural_sparse.model.encoder import NeuralSparseEncoder
from neural_sparse.model.location import model_folder
from neural_sparse.model.own_vocabulary import make_start
from neural_sparse.model.own_words import mean_word_count
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.model.pruning import Pruning
from neural_sparse.opensearch.export import ExportOptions, export_model
from neural_sparse.opensearch.guards import served_name
from neural_sparse.planning.table import duration
from neural_sparse.report.explained import explained_search
from neural_sparse.report.plots import plot_relevance_against_cost
from neural_sparse.report.tables import terminal_table
from neural_sparse.search.query_time import SAMPLES, SECONDS, QueryTime, calibrate, measured_p99
from neural_sparse.teachers.bi_encoder import PreparedVectors
from neural_sparse.teachers.builder import TeacherBuilder, build_ensemble
from neural_sparse.teachers.cache import TeacherCache
from neural_sparse.teachers.endpoint import EndpointTeacher
from neural_sparse.teachers.teach import needs_of
from neural_sparse.text.languages import Analysis
from neural_sparse.text.passages import passages_of
from neural_sparse.text.ragged import Indices
from neural_sparse.text.tokens import tokenize
from neural_sparse.training.latency_target import DOCUMENTS
from neural_sparse.training.latency_target import FILE as QUERY_TIME
from neural_sparse.training.run_folder import METRICS_FILE

TRIED_STEPS = 10  # that a measurement speaks of
# IDF of a piece in 22% of the documents: particles, endings and question words, which lists of stop words hold for the
# languages that have one. On Korean training queries leaving them out gained 1.6 points at a tenth of the FLOPS
# (docs/korean.md).
COMMON_IDF_OWN_VOCABULARY = 1.5
# IDF of a token in 37% of the documents. English queries without them lose .1 points at most and cost up to two thirds
# less (docs/adapt.md).
COMMON_IDF = 1.0
ROUNDING = 1e-5  # of a weight from which a word's is taken
FEW = 100  # documents, of which a third say little about a word
OWN_START = "start"  # folder of a start with a vocabulary of its own
MADE, PEOPLE = "made queries", "people's queries"  # the cost is limited on each
MOST_ASKED = 5000
TIMING_SHARE = 1 / 60  # of the budget, for asking queries where a time is limited
TIMED_WHOLE = 1500  # documents, from which on samples of the work take their whole time


@dataclass
class AdaptResult:
    """Attributes:
    folder: everything written. page: the report. model: the winner's folder. verdict: see `Verdict`.
    """

    folder: Path
    page: Path
    model: Path
    verdict: dict[str, Any] = field(default_factory=dict)


def adapt(settings: AdaptSettings, output: str | Path, console: Console | None = None) -> AdaptResult:
    """Documents, queries, teachers, candidates, training, evaluation, a page and a verdict.

    The same call goes on where an earlier one was stopped, with the same result: each stage leaves a file.

    Args:
        settings: what is asked for.
        output: folder for everything.

    Raises:
        InputError: bad input; an output folder with another command's work, or among the documents; a model that
            cannot be loaded.
    """
    output = Path(output)
    check_output(output, folder=True)
    if texts_below(settings.corpus) and output.resolve().is_relative_to(settings.corpus.resolve()):
        raise InputError(
            f"{output} is inside {settings.corpus}, all of whose texts are documents; choose an --output elsewhere"
        )
    with alone(output.with_name(f".{output.name}"), output):
        return _Adaptation(settings, output, console or story_console()).run()


class _Adaptation:
    """One run; what stages share is made when it is first asked for."""

    def __init__(self, settings: AdaptSettings, output: Path, console: Console) -> None:
        self.settings, self.output, self.console = settings, output, console
        budget = settings.budget if settings.steps is None else None
        self.stages = Stages(output, settings.describe(), console, budget)
        self.work = output / "work"
        self.teacher_cache = settings.teacher_cache or self.work / "teachers"

    def run(self) -> AdaptResult:
        stages, output = self.stages, self.output
        corpus = stages("corpus", "Reading and cleaning the documents", self._clean)
        self.languages = corpus["languages"]
        self._say(_corpus_told(corpus))
        counted = stages("idf", "Counting how rare each token is", lambda: self._count(corpus["documents"]))
        reading = Reading(**counted)
        told = reading.told(self.settings.init)
        if reading.own_vocabulary:
            self._use_own_vocabulary()
        self._say(told)
        data = stages("data", "Making queries, parting documents", lambda: self._make_data(corpus))
        self._say(_data_told(data))
        self.settings = self.settings.reading(data["max_length"])
        if "start" in vars(self):  # loaded to count tokens
            self.start.set_max_length(data["max_length"])
        self.corpus_size = corpus["documents"]
        if self.settings.target_p99:
            stages("query_time", "Timing queries in the exact index here", self._time_queries)
        made = stages("plan", "Timing this machine on samples of what follows", self._plan)
        self.plan = Plan(**made)
        self._say([self.plan.reason])
        free = stages("free", "What costs nothing: own IDF, own words, pruning, passages", self._free)
        self._say(_free_told(free))
        taught: dict[str, Any] = {"teachers": [], "told": []}
        steps = 0
        if self.plan.train and self.training is not None:
            self._say(self._requests_told())
            taught = stages("teachers", "Judging teachers on the training part", self._teach)
            self._say(taught["told"])
            planned = stages("steps", "Planning the training", lambda: self._steps(free))
            steps = planned["steps"]
        trained: dict[str, Any] = {}
        if steps:
            self._say(
                [
                    f"{steps:,} steps, about {duration(steps * self.plan.seconds_per_step)}; Ctrl-C loses nothing"
                ]
            )
            trained = stages("training", "Training", lambda: self._train(taught, planned, free))
            self._say(trained.get("told", []))
        self.notes = self._notes(corpus, data, free, taught=taught, trained=trained)
        self.notes["Documents and queries"] += told
        found = stages("verdict", "Judging every candidate", lambda: self._judge(free, taught, trained))
        stages("model", "Exporting the model", lambda: self._export(found, free, trained))
        shutil.rmtree(self.work, ignore_errors=True)
        self._end(found)
        return AdaptResult(output, output / "report.html", output / "model", found)

    # --- what stages share -------------------------------------------------------------------------

    @cached_property
    def data(self) -> AdaptData:
        return AdaptData.load(self.output / "data", self.settings.queries is not None)

    @cached_property
    def start(self) -> NeuralSparseEncoder:
        start = NeuralSparseEncoder(self.settings.init, self.settings.max_length or MOST_LENGTH)
        self.published = QuerySide.of(start)  # before own IDF takes the place of its weights
        return start

    @cached_property
    def idf(self) -> IdfWeights:
        return idf_weights(self.output / "idf.json", self.start.tokenizer)

    @cached_property
    def collection(self) -> Collection:
        return self.data.collection(self.name, self.plan.documents, self.settings.seed)

    @property
    def name(self) -> str:
        place = self.settings.corpus.resolve()
        return place.parent.name if place.name == "corpus.jsonl" else place.stem

    @cached_property
    def own_training(self) -> TrainingSet | None:
        return self.data.training(self.plan.documents, self.settings.seed)

    @cached_property
    def training(self) -> TrainingSet | None:
        own, settings = self.own_training, self.settings
        if own is None or settings.general is None:
            return own
        return with_general(own, settings.general, settings.general_share, settings.seed)

    @cached_property
    def judge(self) -> Judge:
        return Judge(
            self.collection,
            frozenset(self.data.split.select.queries),
            self.work / "evaluations",
            language=self.language,
        )

    @cached_property
    def language(self) -> str:
        """Whose words are counted."""
        return Analysis.of(self.settings.language, self.collection.texts).language

    def _say(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self.console.print(f"  {sentence}")

    def _vectors(self, name: str, make: Callable[[], sp.csr_matrix]) -> sp.csr_matrix:
        """Vectors that a killed run need not encode again."""
        file = self.work / "vectors" / f"{name}.npz"
        if not file.is_file():
            with replacing(file) as temporary, temporary.open("wb") as out:
                sp.save_npz(out, make(), compressed=False)
        return sp.csr_matrix(sp.load_npz(file))

    def _encoded(self, model: NeuralSparseEncoder, texts: list[str]) -> sp.csr_matrix:
        return model.encode_documents(texts, show_progress=True, bf16=wanted_bf16(None, model.device))

    # --- stages ------------------------------------------------------------------------------------

    def _clean(self) -> dict[str, Any]:
        self._check_inputs()
        return clean_corpus(self.settings.corpus, self.output / "corpus" / "corpus.jsonl")

    def _check_inputs(self) -> None:
        """What would be refused later, before an hour is spent."""
        settings = self.settings
        if settings.queries is not None:
            check_ids(read_queries(settings.queries), fix=OTHER_IDS)
        for file in (settings.qrels, settings.train_qrels):
            if file is not None:
                whole_grades(read_qrels(file), str(file))
        if settings.general is not None:
            load_training_set([settings.general])
        self._generator()
        for teacher in settings.teachers:
            if teacher.has_model and teacher.name is not None:
                model_folder(teacher.name)
        for endpoint in self._endpoints():
            endpoint.endpoint.require_key()
        if settings.query_log is not None:
            read_queries(settings.query_log)
        if settings.init != OWN_VOCABULARY:
            _ = self.start

    def _generator(self) -> Generator | None:
        """What makes queries in place of the documents' own parts."""
        asked = self.settings.queries_from
        return None if asked in (FROM_DOCUMENTS, FROM_TITLES) else generator_of(asked)

    def _count(self, documents: int) -> dict[str, Any]:
        corpus, settings = self.output / "corpus" / "corpus.jsonl", self.settings
        reading = Reading(own_vocabulary=settings.init == OWN_VOCABULARY)
        if not reading.own_vocabulary:
            reading = Reading.of(list(islice(corpus_texts(corpus), LOOKED_AT)), self.start.tokenizer)
            # A model that the user named is the user's choice.
            reading = replace(reading, own_vocabulary=settings.init == START and not reading.knows)
        if reading.own_vocabulary:
            make_start(corpus_texts(corpus), self.output / OWN_START, seed=settings.seed)
            self._use_own_vocabulary()
        idf = compute_idf_weights(corpus_texts(corpus), self.start.tokenizer, show_progress=False)
        if reading.own_vocabulary:
            idf = without_common(idf, COMMON_IDF_OWN_VOCABULARY)
        elif documents >= FEW:
            idf = without_common(idf, COMMON_IDF)
        save_idf_weights(idf, self.output / "idf.json")
        return asdict(reading)

    def _use_own_vocabulary(self) -> None:
        """Start from the documents' own vocabulary; of the usual teachers BM25 alone reads its language."""
        self.settings = self.settings.starting_from(self.output / OWN_START)
        vars(self).pop("start", None)

    def _make_data(self, corpus: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings
        real = (settings.queries, settings.qrels) if settings.queries and settings.qrels else None
        data = make_data(
            self.output / "corpus" / "corpus.jsonl",
            corpus["copy_of"],
            settings.seed,
            real=real,
            train_qrels=settings.train_qrels,
            generator=self._generator(),
            titles=settings.queries_from == FROM_TITLES,
        )
        if not data.split.select.queries and not data.split.test.queries:
            raise InputError(
                f"{settings.corpus}: too few queries could be made of the documents, and without queries nothing can "
                "be judged; at least three that are not nearly the same need a title, a heading, or a first sentence "
                "of their own and more text behind it; or give real queries with --queries and --qrels"
            )
        data.save(self.output / "data")
        return describe(data, corpus["documents"]) | {"max_length": self._length(data.judged_texts)}

    def _length(self, texts: list[str]) -> int:
        """Tokens of a document that the model reads: more than usual where a tenth of the documents are longer."""
        if self.settings.max_length is not None:
            return self.settings.max_length
        longer = long_share(texts, self.start.tokenizer, USUAL_LENGTH) >= LONG_SHARE
        return min(MOST_LENGTH if longer else USUAL_LENGTH, self.start.max_length)

    def _time_queries(self) -> dict[str, Any]:
        """The cost model of --target-p99, of the start's vectors; refuses a time that no query could keep to."""
        texts, settings = self.data.judged_texts, self.settings
        rows = np.random.default_rng(0).permutation(len(texts))[:DOCUMENTS].tolist()
        self.start.set_query_weights(self.idf)
        found = calibrate(
            self._encoded(self.start, [texts[row] for row in rows]),
            QuerySide.of(self.start).encode_queries,
            [query for asked in self.asked.values() for query in asked],
            self.searched,
            seconds=min(SECONDS, TIMING_SHARE * settings.budget),
        )
        try:
            found.postings_within(settings.target_p99["milliseconds"], self.searched)
        except InputError as error:
            raise InputError(f"--target-p99: {error}") from error
        found.save(self.output / QUERY_TIME)
        return asdict(found)

    @cached_property
    def searched(self) -> int:
        """Documents of the collection in which queries are to take --target-p99."""
        return int(self.settings.target_p99.get("documents", self.corpus_size))

    @cached_property
    def cost(self) -> QueryCost:
        """What is limited."""
        if not self.settings.target_p99:
            return Flops()
        return SlowestTime(QueryTime.load(self.output / QUERY_TIME), self.searched)

    def _plan(self) -> dict[str, Any]:
        settings, documents = self.settings, len(self.data.doc_ids)
        if (small := too_small(settings.budget, self.stages.spent)) is not None and settings.steps is None:
            return asdict(small)
        self.plan = Plan(documents, True, "")
        training = self.own_training
        del self.own_training
        if training is None:
            reason = f"{len(self.data.split.train)} pairs could be made to train on, at least 32 are needed: only what "
            return asdict(Plan(documents, False, reason + "costs nothing is tried"))
        if settings.steps is not None:
            measured = self._timed(training, settings.steps)
            told = f"{settings.steps:,} steps, as asked for; {measured}"
            return asdict(Plan(documents, True, told, seconds_per_step=measured.training / settings.steps))
        measured = self._timed(training, TRIED_STEPS)
        return asdict(plan(settings.budget, self.stages.spent, measured, TRIED_STEPS, documents=documents))

    def _timed(self, training: TrainingSet, steps: int) -> Estimate:
        """How long so many steps, and what is before and after them, will take here."""
        texts, split = self.data.judged_texts, self.data.split
        recipe = recipe_for(self.settings, self.output, self.settings.teachers, steps)
        self.start.set_query_weights(self.idf)
        return estimate(
            recipe,
            self.start,
            ensemble=build_ensemble(recipe),
            queries=[*training.queries, *split.select.queries.values(), *split.test.queries.values()],
            training=training,
            documents=texts,
            encodings=1 if self.start_teacher is not None else 2,
            seconds=SAMPLE_SECONDS * min(1.0, len(texts) / TIMED_WHOLE),
        )

    def _free(self) -> dict[str, Any]:
        """Decisions about what needs no training, by the queries that choose."""
        judge, texts = self.judge, self.collection.texts
        base, words = self._start_vectors()
        queries = QuerySide.of(self.start)
        tried = {strength: judge.quick(queries, base + strength * words) for strength in STRENGTHS}
        strength = best_strength(tried)
        own = base + strength * words
        bm25 = self._bm25_flops()
        limited = self.settings.target_flops or self.times_bm25 * bm25
        most = None if self.settings.target_p99 else limited
        limits = {kind: self._limit(asked) for kind, asked in self.asked.items()}
        found: dict[str, Any] = {
            "strength": strength,
            "strengths": {f"{one:g}": mean_of(found, judge.chosen_by) for one, found in tried.items()},
            "mean_length": self.mean_length,
            "bm25_flops": bm25,
            "most_flops": most,
            "limits": limits,
            "train_most": self._training_limit(queries, own, limits),
            "max_ratio": self._ratio(queries, own, limits),
            "long": long_share(texts, self.start.tokenizer, self.start.max_length),
            "passages": False,
        }
        found["passages"] = (
            self.settings.passages and found["long"] >= LONG_SHARE and self._time_for_passages()
        )
        return found

    @cached_property
    def asked(self) -> dict[str, list[str]]:
        """Queries on which the cost is limited, by who asks them; none that judges."""
        train, select = self.data.split.train, self.data.split.select
        made = [query for query, _, kind in train if kind != "real"]
        real = [query for query, _, kind in train if kind == "real"]
        real += [text for key, text in select.queries.items() if select.kinds[key] == "real"]
        if self.settings.query_log is not None:
            real += read_queries(self.settings.query_log).values()
        if not real and not made:
            made = list(select.queries.values())
        rng = np.random.default_rng(self.settings.seed)
        return {
            who: [queries[row] for row in rng.permutation(len(queries))[:MOST_ASKED].tolist()]
            for who, queries in ((MADE, made), (PEOPLE, real))
            if queries
        }

    @property
    def times_bm25(self) -> float:
        """FLOPS that a model may have, of BM25's."""
        if self.settings.times_bm25 is not None:
            return self.settings.times_bm25
        return TIMES_BM25 if PEOPLE in self.asked else TIMES_BM25_MADE

    @property
    def beside(self) -> float:
        """The cost that a model beside BM25 may have, as a share of what others may."""
        settings = self.settings
        own = settings.target_p99 or settings.target_flops is not None or settings.times_bm25 is not None
        return 1.0 if own or PEOPLE in self.asked else TIMES_BM25_MADE_BESIDE / TIMES_BM25_MADE

    def _limit(self, asked: list[str]) -> float:
        """What these queries may cost with a model: what was asked for, or so many times BM25's FLOPS."""
        if self.settings.target_p99:
            return self.settings.target_p99["milliseconds"]
        if self.settings.target_flops is not None:
            return self.settings.target_flops
        bm25 = self.judge.usual_bm25
        theirs = self.cost.of(bm25.encode_queries(asked), bm25.document_weights())
        return self.times_bm25 * theirs

    def _ratio(
        self, queries: QuerySide, vectors: sp.csr_matrix, limits: dict[str, float], with_bm25: bool = False
    ) -> float:
        """Pruning at which the cost is within its limits, whoever asks.

        Args:
            with_bm25: whether BM25 stands in the same index.
        """
        both = self.judge.beside_bm25(queries) if with_bm25 else None
        unpruned = both.bm25.document_weights() if both is not None else None
        encode = (both or queries).encode_queries
        return max(
            (
                pruning_within(limits[who], self.cost, encode(asked), documents=vectors, unpruned=unpruned)
                for who, asked in self.asked.items()
            ),
            default=0.0,
        )

    def _training_limit(
        self, queries: QuerySide, vectors: sp.csr_matrix, limits: dict[str, float]
    ) -> float | None:
        """The cost of training queries at which people's are within their limit, as far as the start tells."""
        if PEOPLE not in self.asked or self.own_training is None:
            return None
        cost, least = self.cost, self.cost.least
        above = {
            who: cost.of(queries.encode_queries(asked), vectors) - least
            for who, asked in (
                (PEOPLE, self.asked[PEOPLE]),
                ("training", self.own_training.queries[:MOST_ASKED]),
            )
        }
        return scaled(limits[PEOPLE], above["training"] / max(above[PEOPLE], 1e-9), least)

    def _bm25_flops(self) -> float:
        self.judge.bm25(self.start.tokenizer)
        found = {one.name: one.evaluation for one in self.judge.found}
        del self.judge
        cost = found[STOPWORD_BM25].cost
        return cost.flops if cost is not None else 0.0

    def _time_for_passages(self) -> bool:
        """Whether encoding the documents once more, whole, leaves half of the budget; with steps asked for there is
        none."""
        return self.settings.steps is not None or self.stages.spent < 0.3 * self.settings.budget

    def _start_vectors(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """The start's vectors of the documents, and own words at strength 1 beside them."""
        start, texts = self.start, self.collection.texts
        shared = self.start_teacher
        start.set_query_weights(self.idf)
        start.set_own_words(0)
        base = (
            self._vectors("start", lambda: self._encoded(start, texts))
            if shared is None
            else self._taught(shared, []).document_vectors()
        )
        assert isinstance(base, sp.csr_matrix)
        return base, self._vectors("words", self._own_words)

    def _own_words(self) -> sp.csr_matrix:
        self.start.set_own_words(1.0, self.mean_length, self.language)
        words = own_word_vectors(self.start, self.collection.texts)
        self.start.set_own_words(0)
        return words

    @cached_property
    def mean_length(self) -> float:
        """Words of a document, as the start reads it."""
        texts, start = self.collection.texts, self.start
        tokens = tokenize(texts, start.tokenizer, start.max_length, special_tokens=True)
        return mean_word_count(tokens.ids, len(texts), start.tokenizer, self.language)

    @cached_property
    def start_teacher(self) -> TeacherConfig | None:
        """The teacher that gives documents the vectors that the start gives them, in 16 bits; encoded once for both.

        None of a model that was saved as an encoder: it may read less, or add own words, as a teacher.
        """
        settings = self.settings
        if (model_folder(settings.init) / "modules.json").is_file():
            return None
        return next(filter(settings.is_start, settings.teachers), None)

    def _taught(self, config: TeacherConfig, queries: list[str]) -> PreparedVectors:
        """A teacher's vectors of the documents that are searched; what its cache holds is not encoded again."""
        teacher = TeacherBuilder().teacher(config)
        found = teacher.prepare(queries, self.collection.texts, None, TeacherCache(self.teacher_cache))
        assert isinstance(found, PreparedVectors)
        return found

    def _endpoints(self) -> list[EndpointTeacher]:
        made = (TeacherBuilder().teacher(one) for one in self.settings.teachers if one.kind == "endpoint")
        return [one for one in made if isinstance(one, EndpointTeacher)]

    def _requests_told(self) -> list[str]:
        """What teachers behind an endpoint are to be asked, before they are."""
        endpoints = self._endpoints()
        done = (self.output / "stages" / "teachers.json").is_file()
        if not endpoints or done or self.training is None:
            return []
        queries = [*self.training.queries, *self.collection.queries.values()]
        documents = list(dict.fromkeys([*self.training.documents, *self.collection.texts]))
        none = np.empty((0, 2), np.int64)
        cache = TeacherCache(self.teacher_cache)
        needs = needs_of(endpoints, queries, documents, pairs=none, cache=cache)
        return [f"{one.job.name}, {one.kind}: {one.cost}" for one in needs if one.cost]

    def _teach(self) -> dict[str, Any]:
        assert self.training is not None
        assert self.own_training is not None
        chosen, quality = judged_teachers(
            self.settings, self.training, len(self.own_training), self.teacher_cache
        )
        return {
            "teachers": [config_values(one) for one in chosen],
            "told": teachers_told(chosen, quality),
            "quality": quality.to_dict() if quality is not None else None,
        }

    def _steps(self, free: dict[str, Any]) -> dict[str, Any]:
        assert self.own_training is not None
        settings = self.settings
        left = settings.budget - self.stages.spent
        if settings.steps is not None:
            steps = settings.steps
        else:
            batch = recipe_for(settings, self.output, settings.teachers, TRIED_STEPS).batch_size
            steps = steps_within(left, self.plan, len(self.own_training), batch)
            if not steps:
                self._say([f"{duration(max(0.0, left))} of the budget are left, too little to train in"])
        seconds = None if settings.steps is not None else seconds_of_training(left, self.plan)
        return {"steps": steps, **self._target(free["train_most"]), "seconds": seconds}

    def _target(self, most: float | None) -> dict[str, Any]:
        """What lambda is controlled for, as keys of a recipe.

        Args:
            most: that training queries may cost for people's to keep within their limit.
        """
        settings, least = self.settings, self.cost.least
        if settings.target_p99:
            limits = [settings.target_p99["milliseconds"], *([] if most is None else [most])]
            milliseconds = scaled(min(limits), SPARE, least)
            return {"target_p99": {"milliseconds": milliseconds, "documents": self.searched}}
        assert self.own_training is not None
        theirs = bm25_flops(self.own_training, self.language)
        target = settings.target_flops or SPARE * self.times_bm25 * theirs
        return {"target_flops": target if most is None else min(target, SPARE * most)}

    def _train(self, taught: dict[str, Any], planned: dict[str, Any], free: dict[str, Any]) -> dict[str, Any]:
        assert self.training is not None
        teachers = [TeacherConfig(**values) for values in taught["teachers"]]
        recipe = recipe_for(
            self.settings,
            self.output,
            teachers,
            planned["steps"],
            own_words=free["strength"],
            target_flops=planned.get("target_flops"),
            target_p99=planned.get("target_p99"),
            max_seconds=planned["seconds"],
        )
        if recipe.target_p99 and not (self.output / "training" / QUERY_TIME).is_file():
            QueryTime.load(self.output / QUERY_TIME).save(self.output / "training" / QUERY_TIME)
        try:
            model = trained_model(recipe, self.training, self.idf)
        except DivergedError as error:  # what costs nothing is judged all the same
            what = str(error).split(". ")[0]  # behind it, what to change in a recipe, which there is none of
            return {"told": [f"Training came to nothing, and no trained model is judged: {what}."]}
        made = read_json(self.output / "training" / METRICS_FILE)["steps"]
        if made < planned["steps"]:
            self._say(
                [f"{made:,} of {planned['steps']:,} steps fitted into the time; the schedule ended there"]
            )
        return {"model": str(model.relative_to(self.output)), **planned, "steps": made}

    def _judge(self, free: dict[str, Any], taught: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
        judge, start = self.judge, self.start
        published = self.published
        base, words = self._start_vectors()
        queries = QuerySide.of(start)
        judge.bm25(start.tokenizer)
        given = published.weights[published.weights > 0]
        if len(given) and given.max() > given.min() and not np.allclose(published.weights, queries.weights):
            judge.vectors("start, its own query weights", "start", published, base)
        judge.vectors("start, own IDF", "start", queries, base)
        own = (base + free["strength"] * words).tocsr()
        settings = {"own_words": free["strength"]}
        judge.vectors("own words", "free", queries, own, **settings)
        if ratio := free["max_ratio"]:
            pruned = Pruning(ratio)(own)
            judge.vectors("own words, pruned", "free", queries, pruned, **settings, max_ratio=ratio)
        self._judge_with_bm25("start, with BM25", "free", queries, base, limits=free["limits"])
        passages = self._passages("start", start, free) if free["passages"] else None
        if passages is not None:
            judge.passages("own words, passages", "free", queries, passages, **settings)
        if "model" in trained:
            self._judge_trained(judge, free, trained)
        for config in (TeacherConfig(**values) for values in taught["teachers"]):
            if config.kind != "bm25":
                judge.teacher(config, self._taught(config, list(self.collection.queries.values())))
        judge.stopwatch.measure()
        return self._story(judge, free)

    def _judge_with_bm25(
        self,
        name: str,
        kind: str,
        queries: QuerySide,
        vectors: sp.csr_matrix,
        *,
        limits: dict[str, float],
    ) -> None:
        """
        Args:
            vectors: without own words, which BM25 counts.
        """
        if self.settings.init == str(self.output / OWN_START):  # which knows nothing but words
            return
        ratio = self._ratio(
            queries, vectors, {who: self.beside * most for who, most in limits.items()}, with_bm25=True
        )
        pruned = {"max_ratio": ratio} if ratio else {}
        self.judge.with_bm25(name, kind, queries, Pruning(ratio)(vectors), own_words=0.0, **pruned)

    def _judge_trained(self, judge: Judge, free: dict[str, Any], trained: dict[str, Any]) -> None:
        student = NeuralSparseEncoder(self.output / trained["model"])
        vectors = self._vectors("trained", lambda: self._encoded(student, self.collection.texts))
        queries = QuerySide.of(student)
        judge.vectors("trained", "trained", queries, vectors)
        if ratio := self._ratio(queries, vectors, free["limits"]):
            pruned = Pruning(ratio)(vectors)
            judge.vectors("trained, pruned", "trained", queries, pruned, max_ratio=ratio)
        without = vectors - own_word_vectors(student, self.collection.texts)
        without.data[without.data < ROUNDING] = 0
        without.eliminate_zeros()
        self._judge_with_bm25("trained, with BM25", "trained", queries, without, limits=free["limits"])
        by_name = {one.name: judge.chosen_value(one.evaluation) for one in judge.found}
        if free["passages"] and by_name["own words, passages"] > by_name["own words"]:
            passages = self._passages("trained", student, free)
            judge.passages("trained, passages", "trained", queries, passages)

    def _passages(
        self, name: str, model: NeuralSparseEncoder, free: dict[str, Any]
    ) -> tuple[sp.csr_matrix, Indices]:
        found, counts = passages_of(self.collection.texts, model.tokenizer, model.max_length)
        if name == "start":
            model.set_own_words(free["strength"], free["mean_length"], self.language)
        vectors = self._vectors(f"{name}-passages", lambda: self._encoded(model, found))
        if name == "start":
            model.set_own_words(0)
        return vectors, counts

    def _story(self, judge: Judge, free: dict[str, Any]) -> dict[str, Any]:
        split = self.data.split
        select, test = frozenset(split.select.queries), frozenset(split.test.queries)

        def values_of(one: Candidate) -> dict[str, float]:
            return {key: value for key, value in one.evaluation.per_query[MEASURE].items() if key in select}

        strongest = max(
            (one for one in judge.found if one.kind == "bm25"),
            key=lambda one: mean_of(one.evaluation.per_query[MEASURE], select),
        )
        standings = [
            Standing(
                one.name,
                one.kind,
                select=mean_of(one.evaluation.per_query[MEASURE], select),
                flops=one.evaluation.cost.flops if one.evaluation.cost else None,
                of_limit=self._of_limit(judge, one, free),
                lead=sure_lead(values_of(one), values_of(strongest)),
            )
            for one in judge.found
        ]
        choice = choose(standings)
        values = {
            one.name: {key: value for key, value in one.evaluation.per_query[MEASURE].items() if key in test}
            for one in judge.found
        }
        verdict = decide(choice, standings, values, not self.data.real)
        languages = len(self.languages) > 1
        groups = groups_of(verdict, values, split.test.queries, kinds=split.test.kinds, languages=languages)
        repeats = _repeats_told(verdict.chosen, judge)
        slowest = self._slowest(judge, choice.chosen) if self.settings.target_p99 else None
        costs = self._cost_told(free, choice.over_cost, slowest)
        notes = {**self.notes, "Repeated words": repeats, "Cost": costs}
        story = Story(
            self.name,
            verdict,
            judge.found,
            test=test,
            select=select,
            groups=groups,
            notes=notes,
            corpus=self.corpus_size,
            next_steps=self._next(verdict, judge),
            slowest=slowest,
            examples=self._examples(verdict.chosen, judge),
        )
        write_text(self.output / "report.html", adapt_page(story))
        plot_relevance_against_cost(points(story), self.output / "relevance_against_cost.png")
        found = summary(story) | {"legend": legend(story), "next": list(story.next_steps)}
        write_json(self.output / "verdict.json", found)
        return found

    def _examples(self, chosen: str, judge: Judge) -> list[Example]:
        """Judging queries searched for with the chosen system; none where documents are found by passages."""
        queries, vectors = judge.indexed[chosen]
        if vectors.shape[0] != len(self.collection.doc_ids):
            return []
        return example_searches(
            self.start,
            queries,
            vectors,
            collection=self.collection,
            query_ids=list(self.data.split.test.queries),
        )

    def _of_limit(self, judge: Judge, one: Candidate, free: dict[str, Any]) -> float:
        """What queries cost with a model, as a share of what they may: the judged ones (FLOPS), people's, and made ones
        where a time is limited (their FLOPS are those of the judged ones)."""
        if one.name not in judge.indexed:  # a dense teacher
            return 0.0
        limits = {
            who: most for who, most in free["limits"].items() if who == PEOPLE or self.settings.target_p99
        }
        shares = [self._cost(judge, one.name, who) / max(most, 1e-9) for who, most in limits.items()]
        if free["most_flops"] is not None and one.evaluation.cost is not None:
            shares.append(one.evaluation.cost.flops / max(free["most_flops"], 1e-9))
        more = self.beside if "bm25_weight" in one.settings else 1.0
        return max(shares, default=0.0) / more

    def _cost(self, judge: Judge, name: str, who: str) -> float:
        queries, vectors = judge.indexed[name]
        return self.cost.of(queries.encode_queries(self.asked[who]), vectors, len(self.collection.doc_ids))

    def _export(self, found: dict[str, Any], free: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
        """The recommended model, or the one that did best where BM25 is recommended."""
        verdict = found["verdict"]
        kinds = {one["name"]: one["kind"] for one in found["candidates"]}
        settings = {one["name"]: one["settings"] for one in found["candidates"]}
        exported = verdict["recommended"]
        if kinds[exported] == "bm25":
            exported = verdict["chosen"]
        if kinds[exported] == "trained":
            model = NeuralSparseEncoder(self.output / trained["model"])
        else:
            model = NeuralSparseEncoder(self.settings.init, self.start.max_length)
            if exported != "start, its own query weights":
                model.set_query_weights(self.idf)
        if "own_words" in settings[exported]:
            model.set_own_words(settings[exported]["own_words"], free["mean_length"], self.language)
        with replacing_folder(self.output / "model") as folder:
            model.save_pretrained(str(folder), create_model_card=False)
        told = ""
        try:
            target = self.output / "export"
            shutil.rmtree(target, ignore_errors=True)
            name = served_name(self.name) if self.name.isascii() else "adapted"
            options = ExportOptions(name=name, clip_query_weights=True)
            export_model(NeuralSparseEncoder(self.output / "model"), target, options=options)
        except InputError as error:  # a model that OpenSearch cannot serve is still a model
            told = f"not exported for OpenSearch: {error}"
            self._say([told])
        return {"name": exported, "told": told}

    # --- words -------------------------------------------------------------------------------------

    def _notes(
        self,
        corpus: dict[str, Any],
        data: dict[str, Any],
        free: dict[str, Any],
        taught: dict[str, Any],
        trained: dict[str, Any],
    ) -> dict[str, list[str]]:
        budget = f"The budget was {duration(self.settings.budget)}; "
        notes = {
            "Documents and queries": _corpus_told(corpus) + _data_told(data),
            "What costs nothing": _free_told(free),
            "Teachers": list(taught["told"]),
            "Time": [
                f"{'' if self.settings.steps else budget}{self.plan.reason}.",
                *trained.get("told", []),
            ],
        }
        if self.plan.documents < data["documents"]:
            notes["Time"].append(
                f"Candidates were judged among {len(self.collection.texts):,} of {data['documents']:,} documents (all "
                "that answer a query, and others drawn at random): among all of them every figure is lower."
            )
        if "model" in trained:
            mixed = (
                "Pairs of other texts were mixed in, so that less is forgotten; how much less has to be measured on "
                "another collection."
                if self.settings.general is not None
                else "Mix in general pairs (--general PAIRS) where the model is to serve other texts, too."
            )
            notes["What the trained model forgets"] = [
                "A student trained on one corpus alone gets worse on others: use it for this one. " + mixed
            ]
        return notes

    def _slowest(self, judge: Judge, chosen: str) -> Slowest:
        """What the cost model says of all candidates, and what the chosen one takes."""
        queries, vectors = judge.indexed[chosen]
        slow = max(self.asked, key=lambda who: self._cost(judge, chosen, who))
        documents = len(self.collection.doc_ids)
        rows = vectors.shape[0] / documents
        query_time = QueryTime.load(self.output / QUERY_TIME)
        took, indexed = measured_p99(
            vectors,
            queries.encode_queries,
            self.asked[slow][:SAMPLES],
            round(self.searched * rows),
            mode=query_time.mode,
        )
        there = SlowestTime(query_time, round(indexed / rows))
        return Slowest(
            self.settings.target_p99["milliseconds"],
            self.searched,
            predicted={
                name: max(self._cost(judge, name, who) for who in self.asked) for name in judge.indexed
            },
            chosen=chosen,
            queries=slow,
            measured=took,
            measured_documents=there.size,
            predicted_there=there.of(queries.encode_queries(self.asked[slow]), vectors, documents),
        )

    def _cost_told(self, free: dict[str, Any], over_cost: list[str], slowest: Slowest | None) -> list[str]:
        if slowest is not None:
            said = slowest.told()
        else:
            asked = "as asked for" if self.settings.target_flops else f"{self.times_bm25:g} times BM25's"
            each = ", ".join(f"{limit:.2f} on {who}" for who, limit in free["limits"].items())
            most = f"{free['most_flops']:.2f}"
            said = [f"Candidates may have FLOPS up to {most} on the judged queries, {each} ({asked})."]
            if self.beside > 1:
                said.append(f"Those beside BM25 may have {self.times_bm25 * self.beside:g} times BM25's.")
        if over_cost:
            said.append(f"More than that, and chosen only if nothing else were left: {', '.join(over_cost)}.")
        return said

    def _next(self, verdict: Verdict, judge: Judge) -> list[str]:
        by_name = {one.name: one for one in judge.found}
        name = verdict.recommended if by_name[verdict.recommended].kind != "bm25" else verdict.chosen
        settings = by_name[name].settings
        prune = f" --max-ratio {settings['max_ratio']}" if "max_ratio" in settings else ""
        if settings.get("passages"):
            prune += f" --passages {self.start.max_length}"
        beside, deployed, clauses = "", "", []
        if "max_ratio" in settings:
            deployed = f" --prune {settings['max_ratio']}"
        if weight := settings.get("bm25_weight"):
            beside = f" --fuse bm25 --fusion sum --weight {1 / (1 + weight):.3f}"
            words = {"bigrams": "cjk", "plain": None, "korean": None}.get(self.language, self.language)
            deployed += f" --text-analyzer {words}" if words else ""
            clauses = [
                '{"query": {"bool": {"should": [{"neural_sparse": {"embedding": {"query_text": "a query"}}}, '
                f'{{"match": {{"text": {{"query": "a query", "boost": {weight:g}}}}}}}]}}}}}}'
            ]
        model, corpus, index, export = (
            shlex.quote(str(self.output / part)) for part in ("model", "corpus", "index", "export")
        )
        return [
            f"neural-sparse encode {model} --corpus {corpus}{prune} --output {index}",
            f'neural-sparse search {index} --count-repeats{beside} "a query"',
            f"neural-sparse deploy {export}{deployed} --url https://search.example.org:9200",
            *clauses,
        ]

    def _end(self, found: dict[str, Any]) -> None:
        console = self.console
        console.print()
        shown = found["table"]
        console.print(terminal_table(shown["heading"], shown["rows"], self.name))
        console.print(found["legend"], style="dim")
        for one in map(Example.of, found["examples"]):
            console.print()
            console.print(explained_search(one.query, one.hits))
        console.print()
        console.print(
            f"Verdict: {found['verdict']['decision']} ({found['verdict']['recommended']})", style="bold"
        )
        for sentence in found["verdict"]["sentences"]:
            console.print(sentence)
        console.print(f"\n{duration(self.stages.spent)} in all. The page: {self.output / 'report.html'}")


def _repeats_told(chosen: str, judge: Judge) -> list[str]:
    said = [
        "A word that a query repeats counts as often as it is there, in all systems alike. So does an engine that is "
        "sent the query's tokens with their weights (query_tokens); one that tokenizes queries itself counts it once, "
        "which matters for long queries."
    ]
    if (found := judge.counted_once(chosen)) is not None:
        said.append(
            f"{chosen}, counting once: {MEASURE} {found[1]:.3f} on the judging queries, in place of {found[0]:.3f}."
        )
    return said


def _corpus_told(corpus: dict[str, Any]) -> list[str]:
    said = [
        f"{corpus['documents']:,} documents of {corpus['read']:,} read: {corpus['copies']:,} copies and "
        f"{corpus['empty']:,} empty ones left out, {corpus['repaired']:,} repaired."
    ]
    if len(corpus["languages"]) > 1:
        shares = ", ".join(f"{code} {share:.0%}" for code, share in corpus["languages"].items())
        said.append(
            f"Several languages: {shares}. A model reads those that it was pre-trained on; look at the figures of each "
            "kind of query."
        )
    return said


def _data_told(data: dict[str, Any]) -> list[str]:
    kinds, trained = (
        ", ".join(f"{count:,} {kind}" for kind, count in sorted(data[part].items())) or "none"
        for part in ("kinds", "trained_kinds")
    )
    said = [
        f"Queries: {data['train']:,} to train on ({trained}), {data['select']:,} to choose by, {data['test']:,} to "
        f"judge by (the latter two: {kinds}).",
        f"{data['kept_from_training']:,} documents are kept from training, for they answer a query of the latter two "
        f"or are nearly such a document; {data['left_out']:,} training texts were too near to what is judged.",
    ]
    said.append(f"The model reads {data['max_length']} tokens of a document.")
    if data["documents"] < data["corpus"]:
        said.append(
            f"A sample of {data['documents']:,} of {data['corpus']:,} documents is worked on; token counts are of all."
        )
    return said


def _free_told(free: dict[str, Any]) -> list[str]:
    tried = ", ".join(f"{strength}: {value:.3f}" for strength, value in free["strengths"].items())
    said = [
        f"Strength of own words, nDCG@10 where candidates are chosen: {tried}; taken: {free['strength']:g} "
        f"({USUAL_STRENGTH:g} unless another is better by more than chance)."
    ]
    if free["long"] >= LONG_SHARE:
        tail = "passages are tried" if free["passages"] else "passages are not tried"
        said.append(f"{free['long']:.0%} of the documents are longer than the model reads; {tail}.")
    return said
