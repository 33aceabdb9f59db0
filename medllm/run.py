"""Walking a recipe: the only place that chains verbs."""

import importlib
import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from medllm import console
from medllm.artifacts.manifest import NAME, Manifest, write_json
from medllm.artifacts.verify import check_descent
from medllm.ask import ask_once
from medllm.config.base import Strict
from medllm.models.load import resolve_model
from medllm.places import is_address, short_path
from medllm.plan import (
    PURPOSES,
    announce_sources,
    check_whole,
    choose_verbs,
    config_of,
    render_section,
    with_calibration,
)
from medllm.recipe import SOURCES, Recipe, find_source, outputs_of, wire

PUBLIC = {"kind", "format", "identity", "created", "medllm_version", "base_model", "parents",
          "data_terms", "counts", "results"}  # fmt: skip
"""What `--json` tells of a manifest: not the configuration, which may hold a prompt."""
MADE_UNASKED = frozenset({"calibrate", "prepare"})
"""The verbs that another one may start: they take minutes and no GPU."""
TIMES = "walk.json"
"""The file, beside the results, that says how long each verb took."""


def run_recipe(
    recipe: Recipe, *, start: str | None = None, only: str | None = None, overwrite: bool = False
) -> None:
    """Walk the sections of a recipe in order; what is finished and unchanged is skipped.

    Raises:
        ConfigError: the recipe has no sections, or no such verb.
        MedllmError: whatever a verb raises.
    """
    if recipe.study:
        check_whole(recipe, start or only)
        _run_study(recipe, overwrite=overwrite)
        return
    began = time.monotonic()
    recipe, verbs = choose_verbs(recipe, start, only)
    for verb in verbs:
        check_ahead(verb, wire(recipe, verb))
    seconds: dict[str, float] = {}
    for number, verb in enumerate(verbs, 1):
        console.say(f"\n{number}/{len(verbs)} {verb}: {PURPOSES[verb]}", "title")
        step_began, at = time.monotonic(), time.time()
        config = wire(recipe, verb)
        announce_sources(recipe, verb)
        check_sources(recipe, verb)
        if verb == "serve" and not config.stay:
            ask_once(config, outputs_of(recipe, verb)[0], overwrite, recipe.model)
        else:
            walk_verb(recipe, verb, overwrite=overwrite)
        took = time.monotonic() - step_began
        console.say(f"  took {took:.1f} s" if took < 10 else f"  took {console.lasting(took)}")
        if any(_changed_since(at, folder / NAME) for folder in outputs_of(recipe, verb)):
            seconds[verb] = round(took, 1)
    steps, whole = console.counted(len(verbs), "step"), console.lasting(time.monotonic() - began)
    console.say(f"\n{recipe.name}: {steps} in {whole}", "title")
    _keep_times(recipe.root / TIMES, seconds)


def _changed_since(moment: float, file: Path) -> bool:
    return file.is_file() and file.stat().st_mtime >= moment


def _keep_times(file: Path, seconds: dict[str, float]) -> None:
    """Write how long the verbs took that did something; of the others the last time stays."""
    if not seconds:
        return
    try:
        if file.is_file():
            seconds = json.loads(file.read_text(encoding="utf-8"))["seconds"] | seconds
    except (ValueError, LookupError, TypeError):  # somebody edited it
        console.notice(f"{short_path(file)} cannot be read: it is written anew")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"seconds": seconds})


def _run_study(recipe: Recipe, *, overwrite: bool) -> None:
    from medllm.study.walk import Study, run_study

    assert recipe.study
    folder = recipe.root / "study"
    outcome = run_study(Study.of(recipe, recipe.study, folder, overwrite=overwrite))
    console.report(outputs=[{"verb": "study", "path": str(folder)}], study=outcome)


