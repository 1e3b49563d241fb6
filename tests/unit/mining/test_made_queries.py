"""Queries of a language model: the protocol is real, the answers are words of the document."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from neural_sparse.adapt.data import make_data
from neural_sparse.cli import data as data_command
from neural_sparse.config import settings_from_yaml
from neural_sparse.data.training_set import load_training_set
from neural_sparse.errors import InputError
from neural_sparse.mining.made_queries import QueryMaker, QueryMakerSettings, queries_in

pytest.importorskip("httpx2")
ANIMALS = ("zebra", "otter", "heron", "lynx", "badger", "falcon", "weasel", "marmot")
DOCUMENTS = [f"The {name} lives near water. It eats {name}berries and sleeps by day." for name in ANIMALS]
KOREAN = "수달은 강가에 살며 물고기를 먹는다. 낮에는 굴에서 잠을 자고 밤에 사냥을 한다."


class Model:
    """Answers with words of the document that it finds behind the prompt."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.answer: Callable[[str], Any] = lambda document: (
            f"1. {document.split()[1]} food\n2. water animals"
        )
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions"
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][0]["content"]
                found = outer.answer(prompt.split(":\n", 1)[1])
                status = found if isinstance(found, int) else 200
                if status == 200:
                    outer.prompts.append(prompt)
                choice = {"message": {"role": "assistant", "content": found}, "finish_reason": "stop"}
                content = json.dumps({"choices": [choice], "usage": {"total_tokens": 7}}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.chdir(tmp_path)
    made = Model()
    yield made
    made.http.shutdown()
    made.http.server_close()


def maker(model: Model, **values: Any) -> QueryMaker:
    return QueryMaker(
        QueryMakerSettings(name="m", url=model.url, **{"retries": 0, "concurrency": 1, **values})
    )


def test_kept_are_new_queries_that_find_their_document(
    model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    made = maker(model, found_within=1, price_per_million_tokens=1.0)
    with caplog.at_level(logging.INFO):
        made.ask(DOCUMENTS)
    counts = {
        "documents": 8,
        "written": 16,
        "repeated": 7,
        "not_found": 0,
        "kept": 9,
        "without": 0,
        "asked": 8,
    }
    # "water animals" of the first document alone: bm25 puts it first among equals
    assert made.counts == counts
    assert made(DOCUMENTS[3], "") == ["lynx food"]
    assert "8 documents to ask about (0 cut at 4,000 characters)" in caplog.messages[0]
    assert "cost less than 0.01" in caplog.messages[0]
    assert "9 kept for 8 of 8 documents" in caplog.text
    model.answer = lambda document: "nothing that is there"
    away = maker(model, found_within=1, queries=2)
    away.ask(DOCUMENTS)  # another number of queries is another question
    assert away.counts["kept"] == 0
    assert len(model.prompts) == 16


def test_each_document_is_asked_about_once_ever(model: Model) -> None:
    good, asked = model.answer, []

    def broken(document: str) -> Any:
        asked.append(document)
        return good(document) if len(asked) < 4 else 400

    model.answer = broken
    with pytest.raises(InputError, match="answered 400"):
        maker(model).ask(DOCUMENTS)
    file = maker(model).file
    assert len(file.read_text().splitlines()) == 3
    with file.open("a") as out:
        out.write('{"key": "half')  # as a kill leaves it
    model.answer = good
    maker(model).ask(DOCUMENTS)
    assert len(model.prompts) == len(DOCUMENTS)
    again = maker(model)
    again.ask(DOCUMENTS)
    assert again.counts["asked"] == 0
    assert len(model.prompts) == len(DOCUMENTS)


def test_prompts_by_language(model: Model) -> None:
    settings = maker(model, prompts={"en": "Ask {n}:\n{document}"}, max_characters=20).settings
    assert settings.prompt(DOCUMENTS[0]) == "Ask 3:\nThe zebra lives near"
    assert settings.prompt(KOREAN).startswith("아래 문서가")


def test_prepare_and_adapt_take_them(model: Model, tmp_path: Path) -> None:
    rows = [{"_id": str(row), "title": "", "text": text} for row, text in enumerate(DOCUMENTS)]
    Path("corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("asking.yaml").write_text(f"name: m\nurl: {model.url}\nqueries: 2\nfound_within: 3\nprompts: {{}}\n")
    command = ["prepare", "corpus.jsonl", "--queries-from", "endpoint:asking.yaml", "--sample", "5"]
    command += ["--near-duplicates", "0", "--workers", "1", "--output"]
    result = CliRunner().invoke(data_command.app, [*command, "asked"])
    assert result.exit_code == 0, result.output
    assert len(model.prompts) == 5
    found = load_training_set(["asked"])
    pairs = {(query, found.documents[row]) for query, row in zip(found.queries, found.positives, strict=True)}
    assert all(query.split()[0] in text for query, text in pairs)
    assert len(found.documents) == len(DOCUMENTS)
    assert CliRunner().invoke(data_command.app, [*command, "asked"]).exit_code == 0  # there already
    made = QueryMaker(QueryMakerSettings.read("endpoint:asking.yaml"))
    data = make_data(Path("corpus.jsonl"), {}, seed=1, generator=made)
    assert len(model.prompts) == len(DOCUMENTS)  # five were answered before
    queries = [*data.split.select.queries.values(), *data.split.test.queries.values()]
    assert all(query.endswith(("food", "animals")) for query in queries)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<think>which\nones?</think>- one two\n• three", ["one two", "three"]),
        ('["a b", "a B", "c"]', ["a b", "c"]),
        ("Here are the queries:\n1) a\n\n“b”", ["a", "b"]),
        ("", []),
    ],
)
def test_what_is_a_query(content: str, expected: list[str]) -> None:
    assert queries_in(content, 3) == expected


def test_an_answer_cut_off_loses_its_last_line() -> None:
    assert queries_in("one\ntwo\nthr", 3, unfinished=True) == ["one", "two"]


def test_bad_input(model: Model, tmp_path: Path) -> None:
    read = QueryMakerSettings.read
    for text, message in (
        ("endpoint:m", "endpoint:MODEL@URL, or endpoint:FILE.yaml"),
        ("endpoint:none.yaml", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            read(text)
    for values, message in (
        ("name: m\nurl: http://h/v1\nquerys: 3", "did you mean 'queries'"),
        ("name: m\nurl: http://h/v1\nprompts: {en: hello}", "the prompt for en needs {document}"),
        ("name: m\nurl: http://h/v1\nfound_by: magic", "unknown kind 'magic'"),
        ("url: http://h/v1", "name the model"),
        ("name: m\nurl: http://h/v1\ndimensions: 3", "takes no dimensions"),
    ):
        (tmp_path / "bad.yaml").write_text(values)
        with pytest.raises(InputError, match=message):
            settings_from_yaml(QueryMakerSettings, tmp_path / "bad.yaml")
    model.answer = lambda document: ""
    with pytest.raises(InputError, match="twenty answers, and no query in any"):
        maker(model).ask([f"document number {number}" for number in range(30)])
