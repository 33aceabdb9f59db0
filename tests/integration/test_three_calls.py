"""The three calls that everybody types first, in a fresh folder."""

import json
from pathlib import Path
from random import Random

import pytest
from typed import Typed

from medllm.artifacts.manifest import Manifest

CALIBRATE = ["calibrate", "--mix", "radiology"]
FINETUNE = ["finetune", "--config", "lora.yaml"]
QUANTIZE = ["quantize", "--format", "gptq"]
SMALL = ["--set", "calibrate.holdout_samples=4"]
SHORT = ["--set", "finetune.training.max_steps=2", "--set", "finetune.training.max_length=256"]

pytestmark = pytest.mark.filterwarnings(  # of gptqmodel
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
WORDS = "pleural effusion with fever in patients who were treated for pneumonia at home"


def invent_text(number: int) -> str:
    """Some 300 words that no other number has in this order."""
    return " ".join(Random(number).choices(WORDS.split(), k=300))


def write_pubmedqa(folder: Path, count: int = 60) -> None:
    """Invented rows in PubMedQA's raw form, each of some 300 words."""
    rows = {}
    for number in range(count):
        rows[str(900000 + number)] = {
            "QUESTION": f"Does treatment {number} help?",
            "CONTEXTS": [f"Study {number}. {invent_text(number)}."],
            "LABELS": ["RESULTS"],
            "LONG_ANSWER": f"Treatment {number} helps.",
            "final_decision": ("yes", "no", "maybe")[number % 3],
        }
    folder.mkdir(parents=True)
    (folder / "ori_pqal.json").write_text(json.dumps(rows), encoding="utf-8")


def write_pmc_patients(folder: Path, count: int = 60) -> None:
    """Invented rows in the form of PMC-Patients' second release."""
    rows = [
        {
            "patient_id": str(number),
            "patient_uid": f"{7000000 + number}-1",
            "PMID": str(7000000 + number),
            "title": "A case",
            "patient": f"Patient {number}. {invent_text(1000 + number)}",
            "age": [[40.0, "year"]],
            "gender": "F",
        }
        for number in range(count)
    ]
    folder.mkdir(parents=True)
    (folder / "PMC-Patients-V2.json").write_text(json.dumps(rows), encoding="utf-8")


@pytest.mark.parametrize("call", [CALIBRATE, FINETUNE, QUANTIZE], ids=" ".join)
def test_without_data_each_ends_in_one_error_with_its_fix(
    call: list[str], own_places: Path, tiny_model: Path, typed: Typed
) -> None:
    done = typed(*call)

    starts = ("error", "  fix", "Traceback")
    errors = [line for line in done.stderr.splitlines() if line.startswith(starts)]
    assert done.returncode == 3
    assert errors[0].startswith("error: pubmedqa: not on this machine")
    assert "medllm datasets add pubmedqa PATH" in errors[1]
    assert len(errors) == 2
    assert not list(own_places.rglob("medllm.json"))


def test_with_raw_files_in_the_data_folder_all_three_work(
    tmp_path: Path, own_places: Path, tiny_model: Path, typed: Typed
) -> None:
    write_pubmedqa(tmp_path / "datasets/pubmedqa")
    write_pmc_patients(tmp_path / "datasets/pmc_patients")

    calls = [
        typed(*CALIBRATE, "--samples", "20", *SMALL, "--set", "calibrate.window_tokens=512"),
        typed(*FINETUNE, *SHORT),
        typed(*QUANTIZE),
    ]

    assert [call.returncode for call in calls] == [0, 0, 0], [call.stderr for call in calls]
    assert "finetune reads what prepare makes, so prepare comes first" in calls[1].stderr
    made = Manifest.read(own_places / "runs/default/calibrate")
    assert made.results["sources"] == {"pubmedqa": 12, "pmc_patients": 6, "synthetic_radiology": 2}
    assert Manifest.read(own_places / "runs/lora/finetune").kind == "adapter"
    quantized = Manifest.read(own_places / "runs/default/quantize/gptq-4bit")
    assert made.identity in {parent.identity for parent in quantized.parents}


def test_quantize_builds_the_default_mix_where_no_calibration_set_is_named(
    tmp_path: Path, own_places: Path, tiny_model: Path, typed: Typed
) -> None:
    write_pubmedqa(tmp_path / "datasets/pubmedqa")

    no_report = ["--set", "quantize.quality=false"]
    done = typed(*QUANTIZE, "--set", "calibrate.samples=20", *SMALL, *no_report)

    assert done.returncode == 0, done.stderr
    assert "quantize reads what calibrate makes, so calibrate comes first" in done.stderr
    assert Manifest.read(own_places / "runs/default/calibrate").results["samples"] == 20
