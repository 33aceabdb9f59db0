"""What `medllm verify` finds, and what it says it could not check."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import open_input
from medllm.artifacts.manifest import NAME, Counts, DataTerm, Manifest, Parent
from medllm.artifacts.verify import check_descent, verify_artifact
from medllm.errors import ArtifactError

TERM = DataTerm(dataset="notes", licence="undeclared", access="private")


def write(folder: Path) -> Outcome:
    (folder / "weights.txt").write_text("0123456789")
    (folder / "logs").mkdir()
    (folder / "logs/events").write_text("1")
    return Outcome(results={"loss": 1.5})


@pytest.fixture
def dataset() -> Path:
    folder = Path.cwd() / "prepare"
    produce(Job("dataset", "jsonl", "prepare", folder, {}, {}, data_terms=(TERM,)), write)
    return folder


@pytest.fixture
def model(dataset: Path) -> Path:
    folder = Path.cwd() / "merge"
    parents = (
        Manifest.read(dataset).as_parent(dataset),
        Parent(kind="hub", path="org/base", identity="11"),
    )
    produce(
        Job("model", "safetensors", "merge", folder, {}, {"r": 8}, parents, data_terms=(TERM,)),
        write,
    )
    return folder


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(ArtifactError) as caught:
        verify_artifact(folder)
    return caught.value.message.removeprefix(f"{folder}: ").splitlines()


def edit(folder: Path, **changes: Any) -> None:
    path = folder / NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def reseal(folder: Path, **changes: Any) -> None:
    """Edit a manifest as its maker would have written it."""
    edit(folder, **changes)
    edit(folder, seal=Manifest.read(folder).digest)


def test_a_sound_artifact_passes_and_says_what_was_not_checked(model: Path) -> None:
    report = verify_artifact(model)

    assert report.manifest == Manifest.read(model)
    assert report.unchecked == ("parent org/base: not an artifact on this machine",)


def test_a_parent_that_has_gone_is_unchecked_not_wrong(model: Path, dataset: Path) -> None:
    shutil.rmtree(dataset)

    assert f"parent {dataset}: not an artifact on this machine" in verify_artifact(model).unchecked


def test_logs_may_grow(model: Path) -> None:
    (model / "logs/events").write_text("123")
    (model / "run.log").write_text("more")

    assert verify_artifact(model)


def test_a_bit_that_flipped_without_a_trace_is_found(model: Path) -> None:
    weights = model / "weights.txt"
    before = weights.stat()
    with weights.open("r+") as file:
        file.write("X")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert problems_of(model) == ["weights.txt was altered"]


def test_an_unlisted_file_is_found(model: Path) -> None:
    (model / "pytorch_model.bin").write_text("?")
    (model / "sub").mkdir()
    (model / "sub/README.md").write_text("?")

    assert problems_of(model) == [
        "pytorch_model.bin is not in the manifest", "sub/README.md is not in the manifest",
    ]  # fmt: skip


def test_an_altered_card_is_found(model: Path) -> None:
    card = model / "README.md"
    card.write_text(card.read_text().replace("No: this contains", "Yes: this contains"))

    assert problems_of(model) == ["README.md: the card does not say what the manifest says"]


def test_the_card_of_another_version_is_not_judged(model: Path) -> None:
    (model / "README.md").write_text("worded otherwise")
    reseal(model, medllm_version="0.0.1")

    assert verify_artifact(model).unchecked[0] == "README.md: the card of medllm 0.0.1"


def test_a_missing_card_is_found(model: Path) -> None:
    (model / "README.md").unlink()

    assert problems_of(model) == ["README.md: the card does not say what the manifest says"]


@pytest.mark.parametrize(
    "changes",
    [{"identity": "0" * 64}, {"settings": {"r": 16}}, {"kind": "quantized"}, {"parents": []}],
    ids=["identity", "settings", "kind", "parents"],
)
def test_an_altered_manifest_is_found(model: Path, changes: dict[str, Any]) -> None:
    edit(model, **changes)

    assert f"{NAME}: the identity does not fit the content: it was altered" in problems_of(model)


def test_a_file_that_nobody_may_read_is_found(model: Path, lock: Callable[[Path], None]) -> None:
    lock(model / "weights.txt")

    assert problems_of(model) == ["weights.txt cannot be read"]


def test_a_file_and_its_digest_altered_together_are_found(model: Path) -> None:
    (model / "weights.txt").write_text("X123456789")
    files = json.loads((model / NAME).read_text())["files"]
    digest = "f1c5c2e4b0e2e2cb0fb1b7d2f5e0ae5a4e4a35a2a1aa4ca0ae70bc0f3f1d5a6b"
    edit(model, files=[{**files[0], "sha256": digest}])

    assert any("identity does not fit" in problem for problem in problems_of(model))


SEAL = f"{NAME}: does not fit its seal: it was altered"


def test_altered_results_and_terms_fit_neither_the_seal_nor_the_card(model: Path) -> None:
    card = "README.md: the card does not say what the manifest says"

    edit(model, results={"loss": 0.1})
    assert problems_of(model) == [SEAL, card]

    edit(model, results={"loss": 1.5}, data_terms=[{**TERM.model_dump(), "access": "open"}])
    assert problems_of(model) == [SEAL, card]


@pytest.mark.parametrize(
    "changes",
    [
        {"results": {"scores": [{"accuracy": 0.9, "items": 8}]}},
        {"counts": {"examples": 80, "rejected": {}}},
        {"data_terms": [{**TERM.model_dump(), "licence": "MIT"}]},
        {"data_terms": []},
        {"seal": None},
    ],
    ids=["score", "count", "licence", "no terms", "no seal"],
)
def test_an_edited_score_count_or_term_is_found(changes: dict[str, Any]) -> None:
    def score(folder: Path) -> Outcome:
        (folder / "records.jsonl").write_text("{}\n")
        scores = [{"accuracy": 0.1 + 0.2, "low": float("nan"), "items": 8, "label": "é"}]
        return Outcome(Counts(examples=8), {"scores": scores, "pair": (1, 2)})

    folder = Path.cwd() / "evaluate"
    produce(Job("evaluation", "jsonl", "evaluate", folder, {}, {}, data_terms=(TERM,)), score)
    assert verify_artifact(folder)

    edit(folder, **changes)

    assert problems_of(folder) == [SEAL]


def leaves_of(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every value in a manifest that holds no others."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inner:
        if isinstance(item, dict | list) and item:
            yield from leaves_of(item, (*place, key))
        else:
            yield (*place, key)


def altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    others = {"model": "quantized", "private": "open", None: "something"}
    return others.get(value, f"{value}x") if not isinstance(value, dict | list) else [1]


def test_every_value_of_a_manifest_is_checked_by_verify_and_by_the_next_verb(model: Path) -> None:
    record = (model / NAME).read_text()
    places = list(leaves_of(json.loads(record)))
    unnoticed = []
    for *path, last in places:
        changed = inner = json.loads(record)
        for key in path:
            inner = inner[key]
        inner[last] = altered(inner[last])
        (model / NAME).write_text(json.dumps(changed))
        for check in (verify_artifact, partial(open_input, kinds=("model",), role="model")):
            with suppress(ArtifactError):
                check(model)
                unnoticed.append((*path, last))
    assert len(places) > 30
    assert unnoticed == []


def test_the_seal_of_an_early_artifact_still_holds(model: Path) -> None:
    record = json.loads((model / NAME).read_text())
    outcome = {name: record[name] for name in ("results", "counts", "data_terms")}
    edit(model, seal=hashlib.sha256(json.dumps(outcome, sort_keys=True).encode()).hexdigest())

    assert verify_artifact(model)


def test_another_schema_is_said(model: Path) -> None:
    edit(model, schema=99)

    assert problems_of(model)[0].endswith("its schema is 99, and this medllm reads 1")


def test_what_was_made_from_itself_is_refused(model: Path) -> None:
    own = json.loads((model / NAME).read_text())
    edit(model, parents=[{"kind": "model", "path": str(model), "identity": own["identity"]}])

    assert f"{NAME}: it names itself as what it was made from" in problems_of(model)


@pytest.mark.parametrize("content", [b"\xff\xfe card", b"", b"\x00"])
def test_a_card_of_any_bytes_is_compared(model: Path, content: bytes) -> None:
    (model / "README.md").write_bytes(content)

    assert problems_of(model) == ["README.md: the card does not say what the manifest says"]


def test_a_dangling_link_is_a_file_that_is_not_listed(model: Path) -> None:
    (model / "link").symlink_to("nowhere")

    assert problems_of(model) == ["link is not in the manifest"]


def test_a_manifest_that_was_only_laid_out_anew_passes(model: Path) -> None:
    path = model / NAME
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent=4))

    assert verify_artifact(model)


def test_a_changed_parent_is_found(model: Path, dataset: Path) -> None:
    shutil.rmtree(dataset)
    produce(Job("dataset", "jsonl", "prepare", dataset, {}, {"seed": 1}), write)

    assert problems_of(model) == [f"parent {dataset}: another artifact is there now"]


def test_everything_wrong_is_listed(model: Path) -> None:
    (model / "weights.txt").write_text("short")
    (model / "extra.txt").write_text("?")
    (model / "README.md").unlink()

    assert problems_of(model) == [
        "weights.txt has 5 bytes instead of 10",
        "extra.txt is not in the manifest",
        "README.md: the card does not say what the manifest says",
    ]


def test_what_is_no_artifact_is_refused() -> None:
    with pytest.raises(ArtifactError, match="no such folder: nowhere"):
        verify_artifact(Path("nowhere"))
    with pytest.raises(ArtifactError, match=r"has no medllm\.json"):
        verify_artifact(Path())


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(ArtifactError, match="no such folder: x"):
        verify_artifact(Path(name))
    with pytest.raises(ArtifactError, match="model: no such file or folder: x"):
        open_input(Path(name), ("model",), "model")


def test_a_model_of_an_adapter_that_is_another_now_is_refused() -> None:
    def make(name: str, kind: str, settings: dict[str, Any], *parents: Parent) -> Path:
        folder = Path.cwd() / name
        shutil.rmtree(folder, ignore_errors=True)
        produce(Job(kind, "safetensors", name, folder, {}, settings, parents), write)
        return folder

    adapter = make("finetune", "adapter", {"r": 8})
    merged = make("merge", "model", {}, Manifest.read(adapter).as_parent(adapter))
    quantized = make("quantize", "quantized", {}, Manifest.read(merged).as_parent(merged))
    check_descent(quantized)

    make("finetune", "adapter", {"r": 16})

    for folder in (merged, quantized):
        with pytest.raises(ArtifactError) as caught:
            check_descent(folder)
        said = f"{merged} was made from another adapter than {adapter} holds now"
        assert caught.value.message == said
    shutil.rmtree(adapter)
    check_descent(quantized)
