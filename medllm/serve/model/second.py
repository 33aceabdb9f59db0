"""A shadow or a canary beside the served model: loaded, and told of at the start."""

import re
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from medllm.places import config_dir, short_path
from medllm.serve.answering import Around
from medllm.serve.callers.callers import ANYONE, THE_KEY, Callers
from medllm.serve.config import ServeConfig
from medllm.serve.model.canary import Canary
from medllm.serve.model.shadow import Shadow, open_file
from medllm.serve.model.source import Source

SHADOW = "shadow"
"""The folder of comparisons in the user's settings folder."""


def add_second(source: Source, served: str, around: Around, stack: ExitStack) -> dict[str, Any]:
    """Load the second model of a source, for as long as `stack`; what the audit log tells of it.

    Raises:
        MedllmError: as `Source.open`.
    """
    if not (second := source.second):
        return {}
    config, engine = source.config, stack.enter_context(closing(second.open()))
    name = second.name() if second.name() != served else f"{served}-second"
    told = {"name": name, "engine": engine.name, "identity": second.identity}
    if config.canary:
        card = second.known.card() if second.known else {}
        around.canary = Canary(engine, name, second.identity, config.canary_share, card)
        return {"canary": {**told, "share": config.canary_share}}
    file = log_of(config, served)
    open_file(file).close()  # one that cannot be written shows now
    around.shadow = Shadow(engine, name, file, around.guard, around.metrics)
    return {"shadow": told}


def log_of(config: ServeConfig, served: str) -> Path:
    """The file of the comparisons with a shadow."""
    named = re.sub(r"[^\w.-]+", "-", served)
    return config.shadow_log or config_dir() / SHADOW / f"{named}.jsonl"


def describe_second(config: ServeConfig, served: str, around: Around, callers: Callers) -> str:
    """What a second model does here, in a line; empty where there is none."""
    if around.shadow:
        where = short_path(log_of(config, served))
        return f"shadow    {around.shadow.name}: compared in {where}, never shown"
    if not (canary := around.canary):
        return ""
    names = [key.name for key in callers.ring.all_keys()] if callers.ring else []
    names += [THE_KEY.name] if callers.api_key else [] if names else [ANYONE.name]
    taken = sum(map(canary.takes, names))
    return f"canary    {canary.name} answers {taken} of {len(names)} keys"
