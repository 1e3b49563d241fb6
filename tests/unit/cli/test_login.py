"""The options of a login are the same wherever a cluster is asked, and reach the client."""

from __future__ import annotations

from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from neural_sparse.cli.login import Login
from neural_sparse.cli.main import app

COMMANDS = ("deploy", "evaluate", "load-test", "ab-test serve")


def parameters(words: str) -> dict[str, tuple[Any, ...]]:
    command: Any = get_command(app)
    for word in words.split():
        command = command.commands[word]
    return {one.name: (one.opts, one.envvar, one.help) for one in command.params}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_same(command: str) -> None:
    found, first = parameters(command), parameters(COMMANDS[0])
    for name in Login.__dataclass_fields__:
        assert found[name] == first[name], name
    assert found["user"][:2] == (["--user"], "OPENSEARCH_USER")


def test_they_reach_the_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"_id": "q", "text": "sort a list"}\n')
    arguments = ["load-test", "--url", "http://localhost:1", "--index", "x", "--queries", str(queries)]
    for more, words in (
        (["--auth", "cert"], "auth cert needs a certificate"),
        (["--auth", "cert", "--cert", str(queries), "--key", "no-key.pem"], "client_key: no-key.pem cannot"),
        (["--ca", "no-ca.pem"], "ca_certs: no-ca.pem cannot be read"),
        (["--auth", "basic"], "auth basic needs a user"),
    ):
        monkeypatch.delenv("OPENSEARCH_USER", raising=False)
        done = CliRunner().invoke(app, [*arguments, *more])
        assert words in str(done.exception), done.output
