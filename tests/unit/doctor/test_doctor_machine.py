"""The doctor's rules for a machine; nothing here asks the network."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from neural_sparse.doctor import machine
from neural_sparse.doctor import machine as rules

GB = rules.GB


def test_versions() -> None:
    wanted = {"torch": ">=2.6", "transformers": ">=5,<6"}
    good = {"Python": "3.11.7", "torch": "2.13.0+cpu", "transformers": "5.23.0.dev0"}
    assert rules.versions(good, wanted).verdict == "ok"
    assert rules.versions(good, wanted).found == "Python 3.11.7, torch 2.13.0+cpu, transformers 5.23.0.dev0"
    for bad in ({"transformers": "6.0"}, {"transformers": None}, {"torch": "2.5.1"}):
        finding = rules.versions(good | bad, wanted)
        assert finding.verdict == "problem"
        assert next(iter(bad)) in finding.found
    assert rules.versions({"Python": "3.11"}, {}).verdict == "ok"


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((12, 1), ["sm_90", "sm_120"], True),  # DGX Spark: code of 12.0 runs on 12.1
        ((12, 1), ["sm_80", "sm_90"], False),
        ((12, 1), ["sm_90", "compute_90"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120a"], False),
        ((12, 1), ["sm_120f"], True),
        ((9, 0), ["nonsense"], False),
    ],
)
def test_what_runs_on_a_device(capability: tuple[int, int], built_for: list[str], runs: bool) -> None:
    assert rules.runs_on(capability, built_for) is runs
    finding = rules.device("NVIDIA GB10", capability, built_for)
    assert finding.verdict == ("ok" if runs else "problem")


def test_a_gpu_that_torch_does_not_see() -> None:
    assert rules.device(None, cores=2).verdict == "ok"
    assert "tiny-cpu" in rules.device(None, cores=2).advice
    assert rules.device(None, driver=True).verdict == "warning"


def test_bf16() -> None:
    assert rules.bf16(True, True).verdict == rules.bf16(False, False).verdict == "ok"
    assert "cache_tokens" in rules.bf16(False, True).advice


def test_memory_and_disk() -> None:
    assert rules.memory("memory", 4 * GB, 8 * GB).verdict == "ok"
    assert "auto_batch=true" in rules.memory("memory", 4 * GB - 1, 8 * GB).advice
    assert rules.memory("memory", None, None).verdict == "ok"
    assert [rules.disk("x", free, "move").verdict for free in (10 * GB, 10 * GB - 1, GB, GB - 1)] == [
        "ok",
        "warning",
        "warning",
        "problem",
    ]


def test_offline_is_told_and_no_fault() -> None:
    offline = rules.hub("no route", False, "/cache")
    assert (offline.verdict, "offline: no route" in offline.found) == ("ok", True)
    assert "HF_HOME" in offline.advice
    assert "HF_HUB_OFFLINE is set" in rules.hub(None, True, "/cache").found
    assert rules.hub(None, False, "/cache").found == "reachable"


def test_a_token_is_never_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    findings = machine.machine_findings(tmp_path / "not" / "yet", compile_too=False)
    assert "hf_sesame" not in str(findings)
    assert {finding.check: finding.found for finding in findings}["hub token"] == "yes"
    assert {"device", "bf16", "memory", "disk (outputs)", "versions", "hub"} <= {f.check for f in findings}
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    assert rules.token(False).found == "no"


def test_compilation_is_tried_apart() -> None:
    assert machine.try_compile("cpu", "") is None
    assert machine.try_compile("cpu", "import os; os.kill(os.getpid(), 11)") == "exit status -11"
    error = machine.try_compile("cpu", "raise RuntimeError('no compiler')")
    assert error == "RuntimeError: no compiler"
    assert machine.try_compile("cpu", "while True: pass", 0.5) == "not done after 0 seconds"
    finding = rules.compilation(error)
    assert (finding.verdict, "compile=false" in finding.advice) == ("warning", True)
    assert rules.compilation(None).verdict == "ok"


class Refusing(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_hub_answers_with_whatever_status(address: str) -> None:
    assert machine.reach(address) is None
    assert "does not answer" in str(machine.reach("http://127.0.0.1:1"))
    assert "does not answer" in str(machine.reach("nonsense"))


def test_an_address_that_is_silent() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        error = machine.reach(f"http://127.0.0.1:{listening.getsockname()[1]}", 0.3)
    assert "does not answer" in str(error)
