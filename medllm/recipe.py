"""The recipe: shared keys and one section a verb.

A section's missing input is what an earlier section made.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medllm import console
from medllm.artifacts.manifest import NAME, Manifest
from medllm.calibrate.config import CalibrateConfig
from medllm.config.base import FolderName, Place, Ref, Seed, Strict, is_there, models_in
from medllm.config.dialect import read_text
from medllm.config.loader import Document, assign, merge, parse_assignments, read_yaml, validate
from medllm.data.split import SplitConfig
from medllm.errors import ConfigError, did_you_mean
from medllm.evaluate.config import EvaluateConfig
from medllm.finetune.config import FinetuneConfig
from medllm.generate.config import GenerateConfig
from medllm.merge.config import MergeConfig
from medllm.models.hardware import Dtype
from medllm.places import shipped_dir, short_path
from medllm.prepare.config import PrepareConfig
from medllm.quantize.config import QuantizeConfig
from medllm.quantize.estimate import bits_of_a_weight
from medllm.serve.config import ServeConfig
from medllm.study.config import StudyConfig

SHIPPED = shipped_dir()
LAUNCHES = SHIPPED / "finetune" / "accelerate"
"""Files for `accelerate launch`, in its own format."""
DEPLOY = SHIPPED / "deploy"
"""Files that put a server into a ward: of systemd, Docker, Kubernetes, Prometheus, Grafana."""
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
SHARED = ("seed", "data_dir", "data_use", "task_dir", "split", "dtype")
"""Keys that a section takes from the recipe unless it has its own."""


class Needs(Strict):
    """What a recipe needs of a machine, as far as it knows; `medllm doctor` compares."""

    device: Literal["cuda", "mps"] | None = None
    """What it is for; `gpus` means cuda."""
    gpus: int = Field(default=0, ge=0)
    """GPUs of NVIDIA's."""
    gpu_memory_gb: float = Field(default=0, ge=0)
    """Memory of each, in GB as it is sold."""
    bfloat16: bool = False
    """Whether they must multiply bfloat16."""
    memory_gb: float = Field(default=0, ge=0)
    """Memory of the machine, in GB as it is sold."""
    extras: tuple[str, ...] = ()
    """Extras of medllm's package."""


class Recipe(Strict):
    """A whole walk, or any part of it."""

    name: FolderName = "default"
    """Names the folder of the results."""
    description: str = ""
    """What it is for, in a line."""
    needs: Needs = Needs()
    """What it needs of a machine."""
    model: Ref | None = None
    """The base model: a hub id, a folder, or `medllm/tiny`."""
    seed: Seed = 0
    """Seed of everything random."""
    output_dir: Place | None = None
    """Folder of the results; default `runs/<name>` in the working folder."""
    data_dir: Place | None = None
    """Folder with raw files, one folder a dataset; default `$MEDLLM_DATA_DIR`."""
    data_use: tuple[str, ...] = ()
    """Data use agreements that you have signed."""
    task_dir: Place | None = None
    """Folder with your own tasks (`<name>.yaml`), to prepare for and to evaluate."""
    dtype: Dtype = "auto"
    """Number format that models compute in. `merge` keeps that of the base, and a training of all
    weights has its own."""
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
    path = find_recipe(config).resolve() if config else None
    console.detail(f"recipe: {path or 'none, flags and defaults alone'}")
    document = read_yaml(path) if path else Document()
    document = merge(document, parse_assignments(assignments))
    for key, value in (flags or {}).items():
        section, dot, _ = key.partition(".")
        if dot and not isinstance(document.data.get(section), Mapping | None):
            continue  # it is no section, and must be refused below, not replaced
        flag = f"--{key.rpartition('.')[2].replace('_', '-')}"
        document = merge(document, assign(key, value, flag))
    return validate(Recipe, document)


def list_recipes() -> dict[str, Path]:
    """The shipped recipes by name; not what lies deeper or in `deploy`, for other tools."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*/*.yaml")) if path.parent != DEPLOY}


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, else a shipped name; also of `accelerate/NAME`, a launch file.

    Raises:
        ConfigError: there is neither.
    """
    path, shipped = _expanded(name), list_recipes()
    if path.is_file():
        return path
    if found := shipped.get(name.removesuffix(".yaml")):
        return found
    if (launch := LAUNCHES / f"{path.name}.yaml").is_file() and path.parent == Path("accelerate"):
        return launch
    hint = did_you_mean(path.stem, shipped)
    fix = f"{hint}`medllm recipes list` shows those that ship with medllm"
    raise ConfigError(f"no such recipe: {name}", fix)


