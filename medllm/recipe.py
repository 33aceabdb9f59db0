"""The recipe: shared keys and one section a verb.

A section's missing input is what an earlier section made.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm.artifacts.manifest import NAME
from medllm.calibrate.config import CalibrateConfig
from medllm.config.base import Place, Ref, Strict, models_in
from medllm.config.loader import Document, assign, merge, parse_assignments, read_yaml, validate
from medllm.data.split import SplitConfig
from medllm.errors import ConfigError, did_you_mean
from medllm.evaluate.config import EvaluateConfig
from medllm.finetune.config import FinetuneConfig
from medllm.generate.config import GenerateConfig
from medllm.merge.config import MergeConfig
from medllm.prepare.config import PrepareConfig
from medllm.quantize.config import QuantizeConfig
from medllm.serve.config import ServeConfig
from medllm.study.config import StudyConfig

PACKAGED = Path(__file__).parent / "configs"
# in a checkout they lie beside the package
SHIPPED = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[1] / "configs"
LAUNCHES = SHIPPED / "finetune" / "accelerate"
"""Files for `accelerate launch`, in its own format."""
ROAD = ("calibrate", "prepare", "finetune", "merge", "quantize", "evaluate", "generate", "serve")
"""The verbs in the order that a recipe walks them."""
SOURCES: dict[str, dict[str, tuple[str, ...]]] = {
    "finetune": {"data": ("prepare",)},
    "merge": {"adapter": ("finetune",)},
    "quantize": {"model": ("merge", "finetune"), "calibration": ("calibrate",)},
    "evaluate": {"data": ("prepare",)},
    "generate": {"model": ("quantize", "merge", "finetune")},
    "serve": {"model": ("quantize", "merge", "finetune")},
}
"""Which verbs an input may come from, the nearest first."""
SHARED = ("seed", "data_dir", "data_use", "split")
"""Keys that a section takes from the recipe unless it has its own."""


class Recipe(Strict):
    """A whole walk, or any part of it."""

    name: str = "default"
    """Names the folder of the results."""
    description: str = ""
    """What it is for, in a line."""
    model: Ref | None = None
    """The base model: a hub id, a folder, or `medllm/tiny`."""
    seed: int = 0
    """Seed of everything random."""
    output_dir: Place | None = None
    """Folder of the results; default `runs/<name>` in the working folder."""
    data_dir: Place | None = None
    """Folder with raw files, one folder a dataset; default `$MEDLLM_DATA_DIR`."""
    data_use: tuple[str, ...] = ()
    """Data use agreements that you have signed."""
    split: SplitConfig = SplitConfig()
    """What is held out, for all verbs alike."""
    calibrate: CalibrateConfig | None = None
    """Build a calibration set."""
    prepare: PrepareConfig | None = None
    """Prepare a dataset."""
    finetune: FinetuneConfig | None = None
    """Train an adapter, or all weights."""
    merge: MergeConfig | None = None
    """Fold the adapter into its base."""
    quantize: QuantizeConfig | None = None
    """Quantize the model."""
    evaluate: EvaluateConfig | None = None
    """Score the models."""
    generate: GenerateConfig | None = None
    """Answer a file of prompts."""
    serve: ServeConfig | None = None
    """Serve the model."""
    study: StudyConfig | None = None
    """Quantize with several calibration sets, and compare; instead of walking the sections."""

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that have a section, in walking order."""
        return tuple(verb for verb in ROAD if getattr(self, verb))

    def section(self, verb: str) -> Any:
        """The section of a verb, or one of defaults alone."""
        written = getattr(self, verb)
        return written or next(models_in(type(self).model_fields[verb].annotation))()

    @property
    def root(self) -> Path:
        """The folder of the results."""
        return self.output_dir or Path.cwd() / "runs" / self.name


def load_recipe(
    config: str | None, assignments: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of a file or a shipped name, with `--set` and flags (by dotted key) on top.

    Raises:
        ConfigError: no such recipe, or anything wrong in it, with file and line.
    """
    document = read_yaml(find_recipe(config)) if config else Document()
    document = merge(document, parse_assignments(assignments))
    for key, value in (flags or {}).items():
        flag = f"--{key.rpartition('.')[2].replace('_', '-')}"
        document = merge(document, assign(key, value, flag))
    return validate(Recipe, document)


def list_recipes() -> dict[str, Path]:
    """The shipped recipes by name; what lies deeper is in the format of another tool."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*/*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, else a shipped name; also of `accelerate/NAME`, a launch file.

    Raises:
        ConfigError: there is neither.
    """
    path, shipped = Path(name).expanduser(), list_recipes()
    if path.is_file():
        return path
    if found := shipped.get(name.removesuffix(".yaml")):
        return found
    if (launch := LAUNCHES / f"{path.name}.yaml").is_file() and path.parent == Path("accelerate"):
        return launch
    hint = did_you_mean(path.stem, shipped)
    fix = f"{hint}`medllm recipes list` shows those that ship with medllm"
    raise ConfigError(f"no such recipe: {name}", fix)


def wire(recipe: Recipe, verb: str) -> Any:
    """The configuration of a verb with its shared keys, output and inputs filled in."""
    section = recipe.section(verb)
    filled: dict[str, Any] = {key: getattr(recipe, key) for key in SHARED}
    filled["output"] = recipe.root / verb
    if verb == "evaluate":
        filled["models"] = _models_made(recipe)
    elif verb != "merge":  # an adapter names its base
        filled["model"] = recipe.model
        # of `medllm quantize --model REF` no other section knows
        filled["tokenizer"] = recipe.model or (recipe.quantize and recipe.quantize.model)
    for field, providers in SOURCES.get(verb, {}).items():
        if found := _provided(recipe, field, providers):
            filled[field] = _servable(found) if field == "model" else found[-1]
    missing = type(section).model_fields.keys() - section.model_fields_set
    return section.model_copy(update={key: filled[key] for key in filled.keys() & missing})


def outputs_of(recipe: Recipe, verb: str) -> list[Path]:
    """The folders that a verb of this recipe writes."""
    section = recipe.section(verb)
    folder = getattr(section, "output", None) or recipe.root / verb
    if verb == "quantize":
        return [folder / choice.folder for choice in section.formats]
    return [folder]


def _provided(recipe: Recipe, field: str, providers: Sequence[str]) -> list[Path]:
    """What the nearest of some verbs makes in this recipe, or has left in its folder."""
    for verb in providers:
        if verb == "finetune" and field != recipe.section(verb).makes:
            continue
        outputs = outputs_of(recipe, verb)
        if verb in recipe.verbs or all((folder / NAME).is_file() for folder in outputs):
            return outputs
    return []


def _servable(folders: Sequence[Path]) -> str:
    """The one to serve: a GGUF where there is one, else the last."""
    ggufs = [folder for folder in folders if folder.name.startswith("gguf")]
    return str([*folders, *ggufs][-1])


def _models_made(recipe: Recipe) -> tuple[str, ...]:
    """The base, the merged and every quantized model of a recipe."""
    verbs = ("finetune", "merge", "quantize")
    made = [folder for verb in verbs for folder in _provided(recipe, "model", (verb,))]
    return tuple(map(str, [recipe.model, *made] if recipe.model else made))
