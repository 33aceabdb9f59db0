"""What a recipe will do: which verbs, from which inputs; and what a dry run says of it."""

from collections.abc import Sequence
from pathlib import Path

from medllm import console
from medllm.artifacts.manifest import NAME
from medllm.errors import ConfigError
from medllm.models.hardware import count_parameters
from medllm.models.load import TINY
from medllm.places import short_path
from medllm.quantize.estimate import count_tokens, render_estimate
from medllm.recipe import ROAD, SOURCES, Recipe, find_source, outputs_of, wire

WIDTHS = (("float32", 4), ("bfloat16", 2))
"""Number formats and their bytes."""
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
            fix = f"it has: {', '.join(verbs) or 'none'}"
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
                f"{verb}: of {len(source.folders)} quantized models the one with the most bits "
                f"per weight in its layers: {source.chosen.name}; name another as {verb}.model"
            )


def with_calibration(recipe: Recipe, verbs: Sequence[str]) -> Recipe:
    """The recipe with the default mix, where `quantize` calibrates and nobody named a set."""
    if "quantize" not in verbs or not wire(recipe, "quantize").lacks_calibration:
        return recipe
    calibrate = recipe.section("calibrate")
    console.notice(f"quantize: no calibration set is named, so it is built: mix {calibrate.mix}")
    return recipe.model_copy(update={"calibrate": calibrate})


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
    console.say(render_plan(recipe, verbs))


def render_plan(recipe: Recipe, verbs: Sequence[str]) -> str:
    """The resolved configuration of some verbs as YAML, each with the state of its result."""
    import yaml

    parts = [_weights(recipe.model)] if recipe.model else []
    for verb in verbs:
        hidden = {"api_key", "overwrite", "recipe"}
        config = wire(recipe, verb).model_dump(mode="json", exclude=hidden)
        folders = outputs_of(recipe, verb)
        states = ("finished" if (folder / NAME).is_file() else "to do" for folder in folders)
        section = yaml.safe_dump({verb: config}, sort_keys=False, allow_unicode=True)
        parts.append(f"# {verb}: {', '.join(states)}\n{section}")
        if verb == "quantize":
            parts[-1] += _quantizing(recipe)
        if verb == "finetune" and not (folders[0] / NAME).is_file():
            parts[-1] += _training(recipe)
    return "\n".join(parts)


def _quantizing(recipe: Recipe) -> str:
    """What quantizing will take, where the model, or the one that it is made from, is here."""
    config = wire(recipe, "quantize")
    folders = (Path(ref) for ref in (config.model, recipe.model) if ref)
    folder = next((each for each in folders if count_parameters(each)), None)
    if folder is None:
        return ""
    console.notice("quantize: measuring how fast this machine multiplies, for the estimate")
    calibrates = config.calibration or config.lacks_calibration
    texts = recipe.section("calibrate").samples if calibrates else 0
    tokens = count_tokens(config.calibration) or texts * TOKENS_OF_A_TEXT
    return "".join(f"  # {line}\n" for line in render_estimate(folder, config, tokens))


def _training(recipe: Recipe) -> str:
    """What training will take, where the model and the data are here."""
    config = wire(recipe, "finetune")
    has_data = config.data and (config.data / "train.jsonl").is_file()
    if not has_data or not (config.model == TINY or Path(config.model or "").is_dir()):
        return "  # steps, memory and time are known once model and prepared data are here\n"
    from medllm.finetune.profiling import render_forecast
    from medllm.finetune.verb import open_inputs

    return "".join(f"  # {line}\n" for line in render_forecast(config, open_inputs(config)))


def _weights(ref: str) -> str:
    """What the base model's weights take, where it is a folder on this machine."""
    count = count_parameters(Path(ref))
    if not count:
        return f"# {ref}: its size is known once it is on this machine\n"
    sizes = " or ".join(f"{count * width / 2**30:.2f} GiB in {name}" for name, width in WIDTHS)
    return f"# {ref}: {count / 1e6:,.1f} million parameters take {sizes}\n"
