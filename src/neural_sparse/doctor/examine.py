"""Which kind of thing a path is, and the findings for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neural_sparse.doctor.idf_table import idf_findings
from neural_sparse.errors import InputError
from neural_sparse.finding import Finding
from neural_sparse.io.files import read_json
from neural_sparse.model.location import resolve_model
from neural_sparse.model.tokenizer import load_tokenizer
from neural_sparse.training.run_record import CONFIG_FILE, read_training_run
from neural_sparse.training.run_rules import run_findings

Kind = Literal["machine", "idf", "model", "run", "backbone"]
MODEL_FILES = ("modules.json", "config.json")


@dataclass(frozen=True)
class Examination:
    """Everything found about one thing.

    Attributes:
        path: as it was given; empty for the machine.
    """

    kind: Kind
    path: str
    findings: Sequence[Finding]

    @property
    def problems(self) -> int:
        return sum(finding.verdict == "problem" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return sum(finding.verdict == "warning" for finding in self.findings)


def examine(path: str | Path | None = None, tokenizer: str | None = None) -> Examination:
    """Check an IDF table, a model folder or a run folder; the machine without a path.

    Args:
        tokenizer: model whose tokenizer an IDF table has to fit.

    Raises:
        InputError: the path is none of these; no such tokenizer.
    """
    if path is None:
        from neural_sparse.doctor.machine import machine_findings

        return Examination("machine", "", machine_findings())
    kind = kind_of(path)
    if kind == "idf":
        return Examination(kind, str(path), _idf(Path(path), tokenizer))
    if kind == "run":
        run = read_training_run(Path(path))
        findings = run_findings(run)
        return Examination(kind, str(path), findings + (idf_findings(run.idf) if run.idf else []))
    from neural_sparse.doctor.model import model_findings

    return Examination(kind, str(path), model_findings(resolve_model(str(path))))


def examine_backbone(name: str) -> Examination:
    """Check a model that training is to start from: a folder, a folder inside an installed package, a hub id.

    Raises:
        InputError: no such model.
    """
    from neural_sparse.doctor.backbone import backbone_findings

    return Examination("backbone", name, backbone_findings(name))


def kind_of(path: str | Path) -> Kind:
    """
    Raises:
        InputError: none of them, with what was looked for.
    """
    folder = Path(resolve_model(str(path)))
    if folder.is_file():
        if folder.suffix == ".json" and isinstance(read_json(folder), dict):
            return "idf"
        raise InputError(f"{path}: a file, but no IDF table, which is a .json file of {{token: weight}}")
    if not folder.is_dir():
        raise InputError(
            f"{path}: there is no such file or folder. `doctor` looks at an idf.json, a model folder "
            f"(a hub model once it is downloaded) or a run folder"
        )
    if (folder / CONFIG_FILE).is_file():
        return "run"
    if any((folder / file).is_file() for file in MODEL_FILES):
        return "model"
    inside = sorted(item.name for item in folder.iterdir())
    raise InputError(
        f"{path}: neither a run (no {CONFIG_FILE}) nor a model (no {' or '.join(MODEL_FILES)}); it holds "
        + (", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "") if inside else "nothing")
    )


def _idf(path: Path, tokenizer: str | None) -> list[Finding]:
    table: dict[str, Any] = read_json(path)
    if any(isinstance(value, (dict, list)) for value in table.values()):
        raise InputError(f"{path}: no IDF table, which is flat: {{token: weight}}")
    if tokenizer is None:
        return idf_findings(table)
    from neural_sparse.text.tokens import vocabulary

    loaded = load_tokenizer(tokenizer)
    return idf_findings(table, vocabulary(loaded), loaded.all_special_tokens)