def copy_recipe(name: str, target: Path | None) -> Path:
    """The copy of a recipe, or of the folder `deploy`: `target`, or of its name in it, or here.

    Raises:
        ConfigError: there is no such recipe, or the file exists, or its folder does not.
    """
    source = DEPLOY if name == DEPLOY.name else find_recipe(name)
    path = target / source.name if target and target.is_dir() else target or Path(source.name)
    if is_there(path):
        raise ConfigError(f"{path} exists", "choose another name")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no folder", "make it first")
    if source == DEPLOY:
        shutil.copytree(source, path)
    else:
        path.write_text(read_text(source), encoding="utf-8")
    return path


def _expanded(name: str) -> Path:
    """The path that a user typed.

    Raises:
        ConfigError: there can be none.
    """
    try:
        path = Path(name).expanduser()
        path.is_file()
    except (OSError, ValueError, RuntimeError) as problem:
        message = f"no such recipe: {name:.80}: {getattr(problem, 'strerror', None) or problem}"
        raise ConfigError(message, "check the path, or see `medllm recipes list`") from None
    return path


def wire(recipe: Recipe, verb: str) -> Any:
    """The configuration of a verb with its shared keys, output and inputs filled in.

    Raises:
        ConfigError: what an earlier section makes would be ignored.
    """
    section = recipe.section(verb)
    filled: dict[str, Any] = {key: getattr(recipe, key) for key in SHARED}
    filled["output"] = recipe.root / verb
    filled["recipe"] = recipe.name if "name" in recipe.model_fields_set else None
    if verb == "evaluate":
        filled["models"] = _models_made(recipe)
    elif verb == "merge":  # an adapter names its base, and the base the format of what is written
        del filled["dtype"]
    else:
        filled["model"] = recipe.model
        # of `medllm quantize --model REF` no other section knows
        filled["tokenizer"] = recipe.model or (recipe.quantize and recipe.quantize.model)
    if verb == "finetune" and section.lora is None:  # to train all weights in 16 bits rounds them
        del filled["dtype"]
    for field in SOURCES.get(verb, {}):
        if source := find_source(recipe, verb, field):
            filled[field] = str(source.chosen) if field == "model" else source.chosen
    missing = type(section).model_fields.keys() - section.model_fields_set
    missing -= {"model"} if getattr(section, "upstream", None) else set()  # which has its own
    wired = section.model_copy(update={key: filled[key] for key in filled.keys() & missing})
    if "evaluation" in missing and _is_evaluated(recipe, wired.model):
        wired = wired.model_copy(update={"evaluation": outputs_of(recipe, "evaluate")[0]})
    if "model" not in section.model_fields_set:
        _check_nothing_passed_over(recipe, verb, wired)
    return wired.model_copy(update=_by_folder_name(recipe, verb, wired))


def _is_evaluated(recipe: Recipe, ref: str | None) -> bool:
    """Whether this recipe's evaluation is of a model that medllm made."""
    path = Path(ref or "")
    folder, made = path.parent if path.suffix == ".gguf" else path, outputs_of(recipe, "evaluate")
    if not _are_made([folder, *made]):
        return False
    scores = Manifest.read(made[0]).results.get("scores", ())
    return any(score.get("identity") == Manifest.read(folder).identity for score in scores)


def uses_model(recipe: Recipe, verb: str, ref: str) -> bool:
    """Whether a verb reads this model, or its tokenizer."""
    wired = wire(recipe, verb)
    keys = ("model", "tokenizer")
    return ref in (*getattr(wired, "models", ()), *(getattr(wired, key, None) for key in keys))


def outputs_of(recipe: Recipe, verb: str) -> list[Path]:
    """The folders that a verb of this recipe writes."""
    section = recipe.section(verb)
    folder = getattr(section, "output", None) or recipe.root / verb
    if verb == "quantize":
        return [folder / choice.folder for choice in section.formats]
    return [folder]


