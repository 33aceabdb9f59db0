"""A conversation in the terminal: an answer after another, and nothing kept on the disk."""

import sys
from collections.abc import Iterator
from contextlib import closing

from medllm import console
from medllm.data.example import Message
from medllm.data.shapes.values import clean
from medllm.engines.base import EngineDown, Generates
from medllm.errors import ConfigError, DataError, MedllmError
from medllm.generate.config import GenerateConfig
from medllm.generate.opening import announce_cut, announce_of_files, answer, open_engine, resolve
from medllm.generate.reviewing import Reviewer, show_report
from medllm.models.chat.prompts import UnfitPrompt
from medllm.models.memory import within_memory

Turns = tuple[Message, ...]
PROMPT = "> "
COMMANDS = "/reset begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer"
WARNING = (
    "For research only: this is no medical device. Nothing it writes may reach a patient without a "
    "qualified person who has checked it."
)


@within_memory("chat", "lower --n-ctx, or choose a quantized model")
def chat(config: GenerateConfig) -> None:
    """Answer what is typed, or piped in line by line, until it ends; earlier turns are heeded.

    Raises:
        ConfigError: no model is named, or several stages are.
        DataError: what is piped in is not UTF-8.
        ArtifactError: the model is missing, altered or unfinished.
    """
    if config.stages:
        fix = "name the model of one stage with --model, without the recipe"
        raise ConfigError("a conversation has no stages", fix)
    reviewer = Reviewer.of(config.review) if config.review else None
    model = resolve(config)
    announce_of_files("chat", config)
    engine = open_engine(model, config)
    console.notice(f"{WARNING}\n{COMMANDS}; {engine.context_length:,} tokens of context")
    turns: Turns = ()
    with closing(engine):
        for line in _typed_lines():
            if line == "/exit":
                return
            if line == "/reset":
                turns = ()
                console.notice("a new conversation begins")
            elif line.startswith("/") and line[1:].isalpha():
                console.notice(f"no such command: {line:.40}; {COMMANDS}")
            elif line:
                turns = _take_turn(engine, turns, line, config, reviewer)


def _take_turn(
    engine: Generates, turns: Turns, line: str, config: GenerateConfig, reviewer: Reviewer | None
) -> Turns:
    """The conversation with what was asked and answered; as it was where nothing was answered."""
    asked = (*turns, Message("user", clean(line)))
    is_held_back = reviewer is not None and reviewer.policy.action != "annotate"
    texts: list[str] = []
    reason = None
    try:
        for piece in answer(engine, asked, config):
            if not is_held_back:
                console.show_text(piece.text, end="")
            texts.append(piece.text)
            reason = piece.finish_reason
    except KeyboardInterrupt:
        reason = "stopped"
    except (DataError, EngineDown) as problem:
        if texts:
            console.show_text("")
        _announce_refusal(problem, is_first=not turns)
        return turns
    said = "".join(texts)
    if reviewer:
        said = _show_reviewed(reviewer, said, asked, is_held_back=is_held_back)
    else:
        console.show_text("")
    if reason == "stopped":
        console.notice("stopped; the next question goes on from here")
    if reason == "length":
        announce_cut(config)
    return (*asked, Message("assistant", said))


def _show_reviewed(reviewer: Reviewer, said: str, asked: Turns, *, is_held_back: bool) -> str:
    """The answer as it may be shown, which was not shown before where it is held back."""
    reviewed = reviewer.review_turn(said, asked)
    console.show_text(reviewed.text if is_held_back else "")
    show_report(reviewed.report)
    return reviewed.text if is_held_back else said


def _announce_refusal(problem: MedllmError, *, is_first: bool) -> None:
    """Say why there is no answer."""
    if isinstance(problem, UnfitPrompt) and not is_first:
        full = f"the context of {problem.context_length:,} tokens is full"
        console.notice(f"{full}: this was not asked; /reset begins anew, --n-ctx sets a longer one")
    else:
        console.notice(f"not answered: {problem.message}; {problem.fix}")


def _typed_lines() -> Iterator[str]:
    """What is typed or piped in, until it ends; at an empty line Ctrl-C ends nothing."""
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        import readline  # noqa: F401 - lines can be edited; their history stays in memory
    while True:
        try:
            yield (input(PROMPT) if is_terminal else _read_line()).strip()
        except KeyboardInterrupt:
            if not is_terminal:
                raise
            console.notice(f"\n{COMMANDS}")
        except EOFError:
            return


def _read_line() -> str:
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError as problem:
        raise DataError("what is piped in is not UTF-8 text", "convert it to UTF-8") from problem
    if not line:
        raise EOFError
    return line
