"""benchmarks/gpu.py, whose one chance on a GPU should not be lost to a slip."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
pytest.importorskip("triton", reason="Triton is not installed (it exists for Linux only)")


@pytest.fixture(scope="module")
def gpu() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_benchmark"] = module
    spec.loader.exec_module(module)
    return module


def section(gpu: Any, measure: Any) -> Any:
    cases = [{"texts": number} for number in range(3)]
    return gpu.Section(
        "made", 1.0, "texts | figure", cases, measure, lambda case: [str(case["texts"]), case["figure"]]
    )


def test_out_of_memory_and_faults_leave_the_other_cases(gpu, capsys) -> None:
    def measure(case: dict[str, Any]) -> dict[str, Any]:
        if case["texts"] == 0:
            raise torch.OutOfMemoryError
        return {"figure": "7" if case["texts"] == 1 else 1 / 0}

    done = gpu.run(section(gpu, measure), gpu.elapsed() + 60)
    assert [row.get("failed") for row in done["rows"]] == ["OOM", None, "error"]
    assert not done["left_out"]
    printed = capsys.readouterr()
    assert "| 1 | 7 |" in printed.out
    assert "| texts 0 | OOM |" in printed.out
    assert "ZeroDivisionError" in printed.err


def test_what_is_done_is_kept_when_time_is_up(gpu, capsys) -> None:
    def measure(case: dict[str, Any]) -> dict[str, Any]:
        if case["texts"]:
            signal.raise_signal(signal.SIGALRM)
        return {"figure": "7"}

    done = gpu.run(section(gpu, measure), gpu.elapsed() + 600)
    assert [row["texts"] for row in done["rows"]] == [0]
    assert [case["texts"] for case in done["left_out"]] == [1, 2]
    assert "left out for time, 2 of 3" in capsys.readouterr().out


def test_a_section_is_stopped_when_its_time_is_up(gpu) -> None:
    def measure(case: dict[str, Any]) -> dict[str, Any]:
        while True:
            pass

    done = gpu.run(section(gpu, measure), gpu.elapsed())
    assert not done["rows"]
    assert len(done["left_out"]) == 3


def test_shares_are_the_whole_time(gpu) -> None:
    assert sum(made(tiny=False).share for made in gpu.SECTIONS) == pytest.approx(1)


@pytest.mark.integration  # every section at its smallest, kernels under the interpreter
def test_every_section_works(tmp_path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "--tiny", "--output", str(tmp_path / "gpu.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads((tmp_path / "gpu.json").read_text())
    for name, made in report["sections"].items():
        assert made["rows"], name
        assert not made["left_out"], name
        assert f"<!-- /gpu-{name} -->" in done.stdout
        assert not any("failed" in arm for row in made["rows"] for arm in row.get("arms", {}).values())
    for row in report["sections"]["kernels"]["rows"]:
        assert row["value"] < 1e-5
        assert row["gradient"] < 1e-5
    compiled = report["sections"]["compiled"]["rows"][-1]
    assert compiled["graphs"] <= 2  # for batches of any lengths: groups of several texts, and of one
