"""Walking a recipe: the only place that chains verbs."""

import importlib
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import NAME, Manifest, write_atomically
from medllm.artifacts.verify import check_descent
from medllm.config.base import Strict, VerbConfig
from medllm.data.access import may_show
from medllm.errors import ConfigError
from medllm.models.hardware import count_parameters
from medllm.models.load import TINY, resolve_model
from medllm.places import short_path
from medllm.quantize.estimate import count_tokens, render_estimate
from medllm.quantize.summary import show_serving
from medllm.recipe import ROAD, SOURCES, Recipe, find_source, outputs_of, wire
from medllm.serve.config import ServeConfig

MADE_UNASKED = frozenset({"calibrate", "prepare"})
"""The verbs that another one may start: they take minutes and no GPU."""
WIDTHS = (("float32", 4), ("bfloat16", 2))
"""Number formats and their bytes."""
TOKENS_OF_A_TEXT = 512
"""Assumed of a calibration set that is still to be made."""


def run_recipe(
    recipe: Recipe, *, start: str | None = None, only: str | None = None, overwrite: bool = False
) -> None:
    """Walk the sections of a recipe in order; what is finished and unchanged is skipped.

    Raises:
        ConfigError: the recipe has no sections, or no such verb.
        MedllmError: whatever a verb raises.
    """
    if recipe.study:
        _check_whole(recipe, start or only)
        _run_study(recipe, overwrite=overwrite)
        return
    began = time.monotonic()
    recipe, verbs = choose_verbs(recipe, start, only)
    for verb in verbs:
        _check_ahead(verb, wire(recipe, verb))
    for verb in verbs:
        console.say(f"\n{verb}")
        step_began = time.monotonic()
        config = wire(recipe, verb)
        _announce_sources(recipe, verb)
        _check_sources(recipe, verb)
        if verb == "serve" and not config.stay:
            _ask_once(config, outputs_of(recipe, verb)[0], overwrite)
        else:
            walk_verb(recipe, verb, overwrite=overwrite)
        console.say(f"  {time.monotonic() - step_began:.1f} s")
    console.say(f"\n{recipe.name}: {len(verbs)} steps in {time.monotonic() - began:.0f} s")


def show_plan(recipe: Recipe, start: str | None = None, only: str | None = None) -> None:
    """Print what `run_recipe` would do, which may profile a few steps of training.

    Raises:
        ConfigError: as `run_recipe`.
    """
    verbs: Sequence[str] = recipe.verbs
    if recipe.study:
        _check_whole(recipe, start or only)
    else:
        recipe, verbs = choose_verbs(recipe, start, only)
    for verb in verbs:
        _announce_sources(recipe, verb)
    console.say(render_plan(recipe, verbs))


def _check_whole(recipe: Recipe, part: str | None) -> None:
    """Raise ConfigError where a part of a study is asked for: it has none."""
    if part:
        fix = "leave out --from and --only; what is done is skipped anyway"
        raise ConfigError(f"{recipe.name} is a study, which is walked as a whole", fix)


def _run_study(recipe: Recipe, *, overwrite: bool) -> None:
    from medllm.study.walk import Study, run_study

    assert recipe.study
    folder = recipe.root / "study"
    run_study(Study.of(recipe, recipe.study, folder, overwrite=overwrite))


def run_verb(recipe: Recipe, verb: str) -> None:
    """Run one verb of a recipe; a dataset or calibration set that it lacks is made first.

    Training is never begun by a command that did not ask for it: what `finetune` or a later verb
    makes must be there.
    """
    recipe = _with_calibration(recipe, (verb,))
    config = wire(recipe, verb)
    for field, providers in SOURCES.get(verb, {}).items():
        for needed in MADE_UNASKED & {*recipe.verbs} & {*providers}:
            (folder,) = outputs_of(recipe, needed)
            if getattr(config, field) == folder and not (folder / NAME).is_file():
                _check_ahead(verb, config)  # what is cheap to know comes before what takes time
                resolve_model(config.model)
                console.notice(f"{verb} reads what {needed} makes, so {needed} comes first")
                walk_verb(recipe, needed)
    _announce_sources(recipe, verb)
    _check_sources(recipe, verb)
    walk_verb(recipe, verb)


def _check_sources(recipe: Recipe, verb: str) -> None:
    """Raise ArtifactError where a model that a verb would take is not made from the newest."""
    named = recipe.section(verb).model_fields_set
    for field in SOURCES.get(verb, {}).keys() - named:
        if source := find_source(recipe, verb, field):
            check_descent(source.chosen)


def _announce_sources(recipe: Recipe, verb: str) -> None:
    """Say what a verb takes that its section does not name, where it could have been another."""
    named = recipe.section(verb).model_fields_set
    for field in SOURCES.get(verb, {}).keys() - named:
        source = find_source(recipe, verb, field)
        if source and source.is_left:
            where = short_path(source.chosen)
            console.notice(f"{verb}: {field} is {where}, which an earlier command made")
        if source and field == "model" and len(source.folders) > 1:
            console.notice(
                f"{verb}: of {len(source.folders)} quantized models the one with the most bits a "
                f"weight in its layers: {source.chosen.name}; name another as {verb}.model"
            )


