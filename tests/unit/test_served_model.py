"""What is known of a model before it is served: its files, its data, its evaluation, its gate."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Manifest
from medllm.config.base import VerbConfig
from medllm.errors import ArtifactError, ConfigError, GateError
from medllm.models.load import ModelRef, resolve_model
from medllm.recipe import load_recipe, wire
from medllm.serve.config import ServeConfig
from medllm.serve.model.known import Known, know
from medllm.serve.model.source import find_source

CHECK = {"model": "m", "task": "triage", "figure": "triage accuracy", "value": 0.9, "low": 0.85,
         "high": 0.94, "items": 300, "min": 0.8, "passed": True}  # fmt: skip


def write(files: dict[str, str], folder: Path) -> Outcome:
    for name, text in files.items():
        (folder / name).write_text(text)
    return Outcome()


def score(rows: list[dict[str, Any]], folder: Path) -> Outcome:
    return Outcome(results={"scores": rows})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that says it is a model of medllm's."""
    folder = tmp_path / "model"
    job = Job.of(VerbConfig(output=folder), "model", "merge", "safetensors")
    produce(job, partial(write, {"config.json": "{}", "model.safetensors": "weights"}))
    return folder


def evaluation(folder: Path, *rows: dict[str, Any], gate: Any = None) -> Path:
    job = Job.of(VerbConfig(output=folder), "evaluation", "evaluate", "jsonl")
    produce(job, partial(score, list(rows)))
    if gate is not None:
        (folder / "gate.json").write_text(json.dumps(gate))
    return folder


def identity_of(model: Path) -> str:
    return Manifest.read(model).identity


def known_of(model: Path, *checks: dict[str, Any], **more: Any) -> Known:
    identity = identity_of(model)
    held = [{"identity": identity, **check} for check in checks]
    gate = (
        {"gate": {"name": "/srv/gates/release"}, "passed": True, "checks": held} if checks else None
    )
    row = {"task": "triage", "identity": identity}
    folder = evaluation(model.parent / "evaluation", row, gate=gate)
    return know(resolve_model(str(model)), folder)


def altered(path: Path) -> None:
    """The file with as many bytes, and the same times: only its content tells."""
    status = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: altered(folder / "model.safetensors"), "was altered"),
        (lambda folder: (folder / "chat_template.jinja").write_text("x"), "jinja was added"),
        (lambda folder: (folder / "more.safetensors").write_text("x"), "safetensors was added"),
    ],
)
def test_an_altered_model_is_not_served(
    change: Callable[[Path], Any], reason: str, model: Path
) -> None:
    ref = resolve_model(str(model))
    assert know(ref, None).verdict == "not evaluated"
    (model / "notes.md").write_text("whatever a user puts beside it")
    assert know(ref, None)
    change(model)

    with pytest.raises(ArtifactError, match=reason):
        know(ref, None)


def test_a_model_that_passed_says_so_and_a_gate_may_be_required(model: Path) -> None:
    known = known_of(model, CHECK)

    assert known.verdict == "passed"
    assert list(known.lines) == ["evaluated on triage", "gate release: passed, 1 checks"]
    assert known.card()["evaluation"] == "passed"
    known.check_gate()


@pytest.mark.parametrize(
    ("changes", "verdict", "told"),
    [
        ({"value": 0.7, "passed": True}, "failed", "0.7"),  # whatever the file says, it is judged
        ({"value": None, "passed": False}, "failed", "is not measured"),
        ({"identity": "of another model"}, "not judged", "no gate judged it"),
    ],
)
def test_a_failed_or_missing_gate_is_told_and_can_be_refused(
    changes: dict[str, Any], verdict: str, told: str, model: Path
) -> None:
    known = known_of(model, CHECK | changes)

    assert known.verdict == verdict and told in "\n".join(known.lines)
    with pytest.raises(GateError, match=f"the model is {verdict}"):
        known.check_gate()


def test_the_gate_of_quantizing_counts_too(model: Path) -> None:
    check = {"format": "gptq", "identity": identity_of(model), "figure": "kl", "value": 0.2}
    gate = {"gate": {"max_kl": 0.1}, "passed": False, "checks": [check | {"max": 0.1}]}
    (model.parent / "gate.json").write_text(json.dumps(gate))

    known = known_of(model, CHECK)

    assert known.verdict == "failed"
    assert "gate of its quantization: FAILED" in list(known.lines)


def test_an_evaluation_must_be_of_this_model_and_whole(model: Path, tmp_path: Path) -> None:
    ref: ModelRef = resolve_model(str(model))
    other = evaluation(tmp_path / "other", {"task": "triage", "identity": "0" * 64})
    with pytest.raises(ArtifactError, match="evaluates other models"):
        know(ref, other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="holds no result of medllm"):
        know(ref, tmp_path / "empty")
    with pytest.raises(ArtifactError, match="is a model, not an evaluation"):
        know(ref, model)
    folder = evaluation(tmp_path / "broken", {"task": "t", "identity": identity_of(model)})
    (folder / "gate.json").write_text('{"gate": {}, "checks": [{}]}')
    with pytest.raises(ArtifactError, match="cannot be read as the outcome of a gate"):
        know(ref, folder)


def test_a_wrong_evaluation_is_told_before_the_model_is_hashed(model: Path, tmp_path: Path) -> None:
    ref = resolve_model(str(model))
    altered(model / "model.safetensors")
    other = evaluation(tmp_path / "other", {"task": "triage", "identity": "of another model"})
    with pytest.raises(ArtifactError, match="evaluates other models"):
        know(ref, other)
    with pytest.raises(GateError, match="not evaluated"):
        know(ref, None, is_judged=True)
    (model.parent / "gate.json").write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read as the outcome of a gate"):
        know(ref, None)
    with pytest.raises(ArtifactError, match="empty"):
        find_source(ServeConfig(model=str(tmp_path / "none"), evaluation=tmp_path / "empty"))


def test_an_upstream_cannot_be_held_against_a_gate() -> None:
    with pytest.raises(ConfigError, match="has no digest here"):
        find_source(ServeConfig(upstream="http://127.0.0.1:1", require_gate=True))


def test_the_evaluation_of_the_recipe_is_taken_where_it_is_of_this_model(
    model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "runs"
    mine = {"name": "r", "output_dir": str(place), "serve.model": str(model)}
    assert wire(load_recipe(None, (), mine), "serve").evaluation is None

    evaluation(place / "evaluate", {"task": "triage", "identity": identity_of(model)})

    assert wire(load_recipe(None, (), mine), "serve").evaluation == place / "evaluate"
    foreign = mine | {"serve.model": "org/another"}
    assert wire(load_recipe(None, (), foreign), "serve").evaluation is None
