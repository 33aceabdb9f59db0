"""What a recipe will do: which verbs, from which inputs; and what a dry run says of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import NAME
from medllm.config.base import Strict
from medllm.errors import ConfigError, did_you_mean
from medllm.models.hardware import count_parameters
from medllm.models.load import TINY
from medllm.places import short_path
from medllm.quantize.estimate import count_tokens, render_estimate
from medllm.recipe import (
    ROAD,
    SOURCES,
    Recipe,
    find_source,
    load_recipe,
    outputs_of,
    uses_model,
    wire,
)

PURPOSES = {
    "calibrate": "choose the text that quantizing looks at",
    "prepare": "clean the examples, and hold some out",
    "finetune": "train the base model on them",
    "merge": "fold what was learned into the base",
    "quantize": "make the model smaller, and measure what that costs",
    "evaluate": "ask every model what was held out",
    "generate": "answer the prompts",
    "serve": "start the server, and ask it once",
}
"""What a verb is for, above what it prints."""
WIDTHS = (("float32", 4), ("bfloat16", 2))
"""Number formats and their bytes."""
TEXTS = {"prompt", "system", "question"}
"""Keys of a section that may be about a patient."""
TOKENS_OF_A_TEXT = 512
"""Assumed of a calibration set that is still to be made."""


def choose_verbs(
    recipe: Recipe, start: str | None = None, only: str | None = None
) -> tuple[Recipe, Sequence[str]]:
    """The recipe, with a calibration set where one is lacking, and the verbs to walk of it.

    Raises:
        ConfigError: the recipe has no sections, or no such verb.
    """
    chosen = _chosen(recipe, start, only)
    calibrated = with_calibration(recipe, chosen)
    added = [verb for verb in calibrated.verbs if verb not in recipe.verbs]
    return calibrated, (*added, *chosen)


def _chosen(recipe: Recipe, start: str | None, only: str | None) -> Sequence[str]:
    verbs = recipe.verbs
    for name in (start, only):
        if name is not None and name not in verbs:
            fix = f"{did_you_mean(name, verbs)}it has: {', '.join(verbs) or 'none'}"
            raise ConfigError(f"{recipe.name} has no section '{name}'", fix)
    if not verbs:
        message = f"{recipe.name} has no sections, so there is nothing to run"
        raise ConfigError(message, f"add some of: {', '.join(ROAD)}")
    if only:
        return (only,)
    return verbs[verbs.index(start) :] if start else verbs


def check_whole(recipe: Recipe, part: str | None) -> None:
    """Raise ConfigError where a part of a study is asked for: it has none."""
    if part:
        fix = "leave out --from and --only; what is done is skipped anyway"
        raise ConfigError(f"{recipe.name} is a study, which is walked as a whole", fix)


def announce_sources(recipe: Recipe, verb: str) -> None:
    """Say what a verb takes that its section does not name, where it could have been another."""
    named = recipe.section(verb).model_fields_set
    for field in SOURCES.get(verb, {}).keys() - named:
        source = find_source(recipe, verb, field)
        if source and source.is_left:
            where = short_path(source.chosen)
            console.notice(f"{verb}: {field} is {where}, which an earlier command made")
        if source and field == "model" and len(source.folders) > 1:
            console.notice(
                f"{verb}: of {len(source.folders)} quantized models it takes the one\n"
                f"  with the most bits per weight in its layers: {source.chosen.name};\n"
                f"  name another as {verb}.model"
            )


def with_calibration(recipe: Recipe, verbs: Sequence[str]) -> Recipe:
    """The recipe with the default mix, where `quantize` calibrates and nobody named a set."""
    if "quantize" not in verbs or not wire(recipe, "quantize").lacks_calibration:
        return recipe
    calibrate = recipe.section("calibrate")
    console.notice(f"quantize: no calibration set is named, so it is built: mix {calibrate.mix}")
    return recipe.model_copy(update={"calibrate": calibrate})


def recipe_of_flags(verb: str, flags: Mapping[str, Any], **own: Any) -> Recipe:
    """The recipe with flags on top; where nobody names a model, the built-in one, which is said.

    `own` and `flags` are named as the keys of the section; None means not given.
    """
    given = {
        f"{verb}.{key.rstrip('_')}": value
        for key, value in {**own, **flags}.items()
        if value not in (None, []) and key not in {"config", "set_", "dry_run"}
    }
    recipe = load_recipe(flags["config"], flags["set_"] or (), given)
    section = getattr(recipe, verb)
    named = section and section.model_fields_set & {"model", "models", "tokenizer", "upstream"}
    if recipe.model is None and not named and verb not in {"merge", "prepare"}:
        recipe = recipe.model_copy(update={"model": TINY})
        if uses_model(recipe, verb, TINY):
            flag = "--tokenizer" if verb == "calibrate" else "--model"
            console.notice(f"no model is named: using the built-in {TINY}; name yours with {flag}")
    return recipe


def show_plan(recipe: Recipe, start: str | None = None, only: str | None = None) -> None:
    """Print what `run_recipe` would do, which may profile a few steps of training.

    Raises:
        ConfigError: as `run_recipe`.
    """
    verbs: Sequence[str] = recipe.verbs
    if recipe.study:
        check_whole(recipe, start or only)
    else:
        recipe, verbs = choose_verbs(recipe, start, only)
    for verb in verbs:
        announce_sources(recipe, verb)
    show_verbs(recipe, verbs)


def show_verbs(recipe: Recipe, verbs: Sequence[str]) -> None:
    """Print what some verbs of a recipe would do."""
    plan = build_plan(recipe, verbs)
    for step in plan:
        public = {key: value for key, value in step["config"].items() if key not in TEXTS}
        console.report(plan=[{**step, "config": public}])
    console.say(render_plan(recipe, plan))


def build_plan(recipe: Recipe, verbs: Sequence[str]) -> list[dict[str, Any]]:
    """What some verbs would do: configuration, state of the results, and what it will take."""
    plan = []
    for verb in verbs:
        folders = outputs_of(recipe, verb)
        is_made = [(folder / NAME).is_file() for folder in folders]
        estimate = _quantizing(recipe) if verb == "quantize" else []
        if verb == "finetune" and not is_made[0]:
            estimate = _training(recipe)
        config = config_of(wire(recipe, verb))
        states = ["finished" if made else "to do" for made in is_made]
        outputs = [
            {"path": str(path), "state": state} for path, state in zip(folders, states, strict=True)
        ]
        plan.append({"verb": verb, "outputs": outputs, "config": config, "estimate": estimate})
    return plan


def config_of(section: Strict) -> dict[str, Any]:
    """A resolved section as plain data, without secrets."""
    return section.model_dump(mode="json", exclude={"api_key", "overwrite", "recipe"})


def render_section(verb: str, config: Mapping[str, Any]) -> str:
    """A section as YAML."""
    import yaml

    return yaml.safe_dump({verb: config}, sort_keys=False, allow_unicode=True)


def render_plan(recipe: Recipe, plan: Sequence[Mapping[str, Any]]) -> str:
    """The resolved configuration of some verbs as YAML, each with the state of its result."""
    parts = [f"# {_weights(recipe.model)}\n"] if recipe.model else []
    for step in plan:
        states = ", ".join(each["state"] for each in step["outputs"])
        section = render_section(step["verb"], step["config"])
        lines = "".join(f"  # {line}\n" for line in step["estimate"])
        parts.append(f"# {step['verb']}: {states}\n{section}{lines}")
    return "\n".join(parts)


def _quantizing(recipe: Recipe) -> list[str]:
    """What quantizing will take, where the model, or the one that it is made from, is here."""
    config = wire(recipe, "quantize")
    folders = (Path(ref) for ref in (config.model, recipe.model) if ref)
    folder = next((each for each in folders if count_parameters(each)), None)
    if folder is None:
        return []
    console.notice("quantize: measuring how fast this machine multiplies, for the estimate")
    calibrates = config.calibration or config.lacks_calibration
    texts = recipe.section("calibrate").samples if calibrates else 0
    tokens = count_tokens(config.calibration) or texts * TOKENS_OF_A_TEXT
    return list(render_estimate(folder, config, tokens))


def _training(recipe: Recipe) -> list[str]:
    """What training will take, where the model and the data are here."""
    config = wire(recipe, "finetune")
    has_data = config.data and (config.data / "train.jsonl").is_file()
    if not has_data or not (config.model == TINY or Path(config.model or "").is_dir()):
        return ["steps, memory and time are known once model and prepared data are here"]
    from medllm.finetune.profiling import render_forecast
    from medllm.finetune.verb import open_inputs

    return list(render_forecast(config, open_inputs(config)))


def _weights(ref: str) -> str:
    """What the base model's weights take, where it is a folder on this machine."""
    count = count_parameters(Path(ref))
    if not count:
        return f"{ref}: its size is known once it is on this machine"
    sizes = " or ".join(f"{count * width / 2**30:.2f} GiB in {name}" for name, width in WIDTHS)
    return f"{ref}: {count / 1e6:,.1f} million parameters take {sizes}"
