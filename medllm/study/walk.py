"""Walking a study: for each arm and draw a calibration set, quantized models, and their scores."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import Manifest, write_json
from medllm.calibrate.config import CalibrateConfig
from medllm.calibrate.verb import calibrate
from medllm.data.example import read_jsonl
from medllm.errors import ConfigError, DataError
from medllm.evaluate.kinds import KINDS
from medllm.evaluate.verb import evaluate
from medllm.models.load import resolve_model
from medllm.places import short_path
from medllm.quantize.config import QuantizeConfig
from medllm.quantize.verb import check_ahead, quantize
from medllm.recipe import Recipe, wire
from medllm.study.config import Arm, SetConfig, StudyConfig
from medllm.study.outcome import Draw, summarize, why_unable
from medllm.study.report import build_page, show_study
from medllm.study.sets import build_set

UNCALIBRATED = "uncalibrated"
"""The folder of the formats that use no calibration text: they are the same in every arm."""


@dataclass(frozen=True)
class Study:
    """A study, ready to be walked."""

    recipe: Recipe
    config: StudyConfig
    folder: Path
    base: CalibrateConfig
    """What all arms have in common."""
    quantize: QuantizeConfig
    overwrite: bool = False

    @classmethod
    def of(
        cls, recipe: Recipe, config: StudyConfig, folder: Path, *, overwrite: bool = False
    ) -> "Study":
        """The study of a recipe's `calibrate`, `quantize` and `evaluate` sections.

        Raises:
            ConfigError: it has no such arm, or what `quantize` lacks can be known ahead.
        """
        if config.base_arm not in config.arms:
            known = f"the arms are: {', '.join(config.arms)}"
            raise ConfigError(f"study.reference: no arm '{config.base_arm}'", known)
        own = {"gate": None, "quality": True, "overwrite": overwrite}
        plan = wire(recipe, "quantize").model_copy(update=own)
        base = wire(recipe, "calibrate").model_copy(update={"overwrite": overwrite})
        study = cls(recipe, config, folder, base, plan, overwrite)
        check_ahead(study.plan("", plan.formats))
        return study

    @property
    def holdouts(self) -> Path:
        """The folder of the text that all are judged by."""
        return self.folder / "holdouts"

    @property
    def draws(self) -> Iterator[tuple[str, int]]:
        """Arms and numbers of draws; all arms once before any has a second draw."""
        return (
            (arm, number) for number in range(1, self.config.draws + 1) for arm in self.config.arms
        )

    def plan(self, name: str, formats: Sequence[Any], calibration: Path | None = None) -> Any:
        """How to quantize what lies in the folder `name`."""
        return self.quantize.model_copy(
            update={
                "formats": tuple(formats),
                "output": self.folder / name / "quantize",
                "calibration": calibration or self.holdouts,
                "holdouts": self.holdouts,
            }
        )


def run_study(study: Study) -> dict[str, Any]:
    """The outcome, also as `study.json` and `study.html`; what is done is not done again.

    Raises:
        MedllmError: whatever a verb raises.
    """
    hold = {"output": study.holdouts, "samples": 1, "general_share": 0.0}
    calibrate(study.base.model_copy(update=hold))
    formats = study.quantize.formats
    calibrated = [choice for choice in formats if choice.uses_calibration]
    plain = [choice for choice in formats if not choice.uses_calibration]
    sets = {draw: _build_set(study, *draw) for draw in study.draws}
    found = []
    if plain:
        found += _walk(study, UNCALIBRATED, 1, UNCALIBRATED, study.plan(UNCALIBRATED, plain))
    for (arm, number), texts in sets.items():
        name = f"{arm}-{number}"
        console.say(f"\n{name}")
        found += _walk(study, arm, number, name, study.plan(name, calibrated, texts))
    outcome = _outcome(study, found)
    write_json(study.folder / "study.json", outcome)
    build_page(outcome, study.recipe.name).write(study.folder / "study.html")
    show_study(outcome)
    console.say(f"  {short_path(study.folder / 'study.html')}")
    return outcome


def _outcome(study: Study, found: Sequence[Draw]) -> dict[str, Any]:
    config = study.config
    budget = [config.windows, config.window_tokens] if config.windows else None
    model = resolve_model(study.quantize.model)
    return {
        "model": Path(model.ref).name,
        "identity": model.parent.identity,
        "budget": budget,
        "draws": config.draws,
        "limit": study.recipe.evaluate.limit if study.recipe.evaluate else None,
        "reference": config.base_arm,
        "arms": {
            name: arm.model_dump(mode="json", include=arm.model_fields_set)
            for name, arm in config.arms.items()
        },
        "parent_scores": found[0].parent_figures | _evaluate_parent(study),
        "unable": _unable(study),
        **summarize(found, config.base_arm),
    }


def _build_set(study: Study, arm: str, number: int) -> Path:
    """The folder of a calibration set of an arm."""
    folder, chosen, config = study.folder / f"{arm}-{number}", study.config.arms[arm], study.config
    seed = study.base.seed + number
    drawn = None
    if not chosen.random_tokens:
        own = {key: getattr(chosen, key) for key in chosen.model_fields_set - {"random_tokens"}}
        drawn = folder / "calibrate"
        draw = {"output": drawn, "seed": seed, "holdout_samples": 0}
        calibrate(study.base.model_copy(update={**own, **draw}))
        _check_apart(study.holdouts, drawn)
    if not config.windows:
        assert drawn  # the configuration has no random arm without windows
        return drawn
    model = resolve_model(study.base.tokenizer, role="tokenizer")
    made = SetConfig(
        output=folder / "set",
        overwrite=study.overwrite,
        seed=seed,
        random_tokens=chosen.random_tokens,
        windows=config.windows,
        window_tokens=config.window_tokens,
    )
    return build_set(made, model, drawn).path


def _check_apart(holdouts: Path, drawn: Path) -> None:
    """Raise DataError where a text that judges is one that calibrates: no figure would count."""
    parts = {row["id"]: set(row["parts"]) for row in read_jsonl(holdouts / "parts.jsonl")}
    judging: set[str] = set()
    for path in holdouts.glob("holdout_*.jsonl"):
        judging.update(*(parts[row["id"]] for row in read_jsonl(path)))
    used = {part for row in read_jsonl(drawn / "parts.jsonl") for part in row["parts"]}
    if both := sorted(judging & used):
        fix = "both are drawn by one `split:`; this is an error of medllm"
        raise DataError(f"{drawn}: {len(both)} texts are held out too ({both[0]})", fix)


def _walk(study: Study, arm: str, number: int, name: str, plan: QuantizeConfig) -> list[Draw]:
    """What each format of one set came to."""
    manifests = quantize(plan)
    folders = [plan.output / choice.folder for choice in plan.formats if plan.output]
    scores = _evaluate(study, name, [str(folder) for folder in folders])
    tokens = _tokens_of(plan) if arm != UNCALIBRATED else None
    return [
        Draw(arm, number, folder.name, manifest.results, _read(folder), scores.get(folder.name, {}),
             tokens)
        for folder, manifest in zip(folders, manifests, strict=True)
    ]  # fmt: skip


def _tokens_of(plan: QuantizeConfig) -> int | None:
    made = Manifest.read(plan.calibration) if plan.calibration else None
    return made.results.get("tokens") if made else None


def _read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    return found


def _evaluate(study: Study, name: str, models: Sequence[str]) -> dict[str, dict[str, float]]:
    """For each model the score of each task, by its kind's measure; what is not measured is out."""
    scores: dict[str, dict[str, float]] = {}
    for row in _score_rows(study, name, models):
        measure = KINDS[row["kind"]].measure
        if row.get(measure) is not None:
            scores.setdefault(row["model"], {})[f"{row['task']} {measure}"] = row[measure]
    return scores