@dataclass(frozen=True)
class Source:
    """Where an input comes from that a section does not name."""

    folders: tuple[Path, ...]
    """What the verb makes: for `quantize` a folder a format."""
    chosen: Path
    """The one that is taken."""
    is_left: bool
    """Whether no section makes it: an earlier command left it there."""


def find_source(recipe: Recipe, verb: str, field: str) -> Source | None:
    """Where a verb takes an input from, unless its section names one; None where nothing makes it.

    What a section makes goes before what an earlier command left; among each the nearest verb. Of
    several quantized models the one with the most bits per weight in its layers is taken
    (embeddings may be kept whole), of equals a GGUF.
    """
    providers = [each for each in SOURCES[verb][field] if _fits(recipe, each, verb, field)]
    for is_left in (False, True):
        for provider in providers:
            folders = outputs_of(recipe, provider)
            if (provider in recipe.verbs) != is_left and (not is_left or _are_made(folders)):
                return Source(tuple(folders), _best(recipe, provider), is_left)
    return None


def _are_made(folders: Sequence[Path]) -> bool:
    return all((folder / NAME).is_file() for folder in folders)


def _best(recipe: Recipe, provider: str) -> Path:
    """The one to take of what a verb makes."""
    folders = outputs_of(recipe, provider)
    if provider != "quantize":
        return folders[0]
    formats = recipe.section("quantize").formats
    ranks = [(bits_of_a_weight(choice), choice.format == "gguf") for choice in formats]
    return folders[ranks.index(max(ranks))]


def _fits(recipe: Recipe, provider: str, verb: str, field: str) -> bool:
    """Whether a verb can take what another makes: `quantize` needs a model, `merge` an adapter."""
    if provider != "finetune" or verb in {"generate", "serve"}:
        return True
    return _makes(recipe) == field


def _makes(recipe: Recipe) -> str:
    """What `finetune` makes: "adapter" or "model"; without a section, what lies in its folder."""
    if recipe.finetune:
        return recipe.finetune.makes
    (folder,) = outputs_of(recipe, "finetune")
    return "adapter" if (folder / "adapter_config.json").is_file() else "model"


def _check_nothing_passed_over(recipe: Recipe, verb: str, wired: Any) -> None:
    """Raise ConfigError where a verb would ignore what `finetune` makes."""
    if verb == "merge" and recipe.merge and recipe.finetune and wired.adapter is None:
        message = "merge: finetune trains all weights, so there is no adapter to merge"
        raise ConfigError(message, "leave out `merge`, or name merge.adapter")
    if verb != "quantize" or wired.model != recipe.model:
        return
    (folder,) = outputs_of(recipe, "finetune")
    is_trained = recipe.finetune is not None or _are_made([folder])
    if is_trained and _makes(recipe) == "adapter":
        message = f"quantize: the adapter of {short_path(folder)} would be ignored"
        reason = "only models are quantized, and no `merge` folds it into its base"
        fix = "add `merge: {}` (or run `medllm merge`), or name quantize.model"
        raise ConfigError(f"{message}: {reason}", fix)


def _by_folder_name(recipe: Recipe, verb: str, wired: Any) -> dict[str, str]:
    """The model of `generate` or `serve` that is named by its folder, such as `gguf-q4_k_m`."""
    if verb not in {"generate", "serve"}:
        return {}
    folders = {folder.name: folder for folder in _outputs_there(recipe, "quantize")}
    return {"model": str(folders[wired.model])} if wired.model in folders else {}


def _models_made(recipe: Recipe) -> tuple[str, ...]:
    """The base, the merged model, else the trained one or the adapter, and every quantized one."""
    merged = _outputs_there(recipe, "merge")
    is_merged = recipe.merge or (merged and not recipe.finetune)
    trained = [] if is_merged else _outputs_there(recipe, "finetune")
    made = [*trained, *merged, *_outputs_there(recipe, "quantize")]
    return tuple(map(str, [recipe.model, *made] if recipe.model else made))


def _outputs_there(recipe: Recipe, verb: str) -> list[Path]:
    """What a section makes, or an earlier command has left."""
    folders = outputs_of(recipe, verb)
    return folders if verb in recipe.verbs or _are_made(folders) else []
