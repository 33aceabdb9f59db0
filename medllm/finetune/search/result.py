"""What a search found: a table, a plot, and the recipe of the best trial."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from medllm.artifacts.manifest import without_credentials, write_atomically, write_json
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.report import LossCurves, Points, build_page

ENDED, EARLY = "finished", "ended early"


@dataclass(frozen=True)
class Tried:
    """A trial that is over."""

    number: int
    parameters: Mapping[str, Any]
    value: float | None
    """Validation loss at its end, in nats per token; None where it did not come to its end."""
    state: str
    seconds: float
    evaluations: Sequence[float]
    """Validation losses before its end."""
    outcome: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the training found out; only of those that came to their end."""

    @property
    def short(self) -> dict[str, str]:
        """Its values for people, by the last part of their names."""
        return {name.rpartition(".")[2]: _shown(each) for name, each in self.parameters.items()}

    @property
    def said(self) -> str:
        """How it ended."""
        reached = f"validation loss {self.value:.3f}" if self.value is not None else ""
        if self.state == "complete":
            return reached
        if self.state == "pruned":
            count, last = len(self.evaluations), self.evaluations[-1]
            return f"ended early at evaluation {count}, validation loss {last:.3f}"
        return f"{self.state}: {reached}" if reached else self.state


def summarize(tried: Sequence[Tried], best: Tried) -> dict[str, Any]:
    """The search in a few numbers, for a manifest."""
    complete = sum(each.value is not None for each in tried)
    return {
        "trials": len(tried),
        "complete": complete,
        "seconds": round(sum(each.seconds for each in tried), 1),
        "best_trial": best.number,
        "parameters": dict(best.parameters),
    }


def write_search(tried: Sequence[Tried], best: Tried, found: FinetuneConfig, folder: Path) -> None:
    """Write `search.json`, `best.yaml` with the settings `found`, and the trials in the report."""
    rows = [asdict(each) for each in tried]
    for row in rows:
        del row["outcome"]
    kept = {"objective": "validation_loss", "best_trial": best.number, "trials": rows}
    write_json(folder / "search.json", kept)
    write_atomically(folder / "best.yaml", render_recipe(found))
    page = build_page(LossCurves.read(folder), best.outcome["results"], found)
    page.heading("Trials of the search")
    page.text(f"Trial {best.number} was the best; all else on this page is about it.")
    axes = ("trial", "nats per token")
    page.curves("Validation loss by trial", _points(tried), *axes, dots=(ENDED, EARLY))
    columns = ("trial", *best.short, "validation loss", "ended", "seconds")
    page.table(columns, [_row(each) for each in tried])
    page.write(folder / "report.html")


def render_recipe(config: FinetuneConfig) -> str:
    """A recipe that trains with these settings alone; its places are absolute."""
    import yaml

    assert config.output
    without = {"output", "overwrite", "recipe", "resume", "search"}
    section = without_credentials(config.model_dump(mode="json", exclude=without))
    for name in ("model", "data", "data_dir"):
        section[name] = _absolute(section[name])
    if section["replay"]:
        section["replay"]["dataset"] = _absolute(section["replay"]["dataset"])
    shared = {name: section.pop(name) for name in ("model", "seed")}
    recipe = {"name": f"{config.output.name}-best", **shared, "finetune": section}
    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))


def _absolute(ref: str | None) -> str | None:
    return str(Path(ref).resolve()) if ref and Path(ref).exists() else ref


def _points(tried: Sequence[Tried]) -> dict[str, Points]:
    """The trials that came to their end, those ended early where they were then, and the best."""
    ends = [(each.number, each.value) for each in tried if each.value is not None]
    early = [(t.number, t.evaluations[-1]) for t in tried if t.value is None and t.evaluations]
    best = accumulate((value for _, value in ends), min)
    numbers = [number for number, _ in ends]
    return {"best so far": list(zip(numbers, best, strict=True)), ENDED: ends, EARLY: early}


def _row(each: Tried) -> tuple[Any, ...]:
    value = "" if each.value is None else round(each.value, 4)
    return (each.number, *each.short.values(), value, each.state, each.seconds)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
