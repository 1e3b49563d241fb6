"""The page in a real browser: what is typed, seen, pressed and judged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Client, running

from neural_sparse.corpora.collection import Collection
from neural_sparse.serve import Judgements, bm25_system, encoded_system, make_app

pytestmark = pytest.mark.integration  # a browser takes seconds
QUERY = "sorted list of files"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judged") / "mine"


@pytest.fixture(scope="module")
def server(encoded: Path, judged: Path, documents: list[dict[str, Any]]) -> Iterator[Client]:
    student = encoded_system("student", encoded)
    texts = [(row["_id"], row["text"]) for row in documents]
    app = make_app([student, bm25_system(student)], judgements=Judgements(judged, lambda: texts))
    with running(app) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield made
    made.quit()


class Page:
    """What a test does with the page."""

    def __init__(self, browser: Any, server: Client) -> None:
        self.browser = browser
        self.refused = False
        browser.get(f"http://127.0.0.1:{server.port}/")
        self.until(lambda: self.all("#left option"))

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def until(self, true: Callable[[], Any]) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, 30, poll_frequency=0.05).until(lambda _: true())

    def press(self, *keys: str) -> None:
        for key in keys:
            self.browser.switch_to.active_element.send_keys(key)

    def search(self, query: str) -> None:
        box = self.one("#query")
        box.clear()
        box.send_keys(query, "\n")
        self.until(lambda: "hit" in self.one("#message").text and self.all(".column"))

    def shot(self, name: str) -> None:
        """For people to look at: SCREENSHOTS=folder pytest -m integration tests/unit/serve/test_page.py."""
        if folder := os.environ.get("SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.browser.save_screenshot(f"{folder}/{name}.png")

    def focused(self) -> tuple[str, str]:
        at = self.browser.switch_to.active_element
        return at.get_attribute("data-side"), at.get_attribute("data-id")


@pytest.fixture
def page(browser: Any, server: Client) -> Iterator[Page]:
    made = Page(browser, server)
    yield made
    errors = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    if made.refused:  # to the browser a refusal is an error, logged when it comes to it
        errors = [message for message in errors if "status of 422" not in message]
    assert errors == []


def test_two_systems_side_by_side(page: Page, server: Client) -> None:
    page.search(QUERY)
    ids = {}
    for side in ("student", "bm25"):
        expected = server.post("/search", query=QUERY, index=side, explain=True)[1]
        hits = page.all(f'.column[data-side="{side}"] .hit')
        ids[side] = [hit.get_attribute("data-id") for hit in hits]
        assert ids[side] == [hit["id"] for hit in expected["hits"]]
        tokens = page.all(f'.column[data-side="{side}"] .tokens li')
        assert [token.text.split()[0] for token in tokens] == [
            one["token"] for one in expected["query_tokens"]
        ]
        assert (
            f"{expected['postings']:,} postings read" in page.one(f'.column[data-side="{side}"] .cost').text
        )
        assert page.one(f'.column[data-side="{side}"] .cost').text.endswith(" · exact: every posting")
        marked = [mark.text for mark in hits[0].find_elements("css selector", "mark")]
        pieces = expected["hits"][0]["snippet"]["pieces"]
        assert marked == [text for text, weight in pieces if weight]
        added = [one["token"] for one in expected["hits"][0]["matched"] if not one["in_text"]]
        shown = hits[0].find_elements("css selector", ".words .chip.added:not(.other)")
        assert [chip.text.split()[0] for chip in shown] == added
    for side, other in (("student", "bm25"), ("bm25", "student")):
        for rank, hit in enumerate(page.all(f'.column[data-side="{side}"] .hit')):
            name = ids[side][rank]
            by = ids[other].index(name) - rank if name in ids[other] else None
            words = "only here" if by is None else "=" if by == 0 else f"▲{by}" if by > 0 else f"▼{-by}"
            assert hit.find_element("css selector", ".moved").text == words


def test_by_keys_alone_a_hit_is_judged_and_a_document_opened(page: Page, judged: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    page.search(QUERY)
    page.press(Keys.ARROW_DOWN)
    side, first = page.focused()
    page.press("y")
    page.until(lambda: page.all(".hit.relevant"))
    assert page.focused() == (side, first)  # drawn anew, and still here
    page.press("j", "n")
    page.until(lambda: page.all(".hit.not"))
    second = page.focused()[1]
    assert "2 judged hits of 1 query" in page.one("#judged").text
    page.shot("wide")
    page.press("l")
    assert page.focused()[0] == "bm25"
    page.press("h", Keys.ENTER)
    page.until(lambda: page.all("#document[open] #vector tr"))
    assert page.one("#document-title").text == second
    page.shot("document")
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.all("dialog[open]"))
    page.press("/")
    assert page.browser.switch_to.active_element.get_attribute("id") == "query"
    collection = Collection.load(judged)
    assert collection.qrels == {"q1": {first: 1, second: 0}}
    page.browser.refresh()  # the address holds the search
    page.until(lambda: page.all(".hit.relevant") and page.all(".hit.not"))
    page.one(".hit.not .judge .no").click()
    page.until(lambda: not page.all(".hit.not"))
    assert Collection.load(judged).qrels == {"q1": {first: 1}}


def test_documents_are_text_and_no_markup(page: Page, documents: list[dict[str, Any]]) -> None:
    page.search("<img src=x onerror=alert(2)> sorted script alert cafés")
    page.until(lambda: page.all('.hit[data-id="d3"]'))
    hit = page.one('.column[data-side="bm25"] .hit[data-id="d3"]')
    assert hit.find_element("css selector", ".snippet").text == documents[3]["text"]
    assert page.all("main script, main b, main img") == []
    hit.find_element("css selector", ".open").click()
    page.until(lambda: page.all("#document[open]"))
    assert page.one("#document-text").text == documents[3]["text"]
    assert page.all("#document script, #document b") == []


def test_nothing_found_and_a_server_that_refuses(page: Page) -> None:
    page.search("☃")
    assert "nothing can match" in page.one(".column").text
    page.browser.execute_script("document.getElementById('query').removeAttribute('maxlength')")
    page.browser.execute_script("document.getElementById('query').value = 'x'.repeat(20000); search()")
    page.until(lambda: page.all("#message.error"))
    assert "at most 10000 characters" in page.one("#message").text.replace(",", "")
    page.refused = True


def test_narrow_and_dark(page: Page) -> None:
    command = page.browser.execute_cdp_cmd
    narrow = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    command("Emulation.setDeviceMetricsOverride", narrow)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    try:
        page.search(QUERY)
        widths = page.browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1] == 360
        columns = [column.rect for column in page.all(".column")]
        assert columns[0]["x"] == columns[1]["x"]  # one above the other
        page.shot("narrow")
        light = page.one("body").value_of_css_property("background-color")
        command("Emulation.setEmulatedMedia", dark)
        assert page.one("body").value_of_css_property("background-color") != light
        command("Emulation.clearDeviceMetricsOverride", {})
        page.shot("dark")
    finally:
        command("Emulation.setEmulatedMedia", {"features": []})
        command("Emulation.clearDeviceMetricsOverride", {})
