"""New documents are counted, query weights follow, both are judged, and the query side gets a new version."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from rich.console import Console

from neural_sparse.adapt.corpus import Text, clean_corpus, held_documents
from neural_sparse.adapt.settings import corpus_sum
from neural_sparse.corpora.corpus_file import corpus_documents, corpus_texts, read_queries
from neural_sparse.corpora.qrels_file import Qrels, read_qrels, whole_grades
from neural_sparse.engines.query_package import write_query_side
from neural_sparse.errors import InputError
from neural_sparse.idf import (
    DocumentFrequencies,
    IdfWeights,
    MovedToken,
    MovedTokens,
    idf_weights,
    merge,
    moved_tokens,
    refreshed_weights,
    save_idf_weights,
)
from neural_sparse.idf.weights import read_table
from neural_sparse.io.files import check_output, replacing, write_json
from neural_sparse.io.parts import alone
from neural_sparse.io.terminal import story_console
from neural_sparse.model.location import content_hash, model_folder
from neural_sparse.model.precision import wanted_bf16
from neural_sparse.planning.estimate import Estimate
from neural_sparse.planning.table import duration
from neural_sparse.refresh.base import Base, frequencies
from neural_sparse.refresh.drift import RETRAINING, Drift, drift_of, retraining
from neural_sparse.refresh.judging import (
    KEPT,
    OF_NEW,
    OF_OLD,
    Judged,
    Searched,
    decide,
    judge,
    made_queries,
)
from neural_sparse.refresh.settings import RefreshSettings
from neural_sparse.refresh.versions import ABOUT, CURRENT, Versions
from neural_sparse.report.tables import terminal_table
from neural_sparse.text.keys import add_texts

Group = tuple[Searched, Mapping[str, str], Qrels]  # documents, queries, judgements
_Documents = tuple[list[Text], list[Text], Searched]  # old ones, new ones, both
TOGETHER = 500  # documents whose vectors are kept as they are made
QUERY, IDF, COUNTS = "query", "idf.json", "counts.safetensors"  # in a version's folder


@dataclass(frozen=True)
class RefreshResult:
    """Attributes:
    version: number of what was written. used: whether it is the current one now.
    folder: of that version: query/ (a query package), idf.json, counts.safetensors, refresh.json.
    judged: by group of queries. moved: tokens. drift: of the document side; reason: of the decision.
    retraining: estimates of the stages, where the document side has drifted.
    """

    version: int
    used: bool
    folder: Path
    judged: tuple[Judged, ...]
    moved: MovedTokens
    drift: Drift
    reason: str
    retraining: tuple[Estimate, ...] = ()


def refresh(settings: RefreshSettings, output: str | Path, console: Console | None = None) -> RefreshResult:
    """Count new documents, adapt the query weights, judge them against the old ones, and write the query side.

    Documents that are indexed stay as they are: in an inference-free model IDF and learned weights stand on the query
    side. New documents are encoded only as far as they are needed to judge (and to be indexed, which is not done here).

    Args:
        output: folder of versions; `output`/current is the one in use.

    Raises:
        InputError: bad input; a folder that holds something else; documents that were counted before.
    """
    output = Path(output)
    check_output(output, folder=True)
    with alone(output.with_name(f".{output.name}"), output):
        return _Refresh(settings, output, console or story_console()).run()


class _Refresh:
    def __init__(self, settings: RefreshSettings, output: Path, console: Console) -> None:
        self.settings, self.console = settings, console
        self.versions = Versions(output)
        self.work = output.with_name(f".{output.name}.work")
        self.source = corpus_sum(settings.documents)
        self.base = Base.of(settings)
        self.kept = self._kept_queries()

    def _kept_queries(self) -> tuple[dict[str, str], Qrels]:
        queries, qrels = self.settings.queries, self.settings.qrels
        if queries is None or qrels is None:
            return {}, {}
        return read_queries(queries), whole_grades(read_qrels(qrels), str(qrels))

    def run(self) -> RefreshResult:
        say, base = self.console.print, self.base
        self.work.mkdir(parents=True, exist_ok=True)
        cleaned = clean_corpus(self.settings.documents, self.work / "corpus.jsonl")
        left_out = f"{cleaned['copies']:,} copies and {cleaned['empty']:,} empty ones left out"
        say(f"{cleaned['documents']:,} new documents, {left_out}")
        # Before anything is encoded: is this tokenizer's, were these counted before?
        before, weights = self._before()
        old = self._kept_counts(before)
        new = frequencies(corpus_texts(self.work / "corpus.jsonl"), base.tokenizer, self.source)
        after = merge([old, new])
        table = (
            None if self.settings.start is None or self.versions.current else read_table(self.settings.start)
        )
        refreshed = refreshed_weights(weights, before, after, tokenizer=base.tokenizer, start=table)
        moved = moved_tokens(old, new, weights, refreshed)
        self._say_moved(moved, old.documents, new.documents)
        searched, groups = self._groups()
        drift = self._drift(searched)
        judged = judge(
            groups,
            base.tokenizer,
            before=weights.vector,
            after=refreshed.vector,
            count_repeats=self.settings.count_repeats,
        )
        used, reason = decide(judged)
        used = used or self.settings.force
        estimates = self._say_drift(drift, after.documents) if drift.warnings else ()
        for one in judged:
            say(str(one) + ("; most are answered anyway, so that they say little" if one.easy else ""))
        version = self._write(
            (before, weights),
            (after, refreshed),
            used,
            {
                "documents": str(self.settings.documents),
                "old_documents": old.documents,
                "new_documents": new.documents,
                "moved": moved.to_dict(),
                "drift": drift.to_dict(),
                "judged": [one.to_dict() for one in judged],
                "reason": reason,
                "retraining_seconds": {one.stage: one.seconds for one in estimates},
            },
        )
        shutil.rmtree(self.work, ignore_errors=True)
        folder = self.versions.place(version)
        say(
            f"Version {version} {'is in use' if used else 'was written and is not used'}: {reason}.",
            style="bold",
        )
        if used:
            say(f"query side: {self.versions.folder / CURRENT / QUERY}; weights: {folder / IDF}")
        return RefreshResult(
            version,
            used,
            folder,
            tuple(judged),
            moved=moved,
            drift=drift,
            reason=reason,
            retraining=tuple(estimates),
        )

    # --- counting ----------------------------------------------------------------------------------

    @cached_property
    def new_ids(self) -> frozenset[str]:
        return frozenset(doc_id for doc_id, _ in corpus_documents(self.work / "corpus.jsonl"))

    def _before(self) -> tuple[DocumentFrequencies, IdfWeights]:
        """What the weights in use stand on, and these."""
        now, settings = self.versions.current, self.settings
        if now is not None:
            folder = self.versions.place(now)
            counts = DocumentFrequencies.load(folder / COUNTS)
            self._check_family()
            if self.source in counts.sources:
                raise InputError(
                    f"{settings.documents} was counted before, in version {now} of {self.versions.folder} or one that "
                    "it was made from; name documents that are new"
                )
            return counts, idf_weights(folder / IDF, self.base.tokenizer)
        if settings.counts is not None:
            return DocumentFrequencies.load(settings.counts), self.base.weights
        return self.base.counted(), self.base.weights

    def _kept_counts(self, before: DocumentFrequencies) -> DocumentFrequencies:
        """Without the documents that new ones replace, where all are there to be counted.

        From the second refresh on both texts of a replaced document count.
        """
        if self.versions.current is not None or self.settings.counts is not None:
            return before
        replaced = any(one.doc_id in self.new_ids for one in self.base.documents())
        return self.base.counted(self.new_ids) if replaced else before

    def _check_family(self) -> None:
        """The base's query side is one of the versions; else it was trained anew since."""
        for number in self.versions.numbers():
            known = idf_weights(self.versions.place(number) / IDF, self.base.tokenizer)
            if np.allclose(known.vector, self.base.weights.vector, rtol=1e-5):
                return
        raise InputError(
            f"{self.versions.folder} holds versions of another query side than that of {self.base.name}, which was "
            "made anew since: choose another --output"
        )

    # --- judging -----------------------------------------------------------------------------------

    def _encoded(self, documents: list[str]) -> sp.csr_matrix:
        """Vectors of texts; kept in the work folder until the version is written."""
        encoder = self.base.encoder
        model = content_hash(model_folder(self.base.model_name))
        half = wanted_bf16(None, encoder.device)
        parts = []
        for start in range(0, len(documents), TOGETHER):
            texts = documents[start : start + TOGETHER]
            digest = hashlib.sha256(f"{model} {encoder.max_length} {self.base.pruning}".encode())
            add_texts(digest, texts)
            file = self.work / f"{digest.hexdigest()[:32]}.npz"
            if not file.is_file():
                vectors = self.base.pruning(encoder.encode_documents(texts, show_progress=True, bf16=half))
                with replacing(file) as temporary, temporary.open("wb") as out:
                    sp.save_npz(out, vectors, compressed=False)
            parts.append(sp.load_npz(file))
        return sp.vstack(parts, format="csr")

    def _vectors(self, documents: list[Text]) -> sp.csr_matrix:
        """From the index where it holds them, else encoded."""
        known, there = self.base.known_vectors(documents)
        missing = [one.whole for one, kept in zip(documents, there.tolist(), strict=True) if not kept]
        if not missing:
            return known
        both = sp.vstack([known, self._encoded(missing)], format="csr")
        return both[np.argsort(np.argsort(~there, kind="stable"), kind="stable")]

    def _groups(self) -> tuple[_Documents, dict[str, Group]]:
        settings = self.settings
        queries, qrels = self.kept
        needed = frozenset(doc_id for grades in qrels.values() for doc_id in grades)
        old = self.base.sample(settings.sample, settings.seed, self.new_ids, needed)
        corpus = self.work / "corpus.jsonl"
        new = held_documents(corpus, settings.sample, settings.seed, needed & self.new_ids)
        self.console.print(
            f"Judging among {len(old):,} old and {len(new):,} new documents; those that no index holds are encoded"
        )
        both = [*old, *new]
        ids, texts = [one.doc_id for one in both], [one.whole for one in both]
        searched = Searched(ids, texts, self._vectors(both))
        groups: dict[str, Group] = {}
        if queries:
            groups[KEPT] = searched, queries, self._known(qrels, frozenset(queries), frozenset(ids))
        for name, documents in ((OF_NEW, new), (OF_OLD, old)):
            found = made_queries(documents, settings.seed)
            if len(found.queries) > 1:
                hidden = searched.with_hidden(found, self._encoded(list(found.hidden.values())))
                groups[name] = hidden, found.queries, found.qrels
        return (old, new, searched), groups

    def _known(self, qrels: Qrels, queries: frozenset[str], there: frozenset[str]) -> Qrels:
        """Judgements of known queries and documents."""
        kept: Qrels = {}
        for key, grades in qrels.items():
            known = {one: grade for one, grade in grades.items() if one in there}
            if key in queries and any(grade > 0 for grade in known.values()):
                kept[key] = known
        if not kept:
            raise InputError(
                f"{self.settings.qrels}: no judgement above 0 names a query of {self.settings.queries} and a document "
                f"of {self.settings.base} or {self.settings.documents}; do the ids agree?"
            )
        return kept

    def _drift(self, searched: _Documents) -> Drift:
        old, new, both = searched
        return drift_of(
            ([one.whole for one in old], both.vectors[: len(old)]),
            ([one.whole for one in new], both.vectors[len(old) :]),
            self.base.tokenizer,
            self.base.max_length or self.base.encoder.max_length,
        )

    # --- writing -----------------------------------------------------------------------------------

    def _write(
        self,
        before: tuple[DocumentFrequencies, IdfWeights],
        after: tuple[DocumentFrequencies, IdfWeights],
        used: bool,
        about: dict[str, Any],
    ) -> int:
        """The new version; before the first one, what was there becomes version 1."""
        if self.versions.current is None:
            with self.versions.adding() as (number, folder):
                first = {"reason": f"the query side of {self.base.name} before it was refreshed"}
                self._fill(folder, number, None, side=before, about=first)
            self.versions.use(number)
        made_from = self.versions.current
        with self.versions.adding() as (number, folder):
            self._fill(folder, number, made_from, side=after, about=about)
        if used:
            self.versions.use(number)
        return number

    def _fill(
        self,
        folder: Path,
        number: int,
        made_from: int | None,
        side: tuple[DocumentFrequencies, IdfWeights],
        about: dict[str, Any],
    ) -> None:
        counts, weights = side
        package = write_query_side(
            self.base.model_name,
            self.base.tokenizer,
            weights.vector,
            folder / QUERY,
            more={"version": number},
        )
        save_idf_weights(weights, folder / IDF)
        counts.save(folder / COUNTS)
        write_json(
            folder / ABOUT,
            {
                "version": number,
                "from": made_from,
                "base": self.base.name,
                "fingerprint": package["fingerprint"],
            }
            | about,
        )

    # --- words -------------------------------------------------------------------------------------

    def _say_moved(self, moved: MovedTokens, old: int, new: int) -> None:
        self.console.print(
            f"Counted: {old:,} documents before, {new:,} new ones; for that alone weights are {moved.shift:.2f} times "
            "as great"
        )
        kinds: list[tuple[str, tuple[MovedToken, ...]]] = [
            ("lighter", moved.lighter),
            ("heavier", moved.heavier),
            ("first seen", moved.first_seen),
        ]
        rows = [
            [kind, one.token, f"{one.old:.1%}", f"{one.new:.1%}", f"{one.before:.2f}", f"{one.after:.2f}"]
            for kind, tokens in kinds
            for one in tokens
        ]
        title = f"Tokens that moved; {moved.unseen:,} are seen for the first time"
        heading = ["", "token", "of old documents", "of new ones", "weight before", "now"]
        self.console.print(terminal_table(heading, rows, title))

    def _say_drift(self, drift: Drift, documents: int) -> tuple[Estimate, ...]:
        for one in drift.warnings:
            self.console.print(f"warning: {one.check}: {one.found}; {one.advice}", style="yellow")
        texts = [text for _, text in zip(range(512), corpus_texts(self.work / "corpus.jsonl"), strict=False)]
        estimates = tuple(retraining(self.base.encoder, texts, documents))
        total = sum(one.seconds for one in estimates)
        parts = ", ".join(f"{one.stage} {duration(one.seconds)}" for one in estimates if one.seconds >= 1)
        self.console.print(
            f"The document side has drifted: training and encoding anew would take about {duration(total)} here, by "
            f"the recipe {RETRAINING} ({parts})"
        )
        return estimates
