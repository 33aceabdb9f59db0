"""Family trees of artifacts, upwards and downwards."""

from pathlib import Path

import pytest

from medllm.artifacts.manifest import DataTerm, Kind, Manifest, Parent, identify
from medllm.artifacts.tree import find_lineage
from medllm.errors import ArtifactError

MIMIC = DataTerm(dataset="mimic", licence="PhysioNet", access="credentialed", agreement="mimic")
OPEN = DataTerm(dataset="pubmedqa", licence="MIT", access="open")
SOURCE = Parent(kind="source", path="/data/mimic", identity="5" * 64)


def make(folder: Path, kind: Kind, *parents: Parent, terms: tuple[DataTerm, ...] = ()) -> Parent:
    """Write an artifact; returns it as a parent."""
    settings = {"name": folder.name}
    manifest = Manifest(
        schema=1,
        kind=kind,
        format="x",
        identity=identify(kind, settings, parents, ()),
        command=kind,
        config={},
        settings=settings,
        parents=parents,
        data_terms=terms,
    )
    folder.mkdir(parents=True)
    manifest.write(folder)
    return manifest.as_parent(folder)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs: one saw MIMIC, the other did not."""
    runs = tmp_path / "runs"
    data = make(runs / "a/prepare", "dataset", SOURCE, terms=(MIMIC,))
    adapter = make(runs / "a/finetune", "adapter", data, terms=(MIMIC,))
    make(runs / "a/merge", "model", adapter, terms=(MIMIC,))
    make(runs / "b/prepare", "dataset", terms=(OPEN,))
    return runs


def test_an_artifact_shows_what_it_was_made_from(runs: Path) -> None:
    lines = find_lineage(str(runs / "a/merge"), runs).lines()

    assert lines[0] == "made from:"
    kinds = ["merge  model", "└─ ", "   └─ ", "      └─ /data/mimic  source 555555555555"]
    assert all(part in line for part, line in zip(kinds, lines[1:], strict=True))
    assert "credentialed" in lines[1]


def test_an_artifact_shows_what_was_made_from_it(runs: Path) -> None:
    lines = find_lineage(str(runs / "a/prepare"), runs).lines()

    below = lines[lines.index("made from it:") + 1 :]
    assert ["prepare" in below[0], "finetune" in below[1], "merge" in below[2]] == [True] * 3
    assert below[2].startswith("   └─ ")


def test_which_models_saw_this_dataset(runs: Path) -> None:
    lines = find_lineage("mimic", runs).lines()

    assert [
        word in line for word, line in zip(("prepare", "finetune", "merge"), lines, strict=True)
    ]
    assert not any("/b/" in line for line in lines)


def test_a_parent_that_is_another_one_now_is_said(runs: Path) -> None:
    Path(runs / "a/finetune/medllm.json").unlink()
    (runs / "a/finetune").rmdir()
    make(runs / "a/finetune", "adapter", terms=(OPEN,))

    assert "another artifact is there now" in "\n".join(
        find_lineage(str(runs / "a/merge"), runs).lines()
    )


def test_an_unknown_name_says_what_was_seen(runs: Path) -> None:
    with pytest.raises(ArtifactError, match="'mimicry' is no artifact") as problem:
        find_lineage("mimicry", runs).lines()
    assert "mimic, pubmedqa" in problem.value.fix


@pytest.mark.parametrize("length", [1, 2])
def test_an_artifact_made_from_itself_is_refused(tmp_path: Path, length: int) -> None:
    made = [make(tmp_path / f"m{number}", "model") for number in range(length)]
    for number in range(length):
        folder, parent = tmp_path / f"m{number}", made[(number + 1) % length]
        Manifest.read(folder).model_copy(update={"parents": (parent,)}).write(folder)

    with pytest.raises(ArtifactError, match="its manifests say that it was made from itself"):
        find_lineage(str(tmp_path / "m0"), tmp_path).lines()


def test_a_broken_manifest_is_left_out_and_said(
    runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (runs / "b/prepare/medllm.json").write_text("{")

    assert "merge" in "".join(find_lineage(str(runs / "a/prepare"), runs).lines())
    assert "left out: " in capfd.readouterr().err
