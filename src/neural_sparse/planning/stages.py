"""The stages' estimates. Each follows what its code does: what runs on all devices, on all cores, and what one
process does alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from neural_sparse.config import ENDPOINTS, PACKAGED, Recipe, TeacherConfig
from neural_sparse.planning import sizes
from neural_sparse.planning.estimate import Basis, Estimate, Figure, assumed, weakest
from neural_sparse.planning.hardware import Hardware
from neural_sparse.planning.rates import Rates
from neural_sparse.planning.shapes import ModelShape, shape_of
from neural_sparse.planning.workload import Workload
from neural_sparse.search.retrievers import BLOCK

ARITHMETIC, TOKENIZING, ONE_PROCESS = "arithmetic", "tokenizing", "one process"
BATCHES = "batch overhead"
REQUESTS = "limits of requests"
ENDPOINT_BATCH, LIKELY_DIMENSIONS = 32, 1024  # where a recipe does not say
BACKWARD = 2  # times the forward pass of the transformer
QUERY_TOKENS = 8  # of a query, that others of the step do not hold; few beside any sample
HEAD_BACKWARD = 0.2  # times the forward pass of the fused head: docs/performance.md, 64 to 141 of 610 ms
RUNTIME = 1.5e9  # bytes of a process with torch and transformers
TOKEN_BUDGET = 65536  # of an encoding batch on a device; named here, too, for plans need no torch
TOKEN_BUDGET_CPU = 4096  # on cores
INDEX_MEMORY = 1 << 30  # for postings in work


@dataclass(frozen=True)
class Planner:
    """Estimates for one recipe, workload and hardware."""

    recipe: Recipe
    work: Workload
    hardware: Hardware
    rates: Rates

    # --- how long -----------------------------------------------------------------------------------

    def compute(self, kind: str) -> Figure:
        """FLOP a second of all devices, or all cores, in "encoding", "training" or "teaching"."""
        machine = self.hardware
        if not machine.devices:
            rate: Figure = getattr(self.rates, kind)
            return Figure(rate.value * machine.all_cores * machine.core_speed, rate.basis, rate.source)
        if kind in self.rates.of_devices:
            rate = self.rates.of_devices[kind]
            return Figure(rate.value * machine.all_devices, rate.basis, rate.source)
        return assumed(
            machine.tflops * 1e12 * machine.utilisation * machine.all_devices, "utilisation of the peak"
        )

    def on_cores(self, amount: float, rate: Figure) -> float:
        return amount / (rate.value * self.hardware.all_cores * self.hardware.core_speed)

    def alone(self, amount: float, rate: Figure) -> float:
        return amount / (rate.value * self.hardware.core_speed)

    def rests_on(self, *figures: Figure) -> Basis:
        """The weakest of the figures, and of how fast these cores are against those that were measured."""
        return max(weakest(*figures), Basis.derived if self.rates.of_this_machine else Basis.assumed)

    def batches(self, count: float) -> float:
        """What batches cost beside their arithmetic; on cores it is in the rates."""
        return count * self.hardware.batch_seconds / (self.hardware.all_devices or 1)

    def clipped(self, limit: int | None) -> float:
        tokens = self.work.document_tokens.value
        return min(tokens, limit) if limit else tokens

    @property
    def corpus_bytes(self) -> float:
        return self.work.documents.value * self.work.document_bytes.value

    # --- stages -------------------------------------------------------------------------------------

    def idf(self) -> Estimate:
        work, rates = self.work, self.rates
        tokens = work.documents.value * work.document_tokens.value
        return Estimate(
            "idf",
            work.documents.value,
            "documents",
            {
                "counting": self.on_cores(tokens, rates.counting),
                ONE_PROCESS: self.alone(self.corpus_bytes, rates.hashing),
            },
            memory=300e6 * self.hardware.cores,
            disk=8 * shape_of(self.recipe.init).vocabulary * max(1.0, self.corpus_bytes / (32 << 20)),
            basis=self.rests_on(work.documents, work.document_tokens, rates.counting, rates.hashing),
        )

    def teaching(self) -> Estimate:
        parts = {ARITHMETIC: 0.0, TOKENIZING: 0.0, BATCHES: 0.0, ONE_PROCESS: 0.0, REQUESTS: 0.0}
        disk = device_memory = 0.0
        basis = self.rests_on(self.work.documents, self.work.document_tokens)
        for teacher in self.recipe.teachers:
            if teacher.kind == "bm25":
                tokens = self.work.documents.value * self.work.document_tokens.value
                parts[ONE_PROCESS] += self.alone(tokens, self.rates.bm25_indexing)
            if teacher.kind in ENDPOINTS:
                requests, size = self._endpoint(teacher)
                parts[REQUESTS] += requests
                disk += size
            if not teacher.has_model:
                continue
            shape = shape_of(str(teacher.name))
            texts, tokens, flops, size = self._teacher(teacher, shape)
            rate = self.compute("teaching")
            parts[ARITHMETIC] += flops / rate.value
            parts[TOKENIZING] += self.on_cores(tokens, self.rates.tokenizing)
            parts[BATCHES] += self.batches(texts / (256 if teacher.kind == "sparse" else 32))
            disk += size
            device_memory = max(device_memory, self._inference_memory(shape, teacher.kind == "sparse"))
            basis = max(basis, rate.basis, shape.basis)
            if teacher.kind == "cross-encoder":
                basis = max(basis, self.work.queries.basis, self.work.negatives.basis)
        return Estimate(
            "teach",
            self.work.documents.value,
            "documents",
            parts,
            memory=RUNTIME * max(1, self.hardware.devices) + (0 if self.hardware.devices else device_memory),
            device_memory=device_memory if self.hardware.devices else 0.0,
            disk=disk,
            basis=basis,
        )

    def _endpoint(self, teacher: TeacherConfig) -> tuple[float, float]:
        """Seconds, as far as the recipe's own limits say them (what a service takes is not known), and bytes."""
        work = self.work
        documents, queries = work.documents.value, work.queries.value
        tokens = documents * work.document_tokens.value + queries * work.query_tokens.value
        texts = documents + queries
        size = sizes.dense_cache(texts, teacher.dimensions or LIKELY_DIMENSIONS)
        if teacher.kind == "rerank-endpoint":
            texts = queries * (1 + work.negatives.value)
            tokens = texts * (work.document_tokens.value + work.query_tokens.value)
            size = sizes.pair_cache(texts)
        limits = (
            (tokens, teacher.tokens_per_minute),
            (texts / (teacher.batch_size or ENDPOINT_BATCH), teacher.requests_per_minute),
        )
        return max((60.0 * amount / limit for amount, limit in limits if limit), default=0.0), size

    def _teacher(self, teacher: TeacherConfig, shape: ModelShape) -> tuple[float, float, float, float]:
        """Texts, tokens, FLOP and bytes in the cache."""
        work = self.work
        documents, queries = work.documents.value, work.queries.value
        document_tokens, query_tokens = self.clipped(teacher.max_length or 512), work.query_tokens.value + 2
        if teacher.kind == "cross-encoder":
            pairs = queries * (1 + work.negatives.value)
            length = min(document_tokens + query_tokens, teacher.max_length or 512)
            tokens = pairs * length
            return pairs, tokens, tokens * shape.body_flops(length), sizes.pair_cache(pairs)
        tokens = documents * document_tokens + queries * query_tokens
        flops = documents * document_tokens * shape.body_flops(document_tokens)
        flops += queries * query_tokens * shape.body_flops(query_tokens)
        if teacher.kind == "dense":
            return documents + queries, tokens, flops, sizes.dense_cache(documents + queries, shape.hidden)
        flops += tokens * shape.head_flops
        size = sizes.sparse_cache(documents, work.teacher_terms.value)
        size += sizes.sparse_cache(queries, 3 * work.query_tokens.value)
        return documents + queries, tokens, flops, size

    def mining(self) -> Estimate:
        work, rates = self.work, self.rates
        queries, documents = work.queries.value * work.mined, work.documents.value
        seconds = queries * rates.mining_query.value
        memory, alone = RUNTIME + documents * work.document_bytes.value, 0.0
        basis = self.rests_on(work.documents, work.queries, rates.mining_query)
        for source in self.recipe.negatives if queries else ():
            kind, _, name = source.partition(":")
            if kind == "bm25":
                seconds += queries * documents * rates.mining_bm25.value
                alone += self.alone(documents * work.document_tokens.value, rates.bm25_indexing)
                memory += sizes.POSTING * documents * work.words.value
            elif kind in ("dense", "endpoint"):
                width = (
                    shape_of(name).hidden if kind == "dense" and name not in PACKAGED else LIKELY_DIMENSIONS
                )
                seconds += queries * documents * width * rates.mining_dense.value
                memory += 8 * min(documents, BLOCK) * width  # as stored, widened, and its copies in between
            else:  # sparse or student: an index, and the rows it was made of
                terms = work.terms if kind == "student" else work.teacher_terms
                seconds += queries * documents * rates.mining_sparse.value
                alone += self.alone(documents * terms.value, rates.indexing)
                memory += 2 * sizes.POSTING * documents * terms.value
        texts = queries * (work.document_bytes.value * (1 + self.recipe.negatives_pool) + 40)
        return Estimate(
            "mine",
            queries,
            "queries",
            {
                "searching": seconds / self.hardware.all_cores / self.hardware.core_speed,
                ONE_PROCESS: alone,
            },
            memory=memory if queries else 0.0,
            disk=texts,
            basis=basis,
        )

    def training(self) -> Estimate:
        recipe, work, machine = self.recipe, self.work, self.hardware
        shape = shape_of(recipe.init)
        steps = recipe.num_steps * recipe.gradient_accumulation_steps
        documents = recipe.batch_size * (1 + recipe.num_hard_negatives)
        length = self.clipped(recipe.max_length)
        tokens = documents * length
        if recipe.siamese:
            tokens += recipe.batch_size * (work.query_tokens.value + 2)
        again = recipe.gradient_checkpointing or recipe.cache_tokens is not None
        flops = tokens * shape.body_flops(length) * (1 + BACKWARD + again)
        columns = float(shape.vocabulary)
        if recipe.vocabulary_sample:
            asked = QUERY_TOKENS * recipe.batch_size * recipe.gradient_accumulation_steps
            columns = min(columns, recipe.vocabulary_sample + asked)
        flops += tokens * shape.head_flops_of(columns) * (1 + HEAD_BACKWARD)
        devices = machine.all_devices or 1
        busy = min(devices, documents)
        rate = self.compute("training")
        exchanged = 8 * shape.parameters * (devices - 1) / devices / (machine.exchange_gb_s * 1e9)
        parts = {
            ARITHMETIC: steps * flops / (rate.value * busy / devices),
            TOKENIZING: steps * self.on_cores(tokens, self.rates.tokenizing),
            "step overhead": steps * machine.step_seconds,
            "exchanging gradients": steps * exchanged if devices > 1 else 0.0,
        }
        bits = 16 if machine.devices and recipe.bf16 is not False else 32
        per_device = -(-documents // devices) * length
        kept = min(per_device, recipe.cache_tokens or per_device)
        memory = sizes.training_states(shape.parameters, devices)
        memory += sizes.activations(
            kept, shape.layers, hidden=shape.hidden, checkpointing=recipe.gradient_checkpointing, bits=bits
        )
        memory += sizes.POOLED * (documents / devices) * columns + sizes.packed_tokens(per_device)
        on_device = bool(machine.devices)
        return Estimate(
            "train",
            recipe.num_steps,
            "steps",
            parts,
            memory=RUNTIME * max(1, machine.devices) + (0 if on_device else memory),
            device_memory=memory if on_device else 0.0,
            disk=sizes.checkpoints(shape.parameters, recipe.save_total_limit),
            basis=max(self.rests_on(work.document_tokens, rate), shape.basis),
        )

    def encoding(self) -> Estimate:
        work, rates = self.work, self.rates
        shape = shape_of(self.recipe.init)
        length = self.clipped(self.recipe.encode_max_length or self.recipe.max_length)
        tokens = work.documents.value * length
        rate = self.compute("encoding")
        postings = work.documents.value * work.terms.value
        checked = self.alone(work.documents.value, rates.reading)
        return Estimate(
            "encode",
            work.documents.value,
            "documents",
            {
                ARITHMETIC: tokens * (shape.body_flops(length) + shape.head_flops) / rate.value,
                TOKENIZING: self.on_cores(tokens, rates.tokenizing),
                BATCHES: self.batches(tokens / TOKEN_BUDGET),
                ONE_PROCESS: checked + self.alone(self.corpus_bytes, rates.hashing),
            },
            memory=RUNTIME * max(1, self.hardware.devices)
            + self._ids()
            + (0 if self.hardware.devices else self._inference_memory(shape, True)),
            device_memory=self._inference_memory(shape, True) if self.hardware.devices else 0.0,
            disk=sizes.parts(work.documents.value, postings, self.corpus_bytes),
            basis=max(
                self.rests_on(work.documents, work.document_tokens, rate, rates.reading, rates.hashing),
                shape.basis,
            ),
        )

    def indexing(self) -> Estimate:
        work = self.work
        postings = work.documents.value * work.terms.value
        segments = sizes.POSTING * postings
        parts = sizes.parts(work.documents.value, postings, self.corpus_bytes)
        return Estimate(
            "index",
            postings,
            "postings",
            {ONE_PROCESS: self.alone(postings, self.rates.indexing)},
            memory=RUNTIME + INDEX_MEMORY + self._ids(),
            disk=parts + segments + self.collection_bytes(),  # the parts stay until the collection is whole
            basis=self.rests_on(work.documents, work.terms, self.rates.indexing),
        )

    def collection_bytes(self) -> float:
        """On disk, when all is done."""
        work = self.work
        postings = work.documents.value * work.terms.value
        vocabulary = shape_of(self.recipe.init).vocabulary
        return sizes.collection(
            work.documents.value,
            postings,
            vocabulary=vocabulary,
            id_bytes=work.id_bytes.value,
            text_bytes=self.corpus_bytes,
        )

    def _ids(self) -> float:
        """Text, offsets, hashes and their order, of the corpus and once more while the index is built."""
        return 2 * self.work.documents.value * (self.work.id_bytes.value + 24)

    def _inference_memory(self, shape: ModelShape, with_head: bool) -> float:
        """Weights, and one batch: some copies of its tokens' states, its documents over the vocabulary."""
        tokens = TOKEN_BUDGET if self.hardware.devices else TOKEN_BUDGET_CPU
        memory = 4 * shape.parameters + 2 * tokens * (6 * shape.hidden + 2 * shape.intermediate)
        return memory + (8 * tokens / self.work.document_tokens.value * shape.vocabulary if with_head else 0)


STAGES: tuple[Callable[[Planner], Estimate], ...] = (
    Planner.idf,
    Planner.mining,
    Planner.teaching,
    Planner.training,
    Planner.encoding,
    Planner.indexing,
)


def plan(recipe: Recipe, work: Workload, hardware: Hardware, rates: Rates) -> list[Estimate]:
    """Estimates of all stages, in the order in which they run.

    Raises:
        InputError: a model whose size is not known.
    """
    planner = Planner(recipe, work, hardware, rates)
    return [stage(planner) for stage in STAGES]
