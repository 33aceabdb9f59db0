"""Asking a served model once: what `medllm run` does with a `serve:` section."""

import json
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


class Asked(VerbConfig):
    """What the answer of a served model depends on."""

    question: str
    """What it was asked."""
    serve: ServeConfig
    """How it was served."""


def ask_once(config: ServeConfig, folder: Path, overwrite: bool) -> None:
    """Ask the served model one question, and keep its answer."""
    model = resolve_model(config.model)
    served = config.model_copy(update={"api_key": None})
    asked = Asked(output=folder, overwrite=overwrite, question=config.question, serve=served)
    produce(Job.of(asked, "generation", "serve", "served", model), partial(_answer, config))
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))["answer"]
    is_open = may_show(model.data_terms)
    shown = {"answer": answer if is_open else None, "answer_characters": len(answer)}
    console.report(outputs=[{"verb": "serve", "path": str(folder), **shown}])
    console.say(f"  {short_path(folder)}  asked over HTTP: {config.question}")
    if is_open:
        console.show_text(f"  answer: {answer.strip() or '(nothing)'}")
    else:
        why = "not shown: its training data are not open; it is in answer.json"
        console.say(f"  answer: {len(answer)} characters, {why}")


def _answer(config: ServeConfig, folder: Path) -> Outcome:
    from medllm.serve.verb import serve_once

    answer = serve_once(config)
    row = json.dumps({"question": config.question, "answer": answer})
    write_atomically(folder / "answer.json", row + "\n")
    return Outcome(results={"answer_characters": len(answer)})
