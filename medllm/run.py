"""Walking a recipe: the only place that chains verbs."""

import importlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import NAME, Manifest, write_atomically
from medllm.artifacts.places import short_path
from medllm.config.base import settings_of
from medllm.data.access import may_show
from medllm.errors import ConfigError
from medllm.models.hardware import count_parameters
from medllm.models.load import resolve_model
from medllm.recipe import ROAD, Recipe, outputs_of, wire
from medllm.serve.config import ServeConfig

WIDTHS = (("float32", 4), ("bfloat16", 2))
"""Number formats and their bytes."""


def run_recipe(
    recipe: Recipe, *, start: str | None = None, only: str | None = None, overwrite: bool = False
) -> None:
    """Walk the sections of a recipe in order; what is finished and unchanged is skipped.

    Raises:
        ConfigError: the recipe has no sections, or no such verb.
        MedllmError: whatever a verb raises.
    """
    began = time.monotonic()
    verbs = _chosen(recipe, start, only)
    for verb in verbs:
        check_ahead = getattr(_module(verb), "check_ahead", None)
        if check_ahead:
            check_ahead(wire(recipe, verb))
    for verb in verbs:
        config = wire(recipe, verb)
        if overwrite and "overwrite" in type(config).model_fields:
            config = config.model_copy(update={"overwrite": True})
        _walk_one(recipe, verb, config)
    console.say(f"\n{recipe.name}: {len(verbs)} steps in {time.monotonic() - began:.0f} s")


def verb_function(verb: str) -> Callable[[Any], Any]:
    """The function of a verb, imported only now."""
    function: Callable[[Any], Any] = getattr(_module(verb), verb)
    return function


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"medllm.{verb}.verb")


def _chosen(recipe: Recipe, start: str | None, only: str | None) -> Sequence[str]:
    verbs = recipe.verbs
    for name in filter(None, (start, only)):
        if name not in verbs:
            raise ConfigError(
                f"{recipe.name} has no section '{name}'", f"it has: {', '.join(verbs) or 'none'}"
            )
    if not verbs:
        raise ConfigError(
            f"{recipe.name} has no sections, so there is nothing to run",
            f"add some of: {', '.join(ROAD)}",
        )
    if only:
        return (only,)
    return verbs[verbs.index(start) :] if start else verbs


def _walk_one(recipe: Recipe, verb: str, config: Any) -> None:
    console.say(f"\n{verb}")
    began = time.monotonic()
    if verb == "serve":
        _serve(config, outputs_of(recipe, verb)[0] if not config.stay else None)
    else:
        made = verb_function(verb)(config)
        for manifest, folder in zip(
            made if isinstance(made, list) else [made], outputs_of(recipe, verb), strict=True
        ):
            show_result(manifest, folder)
    console.say(f"  {time.monotonic() - began:.1f} s")


def show_result(manifest: Manifest, folder: Path) -> None:
    """What a verb made, in a few lines; an evaluation as a table."""
    console.say(f"  {short_path(folder)}  {describe(manifest)}")
    if manifest.counts.rejected:
        left_out = ", ".join(
            f"{count} {reason}" for reason, count in sorted(manifest.counts.rejected.items())
        )
        console.say(f"  left out: {left_out}")
    if manifest.kind == "evaluation":
        from medllm.evaluate.summary import table_of

        console.table(*table_of(manifest.results["scores"]))


def describe(manifest: Manifest) -> str:
    """One line about an artifact."""
    results = manifest.results
    if manifest.kind == "calibration":
        sources = ", ".join(f"{count} {name}" for name, count in results["sources"].items())
        mean = f"{results['mean_tokens']:.0f} tokens on average"
        return f"{results['samples']} texts ({sources}), {mean}"
    if manifest.kind == "dataset":
        return ", ".join(f"{results[split]} {split}" for split in ("train", "validation", "test"))
    if manifest.kind == "adapter":
        before, after = results["validation_loss_before"], results["validation_loss"]
        course = (
            f"validation loss {before:.3f} → {after:.3f}"
            if after is not None
            else f"loss {results['train_loss']:.3f}"
        )
        return f"{course} in {results['steps']} steps"
    if manifest.kind == "model":
        return f"logits within {results['max_difference']:.1e} of base + adapter"
    if manifest.kind == "quantized":
        return f"{results['bytes'] / 1e6:.1f} MB"
    return f"{manifest.counts.examples} items"


def _serve(config: ServeConfig, folder: Path | None) -> None:
    """Ask the served model one question and keep its answer; or stay, if the recipe says so."""
    from medllm.serve.verb import serve

    if folder is None:
        serve(config)
        return
    model = resolve_model(config.model)
    settings = {**settings_of(config), "question": config.question}
    written = config.model_dump(mode="json", exclude={"api_key"})
    job = Job(
        "generation",
        "served",
        "serve",
        folder,
        written,
        settings,
        (model.parent,),
        model.data_terms,
        model.base,
    )
    produce(job, partial(_ask, config))
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))["answer"]
    console.say(f"  {short_path(folder)}  asked over HTTP: {config.question}")
    if may_show(model.data_terms):
        console.show_text(f"  answer: {answer.strip() or '(nothing)'}")
    else:
        console.say(
            f"  answer: {len(answer)} characters, not shown: its training data are not open; "
            "it is in answer.json"
        )


def _ask(config: ServeConfig, folder: Path) -> Outcome:
    from medllm.serve.verb import serve_once

    answer = serve_once(config)
    write_atomically(
        folder / "answer.json", json.dumps({"question": config.question, "answer": answer}) + "\n"
    )
    return Outcome(results={"answer_characters": len(answer)})


def render_plan(recipe: Recipe, verbs: Sequence[str]) -> str:
    """The resolved configuration of some verbs as YAML, each with the state of its result."""
    import yaml

    parts = [_weights(recipe.model)] if recipe.model else []
    for verb in verbs:
        config = wire(recipe, verb).model_dump(mode="json", exclude={"api_key", "overwrite"})
        state = [
            "finished" if (folder / NAME).is_file() else "to do"
            for folder in outputs_of(recipe, verb)
        ]
        parts.append(
            f"# {verb}: {', '.join(state)}\n"
            + yaml.safe_dump({verb: config}, sort_keys=False, allow_unicode=True)
        )
    return "\n".join(parts)


def _weights(ref: str) -> str:
    """What the base model's weights take, where it is a folder on this machine."""
    count = count_parameters(Path(ref))
    if not count:
        return f"# {ref}: its size is known once it is on this machine\n"
    sizes = " or ".join(f"{count * width / 2**30:.2f} GiB in {name}" for name, width in WIDTHS)
    return f"# {ref}: {count / 1e6:,.1f} million parameters take {sizes}\n"
