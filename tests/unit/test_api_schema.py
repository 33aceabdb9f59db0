"""What the server says it takes: the document is whole, is the page, and is true under fuzzing."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from script_files import script

from medllm.clinical.settings import ReviewSettings
from medllm.engines.fake import FakeEngine

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from medllm.serve.answering import Around  # noqa: E402
from medllm.serve.app import build_app  # noqa: E402
from medllm.serve.callers.callers import Callers  # noqa: E402
from medllm.serve.feedback.store import FeedbackStore  # noqa: E402
from medllm.serve.guard import Guard  # noqa: E402
from medllm.serve.routes.schema import FORMS, build_schema  # noqa: E402

KEY = "a-key-for-tests"
EXAMPLES = 25
"""Requests for each address."""


def app_of(around: Around | None = None) -> Any:
    engine = FakeEngine(context_length=300)
    return build_app(
        engine, model_id="m", callers=Callers(KEY), max_tokens=20, around=around or Around()
    )


def send(app: Any, method: str, path: str, key: str = KEY, **request: Any) -> Any:
    async def ask() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {key}"} | request.pop("headers", {})
        async with httpx.AsyncClient(transport=transport, base_url="http://m") as client:
            return await client.request(method, path, headers=headers, **request)

    return asyncio.run(ask())


def test_the_document_needs_a_key_and_no_network() -> None:
    app = app_of()
    assert send(app, "GET", "/openapi.json", key="wrong").status_code == 401
    told = send(app, "GET", "/openapi.json").json()
    assert told == json.loads(json.dumps(build_schema(app)))
    assert told["openapi"] == "3.1.0" and "http" not in json.dumps(told).replace('"http"', "")


def test_every_form_and_every_address_is_in_it() -> None:
    schema = build_schema(app_of())
    posted = {
        path for path, told in schema["paths"].items() if "requestBody" in told.get("post", {})
    }
    assert posted == FORMS.keys()
    references = json.dumps(schema).split('"#/components/schemas/')[1:]
    told_of = {each.partition('"')[0] for each in references}
    assert told_of <= schema["components"]["schemas"].keys()
    fields = [
        (name, field)
        for name, form in schema["components"]["schemas"].items()
        for field, told in form["properties"].items()
        if name in {form.__name__ for form in FORMS.values()} and not told.get("description")
    ]
    assert fields == [], "each field says what it means"


def test_the_page_is_what_the_document_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "api.md"
    assert page.read_text(encoding="utf-8") == script("build_api_docs").render()


def test_nothing_that_fits_the_document_or_not_is_an_error_of_the_server(tmp_path: Path) -> None:
    reason = "schemathesis is not installed: pip install -e '.[dev]'"
    schemathesis = pytest.importorskip("schemathesis", reason=reason)
    around = Around(guard=Guard(ReviewSettings()), feedback=FeedbackStore(tmp_path))
    app = app_of(around)
    schema = schemathesis.openapi.from_dict(build_schema(app))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:
        modes = schemathesis.GenerationMode
        cases = st.one_of(
            operation.as_strategy(generation_mode=modes.POSITIVE),
            operation.as_strategy(generation_mode=modes.NEGATIVE),
        )

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[*HealthCheck])
        @given(case=cases)
        def ask(case: Any) -> None:
            body = b"" if case.body.__class__.__name__ == "NotSet" else case.body
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            told = send(app, case.method, case.formatted_path, content=content)
            assert told.status_code < 500, (case.method, case.path, case.body, told.text)

        ask()
    if around.feedback:
        around.feedback.close()
