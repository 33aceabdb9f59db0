"""A dry run: what the real one refuses before its work, and the plan of all else."""

from collections.abc import Sequence
from pathlib import Path

from medllm.artifacts.job import without_work
from medllm.artifacts.manifest import NAME
from medllm.plan import announce_sources, choose_verbs, show_plan, show_verbs, with_calibration
from medllm.recipe import Recipe, outputs_of, wire
from medllm.run import check_ahead, check_sources, lacks, module_of

INPUTS = ("model", "models", "data", "adapter", "calibration")
"""Keys of sections that may name what another verb makes."""


def plan_verb(recipe: Recipe, verb: str) -> None:
    """Print what one verb would do.

    Raises:
        MedllmError: what `run_verb` refuses before it begins to work.
    """
    ahead = with_calibration(recipe, (verb,))
    _refuse(ahead, (*lacks(ahead, verb, wire(ahead, verb)), verb))
    announce_sources(ahead, verb)
    show_verbs(recipe, (verb,))


def plan_walk(recipe: Recipe, start: str | None, only: str | None) -> None:
    """Print what a walk would do.

    Raises:
        MedllmError: what `run_recipe` refuses before it begins to work.
    """
    if not recipe.study:
        _refuse(*choose_verbs(recipe, start, only))
    show_plan(recipe, start, only)


def _refuse(recipe: Recipe, verbs: Sequence[str]) -> None:
    """Raise what the verbs would before they work; what waits for another's result is not asked."""
    made = {folder for verb in verbs for folder in outputs_of(recipe, verb)}
    for verb in verbs:
        check_ahead(verb, wire(recipe, verb))
    for verb in verbs:
        config = wire(recipe, verb)
        is_asked_once = verb == "serve" and len(verbs) > 1 and not config.stay
        if not is_asked_once and not made & {*_waits_for(config)}:
            check_sources(recipe, verb)
            with without_work():
                getattr(module_of(verb), verb)(config)


def _waits_for(config: object) -> list[Path]:
    """The folders that a section names, and no verb has finished."""
    named = [getattr(config, key, None) for key in INPUTS]
    flat = [one for value in named for one in (value if isinstance(value, tuple) else (value,))]
    return [Path(one) for one in flat if one and not (Path(one) / NAME).is_file()]
