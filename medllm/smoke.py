"""A recipe made small: a tiny random model of the same architecture, a few rows, a few steps.

It shows within minutes whether the whole walk works; its numbers mean nothing.
"""

from functools import cache
from pathlib import Path
from typing import Any

from medllm import console
from medllm.models.load import resolve_model
from medllm.models.tiny.shrink import write_tiny_copy
from medllm.places import is_address
from medllm.recipe import SOURCES, Recipe

FEW: dict[str, dict[str, Any]] = {
    "calibrate": {"samples": 8, "holdout_samples": 2, "min_tokens": 1, "on_shortage": "rebalance"},
    "prepare": {"max_examples": 16},
    "evaluate": {"limit": 4},
}
STUDY = {"draws": 1, "windows": 2, "window_tokens": 16}
TRAINING = {
    "max_steps": 2,
    "warmup_steps": 0.0,  # else two steps may teach nothing, and merge refuses such an adapter
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
}


def make_small(recipe: Recipe) -> Recipe:
    """The recipe for a smoke run; its results lie in `<output_dir>/smoke`."""
    root = recipe.root / "smoke"

    @cache
    def tiny(ref: str) -> str:
        return _tiny_copy(ref, root / "models")

    sections: dict[str, Any] = {}
    for verb in recipe.verbs:
        section = getattr(recipe, verb)
        section = section.model_copy(update=FEW.get(verb, {}) | _tiny_models(section, tiny))
        if verb == "finetune":
            training = section.training.model_copy(update=TRAINING)
            tried = section.search and section.search.model_copy(update={"trials": 2})
            section = section.model_copy(update={"training": training, "search": tried})
        provided = [name for name, verbs in SOURCES.get(verb, {}).items() if _any(recipe, verbs)]
        sections[verb] = _without_places(section, {"output", *provided})
    if recipe.study:
        sections["study"] = recipe.study.model_copy(update=STUDY)
    model = tiny(recipe.model) if recipe.model else None
    return recipe.model_copy(update={**sections, "model": model, "output_dir": root})


def _any(recipe: Recipe, verbs: tuple[str, ...]) -> bool:
    return any(verb in recipe.verbs for verb in verbs)


def _without_places(section: Any, names: set[str]) -> Any:
    """The section as if the recipe had not named these, so that they come from the smoke run."""
    named = names & section.model_fields_set
    section = section.model_copy(update=dict.fromkeys(named))
    section.model_fields_set.difference_update(named)
    return section


def _tiny_models(section: Any, tiny: Any) -> dict[str, Any]:
    """The section's own models, each as its tiny copy."""
    named = {"model", "tokenizer"} & section.model_fields_set
    found = {name: tiny(ref) for name in named if (ref := getattr(section, name))}
    if "models" in section.model_fields_set:
        models = section.models
        found["models"] = tuple(tiny(ref) if isinstance(ref, str) else ref for ref in models)
    if "stages" in section.model_fields_set:
        found["stages"] = tuple(
            stage.model_copy(update=_tiny_models(stage, tiny)) for stage in section.stages
        )
    return found


def _tiny_copy(ref: str, folder: Path) -> str:
    """A REF's tiny copy; what has none to copy (an adapter, a .gguf, an address) as it is."""
    if is_address(ref):
        return ref
    model = resolve_model(ref)
    if model.is_gguf or model.is_adapter:
        return ref
    copy = folder / model.parent.identity[:12]
    if not copy.is_dir():
        console.notice(f"smoke: {ref} is replaced by a tiny random model of its architecture")
        unfinished = copy.with_name(f"{copy.name}.unfinished")
        write_tiny_copy(model, unfinished)
        unfinished.rename(copy)
    return str(copy)
