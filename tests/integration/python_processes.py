"""Python processes that begin with everything imported: they are forked from one that has done it.

A new interpreter takes seconds of processor time to import torch, transformers and sentence-transformers, more than
most tests need for their work. The processes here are otherwise what `python ...` starts: they have their own
memory, environment and output, can be killed, and start workers of their own.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# What training, encoding and judging import; none of it starts a thread.
PRELOADED = [
    "neural_sparse.cli.main",
    "neural_sparse.adapt.run",
    "neural_sparse.training.train",
    "transformers.models.bert.modeling_bert",
]
CLI = "from neural_sparse.cli.main import main; main()"
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["__main__", *PRELOADED])


@dataclass(frozen=True)
class Done:
    """As subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """As subprocess.Popen, with text as its input and files as its output."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
    ) -> None:
        self._files = tempfile.TemporaryDirectory()
        folder = Path(self._files.name)
        (folder / "stdin").write_text(stdin, encoding="utf-8")
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        for file in (self.stdout, self.stderr):
            file.touch()
        environment = dict(os.environ) if environment is None else environment
        work = (arguments, environment, str(cwd or Path.cwd()), str(folder))
        _start_server()
        self._process = _context.Process(target=_run, args=work)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("python", timeout or 0)
        return code

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.join()

    def done(self, timeout: float | None = None) -> Done:
        """Wait for the end; kills the process if that takes longer than `timeout` seconds."""
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return Done(code, self.stdout.read_text(), self.stderr.read_text())


def python(
    *arguments: str | Path,
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float = 600,
) -> Done:
    """What `python *arguments` leaves: ("-c", program, ...), ("-m", module, ...) or (file, ...).

    Args:
        environment: all of it; None for this process's.
    """
    return Running([*map(str, arguments)], environment, cwd, stdin).done(timeout)


def _start_server() -> None:
    """With the settings that the command line makes before it imports anything (`neural_sparse.cli.main.settings`)."""
    before = dict(os.environ)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(arguments: list[str], environment: dict[str, str], cwd: str, folder: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        with Path(folder, name).open(mode) as file:
            os.dup2(file.fileno(), number)
        setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False, buffering=1))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if threads := environment.get("OMP_NUM_THREADS"):  # read when torch was imported
        import torch

        torch.set_num_threads(int(threads))
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    kind, *rest = arguments
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(kind).parent))
        runpy.run_path(kind, run_name="__main__")
