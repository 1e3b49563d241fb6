"""The inference-free sparse encoder."""

from __future__ import annotations

import copy
import hashlib
import itertools
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neural_sparse.config import QueryEncoder
from neural_sparse.errors import InputError
from neural_sparse.idf import IdfWeights, idf_weights
from neural_sparse.io.files import follow_umask, reading_folder, replacing_folder
from neural_sparse.model.activation import SPLADE_POOLING_NAMES, Activation, activate, check_activation
from neural_sparse.model.encoding import encode_documents, packed_features
from neural_sparse.model.exported import is_onnx_export
from neural_sparse.model.head import pack, pooled_logits
from neural_sparse.model.head_bound import HeadBound
from neural_sparse.model.layout import Group, Layout, PaddingMask, map_tensors
from neural_sparse.model.location import (
    encoder_folder,
    lacks_head,
    model_folder,
    model_not_found,
    resolve_model,
)
from neural_sparse.model.own_words import MEAN_LENGTH, OwnWords, check_own_words
from neural_sparse.model.pruning import sparsity_stats
from neural_sparse.query import query_fingerprint
from neural_sparse.text.tokens import Tokens, encode_queries, tokenize, top_terms, vocabulary

logger = logging.getLogger(__name__)

DEFAULT_MAX_LENGTH = 256
MAX_QUERY_LENGTH = 1_000_000  # as good as none: a lookup costs nothing
MAX_VOCABULARY_PADDING = 512  # embeddings are padded to multiples of at most this
SILENT = -1e4  # decoder bias of special tokens: no logit can lift them above zero


