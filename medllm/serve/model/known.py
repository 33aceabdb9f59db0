"""What is known of a model that is served: is it as it was made, its data, its evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from medllm.artifacts.lineage import open_input
from medllm.artifacts.manifest import file_problems, unlisted_files
from medllm.errors import ArtifactError, GateError
from medllm.models.adapter import base_of
from medllm.models.load import HUB_FILES, ModelRef
from medllm.places import short_path
from medllm.serve.model.outcome import Settled, read_outcome

READ = (*HUB_FILES, "*.gguf")
"""Files that decide what a model answers."""
EVALUATE = "`medllm evaluate --gate NAME` judges it; then serve it with --evaluation DIR"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one model."""

    identity: str
    access: str | None
    """The strictest class of the data below it; None where nothing is known."""
    datasets: tuple[str, ...]
    tasks: tuple[str, ...] | None
    """What it was evaluated on; None without an evaluation of it."""
    gate: Settled | None
    """What the gate of that evaluation said of it."""
    loss_gate: Settled | None
    """What the gate of its quantization said."""

    @property
    def verdict(self) -> str:
        """One of: failed, passed, not judged, not evaluated."""
        if any(gate and not gate.passed for gate in (self.gate, self.loss_gate)):
            return "failed"
        if self.tasks is None:
            return "not evaluated"
        return "passed" if self.gate else "not judged"

    @property
    def lines(self) -> Iterator[str]:
        """What whoever asks the model should know of its evaluation."""
        if self.tasks is None:
            yield "no evaluation of this model is known"
        elif self.gate:
            yield f"evaluated on {', '.join(self.tasks)}"
        else:
            yield f"evaluated on {', '.join(self.tasks)}; no gate judged it"
        for name, gate in (("", self.gate), ("of its quantization", self.loss_gate)):
            if gate:
                yield from _lines_of(gate, name or gate.name)

    def card(self) -> dict[str, Any]:
        """The same as plain data; nobody learns a path of this machine."""
        return {"identity": self.identity, "access": self.access or "unknown",
                "datasets": list(self.datasets), "evaluation": self.verdict,
                "told": list(self.lines)}  # fmt: skip

    def check_gate(self) -> None:
        """Raise GateError unless its evaluation passed a gate, and none failed."""
        if self.verdict != "passed":
            told = "\n  ".join(self.lines)
            message = f"a gate is required, and the model is {self.verdict}:\n  {told}"
            raise GateError(message, EVALUATE)


def _lines_of(gate: Settled, name: str) -> Iterator[str]:
    failed = [str(check) for check in gate.checks if not check.passed]
    yield f"gate {name}: {'FAILED' if failed else f'passed, {len(gate.checks)} checks'}"
    yield from failed


def know(model: ModelRef, evaluation: Path | None, *, is_judged: bool = False) -> Known:
    """What is known of a model; its files are hashed anew, and those of an adapter's base.

    Raises:
        ArtifactError: they are not as they were made; or the evaluation is none, is altered, or is
            of other models.
        GateError: it has to be judged, and the gate failed or is missing.
    """
    identity, folder = model.parent.identity, _folder_of(model)
    known = Known(
        identity,
        model.manifest.access if model.manifest else None,
        tuple(term.dataset for term in model.data_terms),
        read_tasks(evaluation, identity) if evaluation else None,
        read_outcome(evaluation, identity) if evaluation else None,
        read_outcome(folder.parent, identity) if model.manifest else None,
    )
    if is_judged:
        known.check_gate()
    for each in (model, base_of(model)) if model.is_adapter else (model,):  # the longest at last
        check_unaltered(each)
    return known


def check_unaltered(model: ModelRef) -> None:
    """Raise ArtifactError unless each file of a model is the one that medllm wrote."""
    if not model.manifest:
        return
    folder = _folder_of(model)
    problems = model.manifest.problems() + file_problems(folder, model.manifest, anew=True)
    problems += [
        f"{name} was added"
        for name in unlisted_files(folder, model.manifest)
        if any(fnmatchcase(name.name, pattern) for pattern in READ)
    ]
    if problems:
        fix = "restore the folder from its source, or make it again; nothing altered is served"
        raise ArtifactError(f"{folder} is not as it was made: {'; '.join(problems):.600}", fix)


def read_tasks(evaluation: Path, identity: str) -> tuple[str, ...]:
    """The tasks on which an evaluation scored a model.

    Raises:
        ArtifactError: it is none, is altered, or is of other models.
    """
    found = open_input(evaluation, ("evaluation",), "evaluation")
    assert found.manifest
    scores = found.manifest.results.get("scores", [])
    tasks = [score["task"] for score in scores if score.get("identity") == identity]
    if not tasks:
        message = f"{short_path(evaluation)} evaluates other models than the one that is served"
        raise ArtifactError(message, "name the evaluation of this one, or make it")
    return tuple(dict.fromkeys(tasks))


def _folder_of(model: ModelRef) -> Path:
    return model.path.parent if model.path.is_file() else model.path