def _score_rows(study: Study, name: str, models: Sequence[str]) -> list[dict[str, Any]]:
    if study.recipe.evaluate is None:
        return []
    own = {"models": tuple(models), "output": study.folder / name / "evaluate"}
    own["overwrite"] = study.overwrite
    manifest = evaluate(wire(study.recipe, "evaluate").model_copy(update=own))
    rows: list[dict[str, Any]] = manifest.results["scores"]
    return rows


def _evaluate_parent(study: Study) -> dict[str, float]:
    scores = _evaluate(study, "parent", [str(study.quantize.model)])
    return next(iter(scores.values()), {})


def _unable(study: Study) -> dict[str, str]:
    """The tasks that can tell no arms apart, as the model itself cannot do them, and why."""
    told = {}
    for row in _score_rows(study, "parent", [str(study.quantize.model)]):
        measure = KINDS[row["kind"]].measure
        if reason := why_unable(row, measure):
            told[f"{row['task']} {measure}"] = reason
    return told


def read_sizes(text: str) -> list[int]:
    """The numbers of `128,256,512`.

    Raises:
        ConfigError: they are none, or fewer than two.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) for part in parts) or len(set(parts)) < 2:
        fix = "two or more numbers of texts: --sweep-samples 128,256,512,768,1024"
        raise ConfigError(f"--sweep-samples: not sizes to compare: {text}", fix)
    return [int(part) for part in parts]


def sweep_samples(recipe: Recipe, sizes: Sequence[int]) -> dict[str, Any]:
    """The study of how many calibration texts are worth their time, of two or more numbers."""
    arms = {str(size): Arm(samples=size) for size in sorted(set(sizes))}
    draws = recipe.study.draws if recipe.study else 1
    config = StudyConfig(arms=arms, reference=str(max(sizes)), draws=draws, windows=None)
    plan = wire(recipe, "quantize")
    folder = plan.output / "sweep"
    return run_study(Study.of(recipe, config, folder, overwrite=plan.overwrite))
