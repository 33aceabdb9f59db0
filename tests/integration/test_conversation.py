"""A conversation in the terminal, and a prompt from stdin."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from typed import COMMAND, QUIET, Typed

CHAT = ("chat", "--model", "medllm/tiny", "--max-tokens", "8")
GENERATE = ("generate", "--model", "medllm/tiny", "--max-tokens", "8")


def pipe(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))


def test_what_is_piped_in_is_answered_line_by_line(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = typed(*GENERATE, "--prompt", "What is sepsis?").stdout
    pipe(b"What is sepsis?\n\n/reset\nWhat is sepsis?\nAnd its signs?\n/exit\nNever\n", monkeypatch)

    ended = typed(*CHAT)

    assert ended.returncode == 0
    assert ended.stdout.startswith(one + one)
    second = ended.stdout.removeprefix(one + one)
    assert second.strip()
    assert "no medical device" in ended.stderr
    assert "a new conversation begins" in ended.stderr
    pipe(b"And its signs?\n", monkeypatch)
    assert typed(*CHAT).stdout != second  # which heeds what was said before
    assert list(Path().iterdir()) == []
    pipe(b"What is sepsis?\n", monkeypatch)
    reviewed = typed(*CHAT, "--review", "--temperature", "1", "--top-k", "1")
    assert reviewed.stdout == one  # the likeliest token is the only one that may be drawn
    assert "review: " in reviewed.stderr


def test_an_emergency_goes_on_in_the_turns_after_it(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(b"I have crushing chest pain and I am sweating.\nAre you sure?\n", monkeypatch)

    told = typed(*CHAT, "--review").stderr

    assert told.count("does not say to get emergency help") == 2


def test_a_full_context_is_said_and_the_conversation_goes_on(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = b"fever " * 30
    pipe(b"Hello\n" + long + b"\n/reset\nHello\n", monkeypatch)

    ended = typed(*CHAT, "--n-ctx", "64")

    half = len(ended.stdout) // 2
    assert ended.stdout[:half] == ended.stdout[half:]
    assert "the context of 64 tokens is full: this was not asked; /reset" in ended.stderr
    pipe(long + b"\n", monkeypatch)
    assert "not answered: the prompt has " in typed(*CHAT, "--n-ctx", "64").stderr


def test_chat_has_no_document(typed: Typed) -> None:
    ended = typed(*CHAT, "--json")

    assert ended.returncode == 2
    assert "chat has no result to print as JSON" in ended.stderr


def test_a_prompt_is_read_from_stdin(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    named = typed(*GENERATE, "--prompt", "Was ist Sepsis?\nKurz – bitte.").stdout
    pipe("Was ist Sepsis?\nKurz – bitte.\n".encode(), monkeypatch)

    assert typed(*GENERATE, "--prompt", "-").stdout == named


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [(b" \n", 2, "no prompt on stdin"), (b"\xff\xfe", 3, "not UTF-8 text")],
)
def test_a_prompt_that_cannot_be_read_is_refused(
    text: bytes, code: int, message: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(text, monkeypatch)

    ended = typed(*GENERATE, "--prompt", "-")

    assert ended.returncode == code
    assert message in ended.stderr


def test_the_system_text_stands_before_the_prompt(typed: Typed) -> None:
    plain = typed(*GENERATE, "--prompt", "What is sepsis?")
    told = typed(*GENERATE, "--prompt", "What is sepsis?", "--system", "Findings: clear lungs.")

    assert plain.stdout != told.stdout
    assert told.returncode == 0


def test_in_a_terminal_ctrl_c_stops_an_answer_and_ctrl_d_ends() -> None:
    controller, terminal = pty.openpty()
    words = ("chat", "--model", "medllm/tiny", "--max-tokens", "900")
    process = subprocess.Popen(
        [*COMMAND, *words],
        stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True, start_new_session=True,
        env={**os.environ, **QUIET, "TERM": "dumb"},
    )  # fmt: skip
    os.close(terminal)
    try:
        read_until(controller, "> ")
        os.write(controller, b"What is sepsis?\n")
        shown = read_until(controller, r"\?\s+[^>]{3,}")
        process.send_signal(signal.SIGINT)
        shown += read_until(controller, "stopped; the next question.*> ")
        os.write(controller, b"\x04")
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    assert "no medical device" not in shown  # said before the first question
    assert "Traceback" not in shown


def read_until(controller: int, pattern: str) -> str:
    """What the terminal shows until it matches."""
    shown, limit = "", time.monotonic() + 120
    while not re.search(pattern, shown, re.S):
        assert time.monotonic() < limit, shown
        if select.select([controller], [], [], 1)[0]:
            shown += os.read(controller, 1024).decode(errors="replace")
    return shown


def test_a_prompt_and_a_file_of_prompts_are_two_commands(typed: Typed) -> None:
    ended = typed(*GENERATE, "--prompt", "What is sepsis?", "--input", "prompts.jsonl")
    assert ended.returncode == 2 and "--input into a file" in ended.stderr
