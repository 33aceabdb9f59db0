"""The terms of credentialed and private data follow everything that is made from them."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from medllm.artifacts.manifest import Manifest
from medllm.artifacts.verify import verify_artifact
from medllm.cli.main import run_command

WORDS = "patient admitted with chest pain and dyspnea treated discharged home stable"
SECRET = "XQZ-SECRET-MARKER"
CHAIN = ("prepare", "finetune", "merge", "quantize/gguf-q8_0", "calibrate", "evaluate")

RECIPE = """
name: walk
model: medllm/tiny
data_use: [{agreement}]
calibrate: {{mix: {{shares: {{{dataset}: 1}}}}, samples: 8, holdout_samples: 2, min_tokens: 8}}
prepare: {{datasets: [{path}], max_examples: 24}}
finetune:
  training: {{max_steps: 2, warmup_steps: 0, per_device_train_batch_size: 2, max_length: 256}}
merge: {{}}
quantize: {{formats: [{{format: gguf, type: Q8_0}}]}}
evaluate: {{limit: 2}}
"""


def invent(number: int) -> str:
    return f"{SECRET} {number} " + " ".join(Random(number).choices(WORDS.split(), k=40))


def write_mimic(folder: Path) -> None:
    """Invented notes in the form of MIMIC-IV-Note's `discharge.csv.gz`."""
    folder.mkdir(parents=True)
    with gzip.open(folder / "discharge.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        columns = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text"
        writer.writerow(columns.split(","))
        for n in range(60):
            time = "2180-05-06 00:00:00"
            writer.writerow([f"{n}-DS-1", n, n, "DS", 1, time, time, invent(n)])


def write_private(path: Path) -> None:
    """Invented rows of a user's own file, without a declared licence."""
    rows = ({"id": n, "question": invent(n), "answer": f"answer {n}"} for n in range(60))
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def walk(tmp_path: Path, own_places: Path, tiny_model: Path) -> Callable[[str, str, str], Path]:
    """Run the recipe on a dataset; returns the folder of the results."""

    def run(dataset: str, path: str, agreement: str) -> Path:
        recipe = RECIPE.format(dataset=dataset, path=path, agreement=agreement)
        (own_places / "walk.yaml").write_text(recipe, encoding="utf-8")
        assert run_command(["run", "--config", "walk.yaml"]) == 0
        return own_places / "runs/walk"

    return run


def test_mimic_follows_everything_made_from_it(
    tmp_path: Path, walk: Callable[[str, str, str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    name = "mimic_iv_note_discharge"
    write_mimic(tmp_path / "datasets" / name)

    runs = walk(name, name, "mimic-iv-note")

    for folder in CHAIN:
        manifest = Manifest.read(runs / folder)
        terms = {(term.dataset, term.access, term.agreement) for term in manifest.data_terms}
        assert (name, "credentialed", "mimic-iv-note") in terms, folder
        verify_artifact(runs / folder)
    for folder in CHAIN[1:4]:
        card = (runs / folder / "README.md").read_text(encoding="utf-8")
        assert "No: only with people who have signed the same data use agreement" in card
    assert_nothing_leaked(runs, capfd)
    assert_lineage_shows_it(name, capfd)


def test_private_notes_follow_everything_made_from_them(
    tmp_path: Path,
    own_places: Path,
    walk: Callable[[str, str, str], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_private(tmp_path / "datasets/ward/ward.jsonl")
    (tmp_path / "datasets/ward/dataset.yaml").write_text("title: Ward\nshape: local\n")

    runs = walk("ward", "ward", "none")

    for folder in CHAIN:
        assert Manifest.read(runs / folder).access == "private", folder
    assert_nothing_leaked(runs, capfd)


def test_credentialed_data_are_read_by_no_verb_without_their_agreement(
    tmp_path: Path, own_places: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "mimic_iv_note_discharge"
    write_mimic(tmp_path / "datasets" / name)
    raw = str(tmp_path / "datasets" / name / "discharge.csv.gz")

    for command in (
        ["prepare", "--dataset", name],
        ["prepare", "--dataset", raw],
        ["calibrate", "--set", f"calibrate.mix={{shares: {{{name}: 1}}}}"],
        ["calibrate", "--analyze", raw],
    ):
        assert run_command(command) == 3
        assert "data use agreement 'mimic-iv-note'" in capfd.readouterr().err
    assert not list(own_places.rglob("medllm.json"))
    assert run_command(["calibrate", "--analyze", raw, "--accept-terms", "mimic-iv-note"]) == 0
    assert SECRET not in "".join(capfd.readouterr())


def assert_lineage_shows_it(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """By its name, all that saw it; of what was prepared, the raw files and all made from it."""
    made = {f"runs/walk/{folder}" for folder in CHAIN}

    assert run_command(["lineage", name]) == 0
    of_name = [line.lstrip("│├└─ ") for line in capfd.readouterr().out.splitlines()]
    assert run_command(["lineage", "runs/walk/prepare"]) == 0
    above, below = capfd.readouterr().out.split("\nmade from it:\n")

    assert {line.split()[0] for line in of_name} == made
    assert all(line.endswith(", credentialed") for line in of_name)
    assert [name in line for line in above.splitlines()] == [False, False, True]
    found = {line.lstrip("│├└─ ").split()[0] for line in below.splitlines()}
    assert found == made - {"runs/walk/calibrate"}


def assert_nothing_leaked(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The marker that stands in every text is on no screen, in no log, card, page or statistics."""
    shown = capfd.readouterr()
    assert SECRET not in shown.out + shown.err
    silent = ("*.log", "*.md", "*.html", "medllm.json", "statistics.json", "rejected/*.jsonl")
    for pattern in silent:
        for path in runs.rglob(pattern):
            assert SECRET not in path.read_text(encoding="utf-8"), path
