"""The server's page in a real browser: a conversation, its review, feedback, nothing from outside.

It needs Playwright and Debian's chromium: `pip install playwright`, `apt install chromium`.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from medllm.clinical.settings import ReviewSettings
from medllm.engines.fake import FakeEngine
from medllm.serve.answering import Around
from medllm.serve.app import build_app
from medllm.serve.callers.callers import Callers
from medllm.serve.feedback.store import FeedbackStore
from medllm.serve.guard import Guard
from medllm.serve.server import running_server

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no chromium")

BAD = "Take warfarin 5 mg and ibuprofen 400 mg daily."
SCREENS = {"desktop": (1100, 900), "phone": (390, 800)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with closing(FeedbackStore(tmp_path / "feedback")) as store:
        yield store


@pytest.fixture
def url(store: FeedbackStore) -> Iterator[str]:
    around = Around(guard=Guard(ReviewSettings()), has_page=True, feedback=store)
    engine, callers = FakeEngine(), Callers("secret")
    app = build_app(engine, model_id="m", callers=callers, max_tokens=300, around=around)
    with running_server(app) as url:
        yield url


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_answer_is_asked_for_reviewed_and_rated(
    browser: Any, url: str, store: FeedbackStore, tmp_path: Path, screen: str, scheme: str
) -> None:
    width, height = SCREENS[screen]
    size = {"width": width, "height": height}
    page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
    asked, errors = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.get_by_label("The key that you were given").fill("secret")
    page.get_by_label("Question").fill(BAD)
    page.keyboard.press("Control+Enter")
    page.get_by_text("Rate this answer").click()
    assert page.locator(".findings .major").count() == 1
    assert "CredibleMeds" in page.locator(".findings").inner_text()

    rating = page.locator(".rate form")
    rating.get_by_role("button").click()
    assert rating.locator("[role=status]").inner_text() == "Say first how helpful it is."
    rating.locator("fieldset").nth(0).get_by_label("4").check()
    rating.get_by_label("What should have been answered").fill("Paracetamol.")
    rating.get_by_role("button").click()
    page.get_by_text("Kept. Thank you.").wait_for()
    (line,) = store.lines()
    assert (line["helpfulness"], line["correction"]) == (4, "Paracetamol.")
    assert line["asked"] == [{"role": "user", "content": BAD}]

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == [] and all(each.startswith(url) for each in asked)
    page.screenshot(path=tmp_path / "page.png", full_page=True)


def test_what_goes_wrong_is_said_and_the_question_is_there_to_be_sent_again(browser: Any) -> None:
    around = Around(guard=Guard(ReviewSettings()), has_page=True)
    app = build_app(
        FakeEngine(), model_id="m", callers=Callers("secret"), max_tokens=20, around=around
    )
    page = browser.new_page()
    with running_server(app) as url:
        page.goto(url)
        page.get_by_text("a key is needed").wait_for()
        page.get_by_label("The key that you were given").fill("wrong")
        page.locator("#question").fill("What helps against a cough?")
        page.keyboard.press("Control+Enter")
        page.locator("article .error", has_text="This key is missing or wrong").wait_for()
        assert page.locator("#question").input_value() == "What helps against a cough?"

        page.get_by_label("The key that you were given").fill("secret")
        page.locator("#question").press("Control+Enter")
        page.get_by_text("Cut off: this is as long as an answer may be here").wait_for()
        assert page.locator("#question").input_value() == ""
    page.locator("#question").fill("Again?")
    page.keyboard.press("Control+Enter")
    page.locator("article .error", has_text="the server cannot be reached").wait_for()
    assert page.locator("#question").input_value() == "Again?"


def test_what_is_urgent_stands_before_the_answer(browser: Any, url: str) -> None:
    page = browser.new_page()
    page.goto(url)
    page.get_by_label("The key that you were given").fill("secret")
    page.locator("#question").fill("Crushing chest pain is going down my left arm, I sweat")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Rate this answer").wait_for()
    said = page.locator("article.assistant").inner_text()
    assert said.index("does not say to get emergency help") < said.index("You said:")
    assert said.count("possible signs of a heart attack") == 1