def run_verb(recipe: Recipe, verb: str) -> None:
    """Run one verb of a recipe; a dataset or calibration set that it lacks is made first.

    Training is never begun by a command that did not ask for it: what `finetune` or a later verb
    makes must be there.
    """
    recipe = with_calibration(recipe, (verb,))
    config = wire(recipe, verb)
    for needed in lacks(recipe, verb, config):
        check_ahead(verb, config)  # what is cheap to know comes before what takes time
        _check_models(config)
        console.notice(f"{verb} reads what {needed} makes, so {needed} comes first")
        walk_verb(recipe, needed)
    announce_sources(recipe, verb)
    check_sources(recipe, verb)
    walk_verb(recipe, verb)


def lacks(recipe: Recipe, verb: str, config: Any) -> list[str]:
    """The verbs that may start unasked, and make what this one reads and is not there."""
    reads = getattr(module_of(verb), "reads", lambda config, field: True)
    return [
        needed
        for field, providers in SOURCES.get(verb, {}).items()
        for needed in MADE_UNASKED & {*recipe.verbs} & {*providers}
        for folder in outputs_of(recipe, needed)
        if getattr(config, field) == folder and not (folder / NAME).is_file()
        if reads(config, field)
    ]


def _check_models(config: Any) -> None:
    """Raise what is wrong with the models that a section names; none elsewhere is asked."""
    for named in getattr(config, "models", None) or [getattr(config, "model", None)]:
        ref = getattr(named, "ref", named)
        if not (ref and is_address(ref)):
            resolve_model(ref)


def check_sources(recipe: Recipe, verb: str) -> None:
    """Raise ArtifactError where a model that a verb would take is not made from the newest."""
    named = recipe.section(verb).model_fields_set
    for field in SOURCES.get(verb, {}).keys() - named:
        if source := find_source(recipe, verb, field):
            check_descent(source.chosen)
    if "models" not in named:  # those that `evaluate` scores by default
        for ref in getattr(wire(recipe, verb), "models", ()):
            check_descent(Path(ref))


def walk_verb(recipe: Recipe, verb: str, *, overwrite: bool = False) -> None:
    """Run one verb of a recipe and show what it made."""
    config = wire(recipe, verb)
    if overwrite and "overwrite" in type(config).model_fields:
        config = config.model_copy(update={"overwrite": True})
    console.detail(render_section(verb, config_of(config)).rstrip())
    made = getattr(module_of(verb), verb)(config)
    manifests = made if isinstance(made, list) else [made] if made else []
    for manifest, folder in zip(manifests, outputs_of(recipe, verb), strict=bool(manifests)):
        _show_result(verb, manifest, folder)
    if manifests and (show_details := getattr(module_of(verb), "show_details", None)):
        show_details(manifests, outputs_of(recipe, verb))


def check_ahead(verb: str, config: Strict) -> None:
    """Raise what a verb can know before its inputs are there."""
    if check := getattr(module_of(verb), "check_ahead", None):
        check(config)


def module_of(verb: str) -> ModuleType:
    """The module of a verb, imported only now."""
    return importlib.import_module(f"medllm.{verb}.verb")


def _show_result(verb: str, manifest: Manifest, folder: Path) -> None:
    """What a verb made, in a few lines."""
    public = manifest.model_dump(mode="json", by_alias=True, include=PUBLIC)
    console.report(outputs=[{"verb": verb, "path": str(folder), **public}])
    for parent in manifest.parents:
        console.detail(f"  {verb} read the {parent.kind} {parent.path} {parent.identity[:12]}")
    place, told = f"  {short_path(folder)}", module_of(verb).describe(manifest)
    is_short = len(place) + 2 + len(told) <= console.WIDTH
    console.say(f"{place}  {told}" if is_short else f"{place}\n    {told}")
    if manifest.counts.rejected:
        counted = sorted(manifest.counts.rejected.items())
        left_out = ", ".join(f"{count} {reason}" for reason, count in counted)
        console.say(console.wrapped(f"  left out: {left_out}"))
