"""Collections by name: a folder, BEIR, NanoBEIR, ir_datasets, or one word for a whole benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from neural_sparse.corpora.collection import Collection, read_judged
from neural_sparse.corpora.corpus_file import queries_of
from neural_sparse.corpora.hub import hub_files, load_from_hub
from neural_sparse.corpora.ir_datasets import load_from_ir_datasets
from neural_sparse.corpora.qrels_file import read_qrels
from neural_sparse.corpora.row_file import rows_of
from neural_sparse.errors import InputError, refuse_one_string

# The thirteen of the inference-free sparse retrieval papers, in their order.
BEIR_13 = (
    "trec-covid",
    "nfcorpus",
    "nq",
    "hotpotqa",
    "fiqa",
    "arguana",
    "touche-2020",
    "dbpedia-entity",
    "scidocs",
    "fever",
    "climate-fever",
    "scifact",
    "quora",
)
BEIR = (*BEIR_13, "msmarco")
NANOBEIR = (
    "NanoClimateFEVER",
    "NanoDBPedia",
    "NanoFEVER",
    "NanoFiQA2018",
    "NanoHotpotQA",
    "NanoMSMARCO",
    "NanoNFCorpus",
    "NanoNQ",
    "NanoQuoraRetrieval",
    "NanoSCIDOCS",
    "NanoArguAna",
    "NanoSciFact",
    "NanoTouche2020",
)
BENCHMARKS = {"beir-13": BEIR_13, "nanobeir": NANOBEIR}

_OTHER_NAMES = {"webis-touche2020": "touche-2020", "touche2020": "touche-2020", "dbpedia": "dbpedia-entity"}
_HUB_NAMES = {"touche-2020": "webis-touche2020"}


def expand_names(names: Iterable[str]) -> list[str]:
    """The names with each benchmark's word replaced by its collections; repeated ones once."""
    refuse_one_string(names, "names of collections")
    expanded: list[str] = []
    for name in names:
        expanded += BENCHMARKS.get(name.lower(), (name,)) if not Path(name).is_dir() else (name,)
    return list(dict.fromkeys(expanded))


def load_collection(name: str, split: str = "test") -> Collection:
    """A collection by name; downloaded where it is not on this machine yet.

    A folder that exists goes first, then BEIR (`BeIR/NAME` on the hub), NanoBEIR (`zeta-alpha-ai/NanoNAME`,
    which has one split only), and last ir_datasets, always asked for names such as "irds:vaswani".

    Raises:
        InputError: an unknown name, a split that is lacking, or nothing to download it from.
    """
    if Path(name).is_dir():
        return Collection.load(name, split)
    if Path(name).is_file():
        raise InputError(f"{name}: a file; name the folder that holds it, with queries.jsonl and qrels")
    lowered = _OTHER_NAMES.get(name.lower(), name.lower())
    if lowered in BENCHMARKS:
        raise InputError(
            f"{name} is {len(BENCHMARKS[lowered])} collections; load them one by one (expand_names)"
        )
    if lowered in BEIR:
        hub_name = _HUB_NAMES.get(lowered, lowered)
        return load_from_hub(lowered, f"BeIR/{hub_name}", f"BeIR/{hub_name}-qrels", split)
    nano = {candidate.lower(): candidate for candidate in NANOBEIR}
    if lowered in nano:
        repository = f"zeta-alpha-ai/{nano[lowered]}"
        return load_from_hub(nano[lowered], repository, repository, "train")
    if found := load_from_ir_datasets(name, split):
        return found
    near = get_close_matches(lowered, [*BEIR, *nano, *BENCHMARKS], n=3, cutoff=0.6)
    raise InputError(
        f"{name}: no such folder, and no collection of that name"
        + (f" (did you mean {', '.join(near)}?)" if near else "")
        + f". Known are folders in BEIR layout, {', '.join(BENCHMARKS)}, {', '.join(BEIR)}, the NanoBEIR "
        "names and, with `pip install 'neural-sparse[collections]'`, every name of ir_datasets"
    )


def has_splits(name: str) -> bool:
    """Whether a collection may have judgements of several splits; NanoBEIR and ir_datasets names stand for one."""
    return Path(name).is_dir() or _OTHER_NAMES.get(name.lower(), name.lower()) in BEIR


def load_queries(name: str, split: str = "test") -> dict[str, str]:
    """Judged queries of a collection by name, id -> text; its documents are not read where that can be avoided.

    Raises:
        InputError: as `load_collection`.
    """
    folder = Path(name)
    lowered = _OTHER_NAMES.get(name.lower(), name.lower())
    if folder.is_dir() and (folder / "queries.jsonl").is_file():
        texts, judged = read_judged(folder, split)
        return {key: text for key, text in texts.items() if key in judged}
    if not folder.is_dir() and lowered in BEIR:
        hub_name = _HUB_NAMES.get(lowered, lowered)
        try:
            files = hub_files(lowered, f"BeIR/{hub_name}", "main", ("queries/*.parquet",))
        except InputError:  # older revisions have another layout
            return load_collection(name, split).queries
        judged = read_qrels(hub_files(lowered, f"BeIR/{hub_name}-qrels", "main", (f"{split}.tsv",))[0])
        texts = queries_of(one for file in files for one in rows_of(file))
        return {key: text for key, text in texts.items() if key in judged}
    return load_collection(name, split).queries
