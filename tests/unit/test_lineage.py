"""Every artifact knows by digest what it was made from, and the strictest term follows it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import FOREIGN, Input, open_input
from medllm.artifacts.manifest import (
    NAME,
    Access,
    BaseModelRef,
    DataTerm,
    Kind,
    Manifest,
    Parent,
    join_terms,
)
from medllm.errors import ArtifactError


def make(kind: Kind, name: str, *parents: Input, terms: tuple[DataTerm, ...] = ()) -> Input:
    """A small artifact made from others, as a verb makes it."""

    def write(folder: Path) -> Outcome:
        (folder / "content.txt").write_text(name)
        return Outcome()

    output = Path.cwd() / name
    job = Job(
        kind, "toy", "toy", output, {}, {"name": name},
        parents=tuple(parent.parent for parent in parents),
        data_terms=join_terms(*(parent.data_terms for parent in parents), terms),
        base_model=BaseModelRef(id="org/base"),
    )  # fmt: skip
    produce(job, write)
    return open_input(output, (kind,), "input")


def term(dataset: str, access: Access) -> DataTerm:
    return DataTerm(dataset=dataset, licence="x", access=access)


def test_terms_and_identities_follow_the_whole_road() -> None:
    dataset = make("dataset", "prepare", terms=(term("notes", "private"),))
    calibration = make("calibration", "calibrate", terms=(term("pubmedqa", "open"),))
    adapter = make("adapter", "finetune", dataset)
    model = make("model", "merge", adapter)
    quantized = make("quantized", "quantize", model, calibration)

    manifest = quantized.manifest
    assert manifest is not None
    assert [(p.kind, p.identity) for p in manifest.parents] == [
        ("model", model.parent.identity), ("calibration", calibration.parent.identity),
    ]  # fmt: skip
    assert [term.dataset for term in manifest.data_terms] == ["notes", "pubmedqa"]
    assert manifest.access == "private"
    assert "No: this contains data of your own" in (quantized.path / "README.md").read_text()


def test_a_changed_ancestor_changes_all_below() -> None:
    one = make("model", "merge", make("adapter", "a", make("dataset", "one")))
    two = make("model", "merge2", make("adapter", "b", make("dataset", "two")))

    assert one.parent.identity != two.parent.identity


def test_a_parent_is_known_by_its_identity_wherever_it_lies() -> None:
    dataset = make("dataset", "prepare")
    dataset.path.rename("moved")

    moved = open_input(Path("moved"), ("dataset",), "training data")

    assert moved.parent.identity == dataset.parent.identity
    assert moved.parent.path == "moved"


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [(("adapter",), "an adapter"), (("quantized", "model"), "a model or quantized model")],
)
def test_the_kind_is_checked(kinds: tuple[str, ...], expected: str) -> None:
    dataset = make("dataset", "prepare")

    with pytest.raises(ArtifactError) as caught:
        open_input(dataset.path, kinds, "adapter")

    assert caught.value.message == f"adapter: {dataset.path} is a dataset, not {expected}"
    assert caught.value.fix == f"name {expected}"


@pytest.mark.parametrize("kind", ["adapter", "evaluation"])
def test_a_wrong_kind_has_its_article(kind: Kind) -> None:
    made = make(kind, "made")

    with pytest.raises(ArtifactError) as caught:
        open_input(made.path, ("model",), "model")

    assert caught.value.message == f"model: {made.path} is an {kind}, not a model"


def test_altered_terms_are_noticed_before_anything_is_made_of_them() -> None:
    made = make("dataset", "prepare", terms=(term("notes", "private"),))
    path = made.path / NAME
    path.write_text(path.read_text().replace('"private"', '"open"'))

    with pytest.raises(ArtifactError) as caught:
        open_input(made.path, ("dataset",), "training data")

    assert caught.value.message == f"{made.path}: {NAME}: does not fit its seal: it was altered"


def test_a_missing_input_is_named_with_its_role() -> None:
    with pytest.raises(ArtifactError) as caught:
        open_input(Path("nowhere"), ("dataset",), "training data")

    assert caught.value.message == "training data: no such file or folder: nowhere"


def test_a_foreign_folder_is_digested_and_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path.cwd() / "theirs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub/b.txt").write_text("b")

    first = open_input(folder, ("dataset",), "training data")
    again = open_input(folder, ("dataset",), "training data")
    (folder / "sub/b.txt").write_text("c!")
    changed = open_input(folder, ("dataset",), "training data")

    assert first.manifest is None
    assert first.data_terms == ()
    assert first.parent == again.parent
    assert first.parent.kind == FOREIGN
    assert changed.parent.identity != first.parent.identity
    assert capfd.readouterr().err == (
        f"training data: {folder} was not made by medllm; its data terms are not known\n"
    )


def test_a_file_of_an_artifact_stands_for_the_artifact() -> None:
    dataset = make("dataset", "prepare")

    found = open_input(dataset.path / "content.txt", ("dataset",), "data")

    assert found.parent.identity == dataset.parent.identity


def parents_of(manifest: Manifest) -> list[Any]:
    return [parent.model_dump() for parent in manifest.parents]


def test_parents_are_written_with_kind_path_and_identity() -> None:
    dataset = make("dataset", "prepare")
    adapter = make("adapter", "finetune", dataset)

    assert adapter.manifest is not None
    assert parents_of(adapter.manifest) == [
        Parent(
            kind="dataset", path=str(dataset.path), identity=dataset.parent.identity
        ).model_dump()
    ]


@pytest.mark.parametrize("name", [".git/HEAD", ".cache/huggingface/a.metadata", ".gitignore"])
def test_a_tools_own_files_are_no_part_of_a_foreign_folder(name: str) -> None:
    Path("model").mkdir()
    Path("model/model.safetensors").write_bytes(b"weights")
    before = open_input(Path("model"), ("model",), "model").parent.identity
    (Path("model") / name).parent.mkdir(parents=True, exist_ok=True)
    (Path("model") / name).write_text("of a tool")

    assert open_input(Path("model"), ("model",), "model").parent.identity == before


def test_a_foreign_folder_may_hold_any_name() -> None:
    folder = Path.cwd() / "theirs"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("a")

    first = open_input(folder, ("model",), "model")
    (folder / os.fsdecode(b"caf\xe9.txt")).rename(folder / os.fsdecode(b"caf\xe8.txt"))

    assert open_input(folder, ("model",), "model").parent.identity != first.parent.identity


def test_an_input_that_nobody_may_read_is_refused(lock: Callable[[Path], None]) -> None:
    made, theirs = make("dataset", "mine").path, Path.cwd() / "theirs"
    theirs.mkdir()
    (theirs / "content.txt").write_text("a")

    for folder in (made, theirs):
        lock(folder / "content.txt")
        with pytest.raises(ArtifactError, match=r"content\.txt cannot be read"):
            open_input(folder, ("dataset",), "training data")
