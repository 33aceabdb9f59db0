"""Asking a served model once: what `medllm run` does with a `serve:` section."""

import json
import textwrap
from functools import partial
from pathlib import Path

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import write_atomically
from medllm.config.base import VerbConfig
from medllm.data.access import may_show
from medllm.models.load import resolve_model
from medllm.places import short_path
from medllm.serve.config import ServeConfig

SHOWN = 200
"""The most characters of an answer on the screen."""


class Asked(VerbConfig):
    """What the answer of a served model depends on."""

    question: str
    """What it was asked."""
    serve: ServeConfig
    """How it was served."""


def ask_once(config: ServeConfig, folder: Path, overwrite: bool, base: str | None = None) -> None:
    """Ask the served model one question, and keep its answer; also the base, where config says so.

    What is shown of an answer is its beginning.
    """
    models = [resolve_model(config.model)]
    if config.ask_base and base:
        models.append(resolve_model(base))
    served = config.model_copy(update={"api_key": None})
    asked = Asked(output=folder, overwrite=overwrite, question=config.question, serve=served)
    produce(Job.of(asked, "generation", "serve", "served", *models), partial(_answer, config, base))
    kept = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    is_open = may_show(models[0].data_terms)
    shown = {"answer": kept["answer"] if is_open else None}
    shown |= {"answer_characters": len(kept["answer"])}
    console.report(outputs=[{"verb": "serve", "path": str(folder), **shown}])
    console.say("  asked over HTTP:")
    for line in config.question.splitlines():
        console.say(console.wrapped(f"    {line}"))
    if "answer_of_base" in kept:
        _show("the base answers", kept["answer_of_base"], is_open)
    _show(f"{Path(models[0].ref).name} answers", kept["answer"], is_open)
    console.say(f"  {short_path(folder)}")


def _show(who: str, answer: str, is_shown: bool) -> None:
    if is_shown:
        told = f"  {who}: {textwrap.shorten(answer, SHOWN) or '(nothing)'}"
        console.show_text(console.wrapped(told))
    else:
        why = "not shown: its training data are not open; it is in answer.json"
        console.say(f"  {who}: {len(answer)} characters, {why}")


def _answer(config: ServeConfig, base: str | None, folder: Path) -> Outcome:
    from medllm.serve.verb import serve_once

    row = {"question": config.question}
    if config.ask_base and base:
        row["answer_of_base"] = serve_once(config.model_copy(update={"model": base}))
    row["answer"] = serve_once(config)
    write_atomically(folder / "answer.json", json.dumps(row) + "\n")
    return Outcome(results={"answer_characters": len(row["answer"])})