def _with_calibration(recipe: Recipe, verbs: Sequence[str]) -> Recipe:
    """The recipe with the default mix, where `quantize` calibrates and nobody named a set."""
    if "quantize" not in verbs or not wire(recipe, "quantize").lacks_calibration:
        return recipe
    calibrate = recipe.section("calibrate")
    console.notice(f"quantize: no calibration set is named, so it is built: mix {calibrate.mix}")
    return recipe.model_copy(update={"calibrate": calibrate})


def walk_verb(recipe: Recipe, verb: str, *, overwrite: bool = False) -> None:
    """Run one verb of a recipe and show what it made."""
    config = wire(recipe, verb)
    if overwrite and "overwrite" in type(config).model_fields:
        config = config.model_copy(update={"overwrite": True})
    made = getattr(_module(verb), verb)(config)
    manifests = made if isinstance(made, list) else [made] if made else []
    for manifest, folder in zip(manifests, outputs_of(recipe, verb), strict=bool(manifests)):
        _show_result(manifest, folder)
    if manifests and verb == "quantize":
        show_serving(manifests, outputs_of(recipe, verb))


def _check_ahead(verb: str, config: Strict) -> None:
    """Raise what a verb can know before its inputs are there."""
    if check_ahead := getattr(_module(verb), "check_ahead", None):
        check_ahead(config)


def _module(verb: str) -> ModuleType:
    """The module of a verb, imported only now."""
    return importlib.import_module(f"medllm.{verb}.verb")


def choose_verbs(
    recipe: Recipe, start: str | None = None, only: str | None = None
) -> tuple[Recipe, Sequence[str]]:
    """The recipe, with a calibration set where one is lacking, and the verbs to walk of it.

    Raises:
        ConfigError: the recipe has no sections, or no such verb.
    """
    chosen = _chosen(recipe, start, only)
    calibrated = _with_calibration(recipe, chosen)
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


def _show_result(manifest: Manifest, folder: Path) -> None:
    """What a verb made, in a few lines; an evaluation as a table."""
    console.say(f"  {short_path(folder)}  {_describe(manifest)}")
    if manifest.counts.rejected:
        counted = sorted(manifest.counts.rejected.items())
        console.say(f"  left out: {', '.join(f'{count} {reason}' for reason, count in counted)}")
    if manifest.kind == "evaluation":
        from medllm.evaluate.summary import table_of

        console.table(*table_of(manifest.results["scores"]), "scores, and their 95 % intervals")


def _describe(manifest: Manifest) -> str:
    """One line about an artifact."""
    results = manifest.results
    if manifest.kind == "calibration":
        sources = ", ".join(f"{count} {name}" for name, count in results["sources"].items())
        mean = f"{results['mean_tokens']:.0f} tokens on average"
        return f"{results['samples']} texts ({sources}), {mean}"
    if manifest.kind == "dataset":
        return ", ".join(f"{results[split]} {split}" for split in ("train", "validation", "test"))
    if "validation_loss" in results:
        before, after = results["validation_loss_before"], results["validation_loss"]
        course = f"loss {results['train_loss']:.3f}"
        if after is not None:
            course = f"validation loss {before:.3f} → {after:.3f}"
        if (accuracy := results.get("validation_label_accuracy")) is not None:
            course += f", {accuracy:.0%} of labels right"
        return f"{course} in {results['steps']} steps"
    if manifest.kind == "model":
        if not results["verified"]:
            return "not verified"
        return f"logits within {results['max_difference']:.1e} of base + adapter"
    if manifest.kind == "quantized":
        return f"{results['bytes'] / 1e6:.1f} MB"
    return f"{manifest.counts.examples} items"


class Asked(VerbConfig):
    """What the answer of a served model depends on."""

    question: str
    """What it was asked."""
    serve: ServeConfig
    """How it was served."""


def _ask_once(config: ServeConfig, folder: Path, overwrite: bool) -> None:
    """Ask the served model one question, and keep its answer."""
    model = resolve_model(config.model)
    served = config.model_copy(update={"api_key": None})
    asked = Asked(output=folder, overwrite=overwrite, question=config.question, serve=served)
    produce(Job.of(asked, "generation", "serve", "served", model), partial(_answer, config))
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))["answer"]
    console.say(f"  {short_path(folder)}  asked over HTTP: {config.question}")
    if may_show(model.data_terms):
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


def render_plan(recipe: Recipe, verbs: Sequence[str]) -> str:
    """The resolved configuration of some verbs as YAML, each with the state of its result."""
    import yaml

    parts = [_weights(recipe.model)] if recipe.model else []
    for verb in verbs:
        config = wire(recipe, verb).model_dump(mode="json", exclude={"api_key", "overwrite"})
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
    from medllm.finetune.profiling import render_forecast
    from medllm.finetune.verb import open_inputs

    config = wire(recipe, "finetune")
    has_data = config.data and (config.data / "train.jsonl").is_file()
    if not has_data or not (config.model == TINY or Path(config.model or "").is_dir()):
        return "  # steps, memory and time are known once model and prepared data are here\n"
    return "".join(f"  # {line}\n" for line in render_forecast(config, open_inputs(config)))


def _weights(ref: str) -> str:
    """What the base model's weights take, where it is a folder on this machine."""
    count = count_parameters(Path(ref))
    if not count:
        return f"# {ref}: its size is known once it is on this machine\n"
    sizes = " or ".join(f"{count * width / 2**30:.2f} GiB in {name}" for name, width in WIDTHS)
    return f"# {ref}: {count / 1e6:,.1f} million parameters take {sizes}\n"
