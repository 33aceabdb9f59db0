"""Chat templates are programs of other people: they end, and take little memory."""

import signal
import threading
import time

import pytest
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from medllm.errors import ArtifactError, DataError, MedllmError
from medllm.models.chat import rendering
from medllm.models.chat.rendering import bounded_rendering


def render(template: str) -> str:
    def refuse(words: str) -> None:
        raise TemplateError(words)

    environment = ImmutableSandboxedEnvironment()
    environment.globals["raise_exception"] = refuse
    with bounded_rendering():
        return environment.from_string(template).render(messages=[])


def test_a_template_that_ends_is_rendered_and_the_alarm_is_off_again() -> None:
    before = signal.getsignal(signal.SIGALRM)

    assert render("{% for i in range(3) %}{{ i }}{% endfor %}") == "012"

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(x=9) %}{% for i in range(9) %}{% set n.x = n.x ** 9 %}{% endfor %}",
    ],
    ids=["loops", "powers"],
)
def test_one_that_does_not_end_is_stopped(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.2)
    began = time.monotonic()

    with pytest.raises(ArtifactError, match="does not end within"):
        render(template)

    assert time.monotonic() - began < 20


def test_in_a_thread_of_a_server_it_is_stopped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "MOST_SECONDS", 0.2)
    found: list[MedllmError] = []

    def ask() -> None:
        try:
            render("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
        except MedllmError as problem:
            found.append(problem)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(60)

    assert "does not end" in found[0].message


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages and 1 or 'x' * 100000000000 }}",
        "{% set n = namespace(x='x') %}"
        "{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{{ '%100000000000d' % 1 }}",
    ],
    ids=["repeated", "doubled", "padded"],
)
def test_one_that_takes_gigabytes_is_stopped(template: str) -> None:
    with pytest.raises(ArtifactError, match="the chat template is broken: "):
        render(template)


@pytest.mark.parametrize(
    "template",
    [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for %}",
        "{{ 1 // 0 }}",
        "{{ 'a' + 1 }}",
        "{{ messages[7].content }}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_one_that_is_broken_is_named_so(template: str) -> None:
    with pytest.raises(ArtifactError, match="the chat template is broken: "):
        render(template)


def test_what_a_template_says_against_the_messages_is_passed_on() -> None:
    with pytest.raises(DataError, match="refuses the messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")