class NeuralSparseEncoder(SparseEncoder):
    """Documents through a masked-LM transformer, queries through a weight table, or through a transformer as well.

    The module tree is plain sentence-transformers (a Router over SparseStaticEmbedding for queries and
    Transformer + SpladePooling for documents), so a saved folder loads in `SparseEncoder` without this
    package, unless it has `own_words`, which sentence-transformers has no module for. Only the forward pass
    differs: logits [batch, sequence, vocabulary] are never made. In a siamese model the query route is Transformer +
    SpladePooling too: the very same modules (saved once), or its own.

    Args:
        model_name: a hub id, a local folder, or a folder inside an installed package. Holds a masked LM, a
            SPLADE model, or an inference-free sparse encoder in sentence-transformers format.
        max_length: tokens per document, special ones included; the model's own limit if None and it
            has one (256 for a bare masked LM).
        use_relu: must be True; kept for the guide's signature.
        activation: "log1p" (SPLADE) or "double_log1p" (arXiv 2504.14839); the saved one if None.
        idf: query weights, as a table {token: weight} or the JSON file that holds one; the saved ones
            if None, or 1 for every token of a model that has none.
        own_words: strength with which a document's own words are counted as BM25 counts them and added to its
            vector, see `model.own_words.OwnWords`; 0: not, as in SPLADE; as it was saved if None.
        device: "cpu", "cuda", ...; the best there is if None.
        trust_remote_code: run code that comes with the model. Only for a repository you have read.
        new_head: of an encoder without a masked-LM head (a sentence-embedding model): give it its architecture's, at
            random; `model.new_head.fit_head` makes it of use.
        attention: implementation of attention, such as "sdpa", "eager" or "flash_attention_2"; transformers' choice
            if None.
        query_encoder: see `set_query_encoder`; as it was saved if None, and "inference-free" where nothing says.

    Attributes:
        cache_tokens: for training: the transformer takes at most this many tokens at once, and the backward
            pass runs it again group by group (GradCache, arXiv 2101.06983). Memory then depends on it and
            not on the batch; gradients are those of the whole batch. None: everything at once.
        count_repeats: a query's token weighs as often as it is there; False, unless set. Not saved: engines that
            tokenize queries themselves count a token once.

    Raises:
        InputError: no such model, no masked-LM head, weights that are not safetensors, a tokenizer or an
            IDF table of another vocabulary.
    """

    def __init__(
        self,
        model_name: str | Path,
        max_length: int | None = None,
        use_relu: bool = True,
        *,
        activation: Activation | None = None,
        idf: Mapping[str, float] | str | Path | None = None,
        own_words: float | None = None,
        device: str | torch.device | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        new_head: bool = False,
        attention: str | None = None,
        query_encoder: QueryEncoder | None = None,
    ) -> None:
        if not use_relu:
            raise InputError("use_relu=False would leave no weight at zero: a sparse encoder needs the ReLU")
        if activation is not None:
            check_activation(activation)
        location = resolve_model(str(model_name))
        saved, transformer, pooling, words = reading_folder(
            location,
            lambda: load_modules(
                location, trust_remote_code, revision, new_head=new_head, attention=attention
            ),
        )
        tokenizer: Any = transformer.tokenizer
        own_limit = transformer.max_seq_length if (Path(location) / "modules.json").is_file() else None
        table = saved[0] if saved and isinstance(saved[0], SparseStaticEmbedding) else None
        sides = [(transformer, pooling)]
        if len(saved) == 2 and saved[0] is not transformer:
            sides.append((saved[0], saved[1]))
        for one, pooled in sides:
            fit_vocabulary(one.model, one.tokenizer)
            if activation is not None:
                pooled.activation_function = SPLADE_POOLING_NAMES[activation]  # type: ignore[assignment]
            if pooled.pooling_strategy != "max":
                raise InputError(
                    f"{model_name}: pools by {pooled.pooling_strategy!r}; only max pooling is supported"
                )
            silence_special_tokens(one.model, tokenizer)
            one.max_seq_length = _document_length(max_length or own_limit or DEFAULT_MAX_LENGTH, one.model)
        if len({pooled.activation_function for _, pooled in sides}) > 1:
            raise InputError(
                f"{model_name}: its query and document sides have different activations; only one for both is supported"
            )
        if (
            saved
            and list(saved[0].tokenizer.get_vocab().items()) != list(tokenizer.get_vocab().items())
            and (vocabulary(saved[0].tokenizer) != vocabulary(tokenizer))
        ):
            raise InputError(f"{model_name}: its query and document sides have different vocabularies")
        queries = saved if table is None and saved else [_query_table(tokenizer, table)]
        router = Router.for_query_document(queries, [transformer, pooling], default_route="document")
        super().__init__(
            modules=[router], device=str(device) if device is not None else None, similarity_fn_name="dot"
        )
        self.name = str(model_name)
        self.cache_tokens: int | None = None
        self.count_repeats = False
        if own_words is not None:
            self.set_own_words(own_words)
        elif words is not None:
            self.routes["document"].append(words.to(self.device))
        for mlm in self.masked_lms:
            _defer_projection(mlm)
        if query_encoder is not None:
            self.set_query_encoder(query_encoder)
        if idf is not None:
            self.set_query_weights(idf)
        self.eval()

    # --- parts -------------------------------------------------------------------------------------

    @property
    def routes(self) -> Any:
        """ModuleDict of the query and the document side."""
        return self[0].sub_modules

    @property
    def transformer(self) -> Transformer:
        return self.routes["document"][0]

    @property
    def mlm(self) -> Any:
        """The masked LM; its output projection passes hidden states through (see `_defer_projection`)."""
        return self.transformer.model

    @property
    def projection(self) -> nn.Linear:
        return self.mlm.get_output_embeddings()

    @property
    def masked_lms(self) -> list[Any]:
        """Those of both sides, each once."""
        both = (self.routes[side][0] for side in ("document", "query"))
        found = {id(one): one.model for one in both if isinstance(one, Transformer)}
        return list(found.values())

    @property
    def query_encoder(self) -> QueryEncoder:
        """What encodes queries, see `set_query_encoder`."""
        first = self.routes["query"][0]
        if not isinstance(first, Transformer):
            return "inference-free"
        return "shared" if first is self.transformer else "own"

    def set_query_encoder(self, kind: QueryEncoder) -> None:
        """Let queries be encoded by something else; a model that has it already stays as it is.

        Args:
            kind: "inference-free", a table in which every token weighs 1; "shared", the documents' transformer (a
                siamese model, as SPLADE-v3); "own", a copy of it.

        Raises:
            InputError: a siamese model whose documents count their own words: these are worth what IDF says.
        """
        if kind == self.query_encoder:
            return
        if kind != "inference-free" and self.own_words is not None:
            raise InputError(
                f"{self.name} counts its documents' own words, which are found by the IDF of looked-up queries; "
                f"query_encoder={kind} takes own_words=0"
            )
        side: list[Any] = list(self.routes["document"])[:2]
        if kind == "own":
            side = copy.deepcopy(side)
        elif kind == "inference-free":
            side = [_query_table(self.tokenizer).to(self.device)]
        self.routes["query"] = nn.Sequential(*side)

    @property
    def query_table(self) -> SparseStaticEmbedding:
        """
        Raises:
            InputError: a siamese model, which has none.
        """
        if self.query_encoder != "inference-free":
            raise InputError(
                f"{self.name} has no table of query weights: its queries go through a transformer (query_encoder: "
                f"{self.query_encoder}). `encode`, `search`, `serve`, `evaluate` and `export` take such a model; what "
                "looks queries up needs one that was trained with query_encoder=inference-free"
            )
        return self.routes["query"][0]

    @property
    def activation(self) -> Activation:
        name = self.routes["document"][1].activation_function
        return next(ours for ours, theirs in SPLADE_POOLING_NAMES.items() if theirs == name)

    @property
    def documents_digest(self) -> str:
        """Hex sha256 of the document side's tensors and activation."""
        return self._digest("document")

    @property
    def queries_digest(self) -> str:
        """Hex sha256 of tokens and query weights, as `query.query_fingerprint`; of a siamese model, of the query side's
        tensors and activation: the `documents_digest` of what `save_query_encoder` writes."""
        if self.query_encoder == "inference-free":
            return query_fingerprint(self.tokenizer.get_vocab(), self.idf_table().vector)
        return self._digest("query")

    def _digest(self, side: str) -> str:
        digest = hashlib.sha256(self.activation.encode())
        for name, tensor in sorted(self.routes[side].state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(memoryview(tensor.detach().float().cpu().contiguous().numpy()).cast("B"))
        return digest.hexdigest()

    @property
    def own_words(self) -> OwnWords | None:
        """What counts a document's own words; None if nothing does."""
        words = list(self.routes["document"])[2:]
        return words[0] if words else None

    def set_own_words(
        self, strength: float, mean_length: float = MEAN_LENGTH, language: str = "english"
    ) -> None:
        """Count own words anew, all with the same strength; 0: no longer.

        Args:
            mean_length: counted tokens of an average document.
            language: whose stemmer says which tokens are forms of one word, see `token_classes`.

        Raises:
            InputError: a strength below 0, an unknown language.
        """
        strength = check_own_words(strength)
        del self.routes["document"][2:]
        if strength:
            words = OwnWords.of(self.tokenizer, strength, mean_length, language)
            self.routes["document"].append(words.to(self.device))

    @property  # type: ignore[override,misc]
    def tokenizer(self) -> Any:
        return self.transformer.tokenizer

    @property
    def vocab_size(self) -> int:
        return self.projection.out_features

    @property
    def max_length(self) -> int:
        """Tokens per document, special ones included; more than the model's positions is cut to those."""
        return int(self.transformer.max_seq_length or DEFAULT_MAX_LENGTH)

    def set_max_length(self, max_length: int) -> None:
        for side in self.routes.values():
            if isinstance(side[0], Transformer):
                side[0].max_seq_length = _document_length(max_length, side[0].model)

    @property
    def query_weights(self) -> Tensor:
        """[vocabulary], 0 for special tokens."""
        return self.query_table.weight

    def set_query_weights(self, idf: Mapping[str, float] | str | Path) -> None:
        """Replace the query side's weights.

        Raises:
            InputError: a table of another tokenizer.
        """
        weights = idf_weights(idf, self.tokenizer).vector
        with torch.no_grad():
            self.query_weights.copy_(torch.from_numpy(weights))

    def idf_table(self) -> IdfWeights:
        """The query side's weights as {token: weight}; a copy, which later changes leave alone."""
        vector = self.query_weights.detach().float().cpu().numpy().copy()
        return IdfWeights(dict(zip(vocabulary(self.tokenizer), vector.tolist(), strict=True)), vector)

    def drop_nothing(self) -> None:
        """Train without dropout from now on; the configuration that is saved stays as it is."""
        for module in itertools.chain.from_iterable(mlm.modules() for mlm in self.masked_lms):
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name, value in vars(module).items():  # attention's, where it is a number
                if "dropout" in name and isinstance(value, float):
                    setattr(module, name, 0.0)

    def silence(self, tokens: np.ndarray) -> None:
        """Tokens that weigh 0 on both sides from now on, as special tokens do: their bias is far below any logit.

        Args:
            tokens: int64 [tokens], ids.

        Raises:
            InputError: the output projection has no bias.
        """
        if self.projection.bias is None:
            raise InputError(
                f"{self.name}: its output projection has no bias, so that no token can be silenced"
            )
        ids = torch.from_numpy(np.asarray(tokens, np.int64)).to(self.device)
        with torch.no_grad():
            self.projection.bias[ids] = SILENT
            self.query_weights[ids] = 0.0
            if self.own_words is not None:
                self.own_words.strength[ids] = 0.0

    # --- forward -----------------------------------------------------------------------------------

    def forward(
        self,
        input: Mapping[str, Any] | Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        input_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Document vectors, or whatever sentence-transformers asks for.

        `model(input_ids, attention_mask)`, both [batch, sequence], returns weights [batch, vocabulary].
        A features dictionary, as sentence-transformers passes, is returned with "sentence_embedding"
        added; one with "offsets" holds packed documents: "input_ids" [tokens], "offsets" [documents + 1], and, if
        the device is not to be asked for them, what else `packed` gives. With "columns", int64 [columns], vectors
        have the weights of these tokens alone. "task": "query" encodes queries, packed ones in siamese models alone.
        """
        ids = input if isinstance(input, Tensor) else input_ids
        if ids is not None:
            mask = torch.ones_like(ids) if attention_mask is None else attention_mask
            return self._padded_documents(ids, mask, self.mlm)
        if not isinstance(input, Mapping):
            raise TypeError("forward() needs input_ids and attention_mask, or a dictionary of features")
        mlm, looked_up = self.mlm, self.query_encoder == "inference-free"
        if (kwargs.get("task") or input.get("task")) == "query":
            if looked_up:
                return super().forward(dict(input), **kwargs)
            mlm = self.routes["query"][0].model
        if "offsets" in input:
            if "layout" not in input:
                tokens = Tokens(*(input[name].cpu().numpy() for name in ("input_ids", "offsets")))
                input = {**self.packed(tokens, input["input_ids"].device), **input}
            vectors = self._packed_documents(input, mlm)
            # Trained: the loss takes them from what the model returns.
            if looked_up and self.query_weights.requires_grad:
                return {**input, "sentence_embedding": vectors, "query_weights": self.query_weights.clone()}
        else:
            vectors = self._padded_documents(input["input_ids"], input["attention_mask"], mlm)
        return {**input, "sentence_embedding": vectors}

    def packed(
        self, tokens: Tokens, device: torch.device | str = "cpu", columns: Tensor | None = None
    ) -> dict[str, Any]:
        """What `forward` takes for packed documents: all that it needs to know of them, decided on the host.

        Args:
            columns: int64, token ids in ascending order, if documents need no others; on the host.
        """
        features = packed_features(tokens)
        pad_id = int(self.tokenizer.pad_token_id or 0)
        features["layout"] = Layout.of(tokens.ids, tokens.offsets, pad_id, self.cache_tokens)
        if self.own_words is not None:
            counts = self.own_words.counts(tokens.ids, tokens.offsets)
            features["words"] = counts if columns is None else counts.among(columns)
        if columns is not None:
            features["columns"] = columns
        return map_tensors(features, lambda tensor: tensor.to(device))

    def _hidden_of(self, group: Group, mlm: Any) -> Tensor:
        """Of the real tokens of a group, [tokens, width]."""
        compiled = mlm._compiled_call_impl is not None  # which never asks for the mask's values
        mask = group.mask if compiled else PaddingMask.of(group.mask, group.whole)
        hidden = mlm(input_ids=group.input_ids, attention_mask=mask).logits
        return hidden.flatten(0, 1).index_select(0, group.kept)

    def _weights(
        self,
        hidden: Tensor,
        offsets: Tensor,
        mlm: Any,
        longest: int | None = None,
        columns: Tensor | None = None,
        bound: HeadBound | None = None,
    ) -> Tensor:
        projection = mlm.get_output_embeddings()
        if bound is not None:
            return activate(
                bound.pooled(hidden, offsets, projection.weight, projection.bias), self.activation
            )
        pooled = pooled_logits(
            hidden, offsets, weight=projection.weight, bias=projection.bias, longest=longest, columns=columns
        )
        return activate(pooled, self.activation)

    def _weights_of(self, group: Group, mlm: Any, columns: Tensor | None) -> Tensor:
        hidden, longest = self._hidden_of(group, mlm), group.mask.shape[1]
        return self._weights(hidden, group.offsets, mlm, longest, columns=columns)

    def _packed_documents(self, features: Mapping[str, Any], mlm: Any) -> Tensor:
        """Weights [documents, vocabulary or columns] of packed documents, encoded in groups of similar length.

        Padding costs almost nothing, and the head sees all documents at once. With `cache_tokens`, groups
        go through transformer and head one after another and only their vectors are kept.
        """
        layout: Layout = features["layout"]
        columns = features.get("columns")
        if self.cache_tokens is not None and torch.is_grad_enabled():
            parts = [
                checkpoint(self._weights_of, group, mlm, columns, use_reentrant=False)
                for group in layout.groups()
            ]
            weights = torch.cat(parts)[layout.order]
        else:
            hidden = torch.cat([self._hidden_of(group, mlm) for group in layout.groups()])
            weights = self._weights(
                hidden,
                layout.offsets,
                mlm,
                layout.longest,
                columns=columns,
                bound=features.get("bound"),
            )
            weights = weights[layout.order]
        return weights if self.own_words is None else self.own_words.add(weights, features["words"], columns)

    def _padded_documents(self, input_ids: Tensor, attention_mask: Tensor, mlm: Any) -> Tensor:
        hidden, offsets = pack(mlm(input_ids=input_ids, attention_mask=attention_mask).logits, attention_mask)
        weights = self._weights(hidden, offsets, mlm, input_ids.shape[1])
        if self.own_words is None:
            return weights
        ids = input_ids[attention_mask.bool()]
        counts = self.own_words.counts(ids.cpu().numpy(), offsets.cpu().numpy())
        return self.own_words.add(weights, map_tensors(counts, lambda tensor: tensor.to(weights.device)))

    # --- saving and encoding ----------------------------------------------------------------------------------

    def save(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """As sentence-transformers saves, but a model that is there stays until the new one stands.

        Other files in its folder are kept. Permissions follow the folder's own: sentence-transformers leaves the
        weights to their owner alone.

        Raises:
            InputError: the folder cannot be replaced, or written.
        """
        target = Path(path)
        # The file is written near the end: without it there is no model to lose.
        if not (target / "modules.json").is_file():
            super().save(str(path), *args, **kwargs)
            follow_umask(target)
            return
        with replacing_folder(target) as folder:
            super().save(str(folder), *args, **kwargs)
            for kept in target.iterdir():
                if (folder / kept.name).exists():
                    continue
                if kept.is_dir():
                    shutil.copytree(kept, folder / kept.name)
                else:
                    shutil.copy2(kept, folder / kept.name)

    def save_query_encoder(self, folder: Path) -> None:
        """Write what encodes the queries of a siamese model as a model of its own, for which they are documents."""
        side = SparseEncoder(modules=list(self.routes["query"]), device=str(self.device))
        side.save(str(folder), create_model_card=False)
        follow_umask(folder)

    def encode_documents(
        self,
        texts: Sequence[str],
        *,
        tokens_per_batch: int | None = None,
        show_progress: bool = False,
        bf16: bool = False,
    ) -> sp.csr_matrix:
        """Document vectors, csr float32 [documents, vocabulary]; see `model.encoding.encode_documents`."""
        return encode_documents(
            self, texts, tokens_per_batch=tokens_per_batch, show_progress=show_progress, bf16=bf16
        )

    def encode_queries(self, texts: Sequence[str]) -> sp.csr_matrix:
        """Query vectors, csr float32 [queries, vocabulary]: each known token's weight, once or `count_repeats`.

        In a siamese model, what the transformer gives.
        """
        if self.query_encoder != "inference-free":
            return encode_documents(self, texts, task="query")
        weights = self.query_weights.detach().float().cpu().numpy()
        return encode_queries(texts, self.tokenizer, weights, self.count_repeats)

    def query_inference(self, texts: Sequence[str]) -> dict[str, Any]:
        """What encoding a query takes beside a lookup.

        Returns:
            encoder: see `set_query_encoder`;
            gflop: 10^9 operations of the products of a mean query of `texts` through the transformer and its head, two
                for each weight and token (attention's own products, which are few in short texts, left out); 0 for a
                table.
        """
        if self.query_encoder == "inference-free" or not texts:
            return {"encoder": self.query_encoder, "gflop": 0.0}
        mlm = self.routes["query"][0].model
        weights = sum(one.weight.numel() for one in mlm.modules() if isinstance(one, nn.Linear))
        tokens = tokenize(texts, self.tokenizer, self.max_length, special_tokens=True).lengths.mean()
        return {"encoder": self.query_encoder, "gflop": 2e-9 * weights * float(tokens)}

    def get_sparsity_stats(self, reps: Tensor | sp.csr_matrix) -> dict[str, float]:
        """See `sparsity_stats`."""
        return sparsity_stats(reps)

    def top_terms(self, vector: sp.csr_matrix, k: int | None = None) -> list[tuple[str, float]]:
        """(token, weight) of a single vector [1, vocabulary], heaviest first."""
        return top_terms(vector, vocabulary(self.tokenizer), k)

    def text_tokens(self, text: str) -> set[str]:
        """The tokens of a document's own text, as far as the model reads it."""
        names = vocabulary(self.tokenizer)
        return {
            names[token]
            for token in tokenize([text], self.tokenizer, self.max_length, special_tokens=True).ids
        }


def load_modules(
    location: str,
    trust_remote_code: bool,
    revision: str | None,
    new_head: bool = False,
    attention: str | None = None,
) -> tuple[list[Any], Transformer, SpladePooling, OwnWords | None]:
    """The query side, the transformer, the pooling, what counts own words.

    The query side is a table, or a transformer and a pooling (the documents' own in a siamese model that shares them);
    nothing where the folder says nothing of queries.
    """
    if is_onnx_export(location):
        raise InputError(
            f"{location} is an ONNX export, which `encode` and `serve` take and torch cannot load: name the model that "
            "it was exported from"
        )
    kwargs: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32}
    if attention is not None:
        kwargs["attn_implementation"] = attention
    if new_head:
        return [], _with_new_head(location, kwargs, trust_remote_code), SpladePooling("max"), None
    if lacks_head(location):
        raise InputError(
            f"{location}: an encoder without a masked-LM head, such as a sentence-embedding model; new_head=true in a "
            "recipe makes one and fits it to the training documents"
        )
    try:
        modules: list[Any] = list(
            SparseEncoder._load_with_module_classes(
                location,
                {f"{OwnWords.__module__}.{OwnWords.__name__}": OwnWords},
                device="cpu",
                trust_remote_code=trust_remote_code,
                revision=revision,
                model_kwargs=kwargs,
            )
        )
    except (OSError, ValueError, ImportError) as error:
        raise model_not_found(location, error) from error
    query: list[Any] = []
    if isinstance(modules[0], Router):
        routes: Any = modules[0].sub_modules
        if not {"query", "document"} <= set(routes):
            raise InputError(f"{location}: its router has {sorted(routes)}, not a query and a document side")
        query = list(routes["query"])
        modules = list(routes["document"])
    words = modules.pop() if isinstance(modules[-1], OwnWords) else None
    _check_masked_lm(modules, location)
    if query and isinstance(query[0], SparseStaticEmbedding):
        query = query[:1]
    elif query:
        _check_masked_lm(query, f"{location}, its query side")
    transformer, pooling = modules
    return query, transformer, pooling, words


def _check_masked_lm(modules: Sequence[Any], where: str) -> None:
    if len(modules) != 2 or not isinstance(modules[1], SpladePooling):
        raise InputError(
            f"{where}: not a masked language model (found {', '.join(type(module).__name__ for module in modules)});"
            " a sparse encoder starts from a ...ForMaskedLM model"
        )
    if not isinstance(modules[0].model.get_output_embeddings(), nn.Linear):
        raise InputError(f"{where}: {type(modules[0].model).__name__} has no linear masked-LM projection")


def _query_table(tokenizer: Any, saved: SparseStaticEmbedding | None = None) -> SparseStaticEmbedding:
    """The weights of a saved table, or 1 for every token; 0 for special tokens (see `silence_special_tokens`)."""
    table = saved
    if table is None:
        table = SparseStaticEmbedding(tokenizer, torch.ones(len(vocabulary(tokenizer))), frozen=True)
    if table.tokenizer is tokenizer:
        table.tokenizer = copy.deepcopy(tokenizer)
    # sentence-transformers cuts queries here, where documents end otherwise.
    queries: Any = table.tokenizer
    queries.model_max_length = table.max_seq_length = MAX_QUERY_LENGTH
    with torch.no_grad():
        table.weight[[token for token in tokenizer.all_special_ids if token < len(table.weight)]] = 0.0
    return table


def _with_new_head(location: str, model_kwargs: dict[str, Any], trust_remote_code: bool) -> Transformer:
    """The encoder of a model's folder (or hub id) as a masked LM of its architecture, with a random head.

    Raises:
        InputError: it has a head already; it cannot be loaded, or its architecture has no masked LM.
    """
    folder = str(model_folder(location))
    if not lacks_head(folder):
        raise InputError(f"{location} has a masked-LM head: leave out new_head")
    try:
        return Transformer(
            encoder_folder(folder),
            transformer_task="fill-mask",
            model_kwargs={**model_kwargs, "trust_remote_code": trust_remote_code},
            config_kwargs={"trust_remote_code": trust_remote_code},
        )
    except (OSError, ValueError, ImportError) as error:
        raise model_not_found(location, error) from error


def fit_vocabulary(mlm: Any, tokenizer: Any) -> None:
    """Drop the rows an embedding was padded with, so that columns are the tokenizer's tokens.

    Raises:
        InputError: a tokenizer that does not match the model.
    """
    size, known = mlm.get_output_embeddings().out_features, len(vocabulary(tokenizer))
    if known > size or size - known > MAX_VOCABULARY_PADDING:
        raise InputError(
            f"the tokenizer has {known:,} tokens but the model {size:,}: they do not belong together"
        )
    if known < size:
        logger.info("dropping %d padding rows of the vocabulary", size - known)
        mlm.resize_token_embeddings(known)


def silence_special_tokens(mlm: Any, tokenizer: Any) -> None:
    """Special tokens weigh 0, wherever the model is loaded from now on, as they do in `_query_table`.

    Whatever form it had: sentence-transformers' modules silence nothing, and the published tables of OpenSearch's
    models give special tokens a weight, since the code beside them zeroes these in documents. Left as they are, they
    would take room in the index and cost FLOPS, and a query with an unknown character would match them.
    """
    special = tokenizer.all_special_ids
    bias = mlm.get_output_embeddings().bias
    with torch.no_grad():
        if bias is not None:
            bias[special] = SILENT
        else:
            logger.warning(
                "the output projection has no bias: special tokens cannot be silenced in documents"
            )


def _document_length(wanted: int, mlm: Any) -> int:
    limit = getattr(mlm.config, "max_position_embeddings", None)
    if limit is None:
        return wanted
    # RoBERTa counts positions from padding_idx + 1.
    offset = 2 if "roberta" in mlm.config.model_type else 0
    if wanted > limit - offset:
        logger.warning("max_length %d is more than the model's %d; using that", wanted, limit - offset)
    return min(wanted, limit - offset)


def _pass_through(hidden: Tensor) -> Tensor:
    return hidden


def _defer_projection(mlm: Any) -> None:
    """Make the masked LM return what enters its output projection; `pooled_logits` projects block by block.

    The projection keeps its place, so that names of weights and saved files stay those of the
    architecture.

    Raises:
        InputError: an architecture that does something after its projection; weights that are not finite.
    """
    projection = mlm.get_output_embeddings()
    ids = torch.tensor([[0, 1]], device=projection.weight.device)
    with torch.inference_mode():
        expected = mlm(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        projection.forward = _pass_through
        hidden = mlm(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        actual = nn.functional.linear(hidden, projection.weight, projection.bias)
    if not torch.isfinite(expected).all():
        broken = [name for name, weight in mlm.named_parameters() if not torch.isfinite(weight).all()]
        raise InputError(
            f"the weights hold NaN or infinity ({', '.join(broken[:3]) or 'they overflow'}): train anew"
        )
    if actual.shape != expected.shape or not torch.allclose(actual, expected, atol=1e-3, rtol=1e-3):
        raise InputError(
            f"{type(mlm).__name__}: its logits are more than a projection of hidden states; not supported"
        )
