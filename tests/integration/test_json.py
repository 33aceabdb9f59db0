"""What `--json` prints has the form that `docs/json.md` gives."""

import json
from pathlib import Path

import pytest
from documented import forms, read_error, read_result
from typed import Typed

from medllm.errors import MedllmError

PATIENT = "Zebulon Quackenbush has a fever"
PREPARED = ("prepare", "--dataset", "synthetic_radiology", "--max-examples", "40")

LISTINGS = {
    ("datasets", "list"): "datasets list",
    ("datasets", "show", "pubmedqa"): "datasets list",
    ("evaluate", "--list"): "evaluate --list",
    ("recipes", "list"): "recipes list",
    ("recipes", "show", "lora"): "recipes show",
    ("recipes", "copy", "lora", "mine.yaml"): "recipes copy",
    ("doctor",): "doctor",
    ("--version",): "--version",
    ("prepare", "--dataset", "synthetic_radiology", "--dry-run"): "--dry-run",
    ("run", "--config", "quickstart", "--dry-run"): "--dry-run",
    ("generate", "--prompt", PATIENT, "--dry-run"): "--dry-run",
}


@pytest.mark.parametrize("words", LISTINGS, ids=" ".join)
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_listing_is_one_document(words: tuple[str, ...], where: str, typed: Typed) -> None:
    ended = typed("--json", *words) if where == "before" else typed(*words, "--json")

    assert ended.returncode == 0, ended.stderr
    assert read_result(ended.stdout, LISTINGS[words])
    assert PATIENT not in ended.stdout


def test_a_dataset_of_ones_own_shows_none_of_its_text(typed: Typed) -> None:
    Path("notes.jsonl").write_text(json.dumps({"prompt": PATIENT, "completion": PATIENT}) + "\n")

    added = typed("datasets", "add", "ward", "notes.jsonl", "--json")
    shown = typed("datasets", "show", "ward", "--json")

    assert read_result(added.stdout, "datasets add")["dataset"] == "ward"
    (found,) = read_result(shown.stdout, "datasets list")["datasets"]
    assert (found["name"], found["where"], found["access"]) == ("ward", "here", "private")
    assert "Zebulon" not in added.stdout + shown.stdout


def test_what_a_verb_made_is_its_manifest_without_the_configuration(typed: Typed) -> None:
    made = typed(*PREPARED, "--json")

    (output,) = read_result(made.stdout, "What a verb made")["outputs"]
    written = json.loads(Path(output["path"], "medllm.json").read_text())
    assert (output["verb"], output["kind"]) == ("prepare", "dataset")
    assert all(output[key] == written[key] for key in output.keys() - {"verb", "path"})
    assert {"config", "settings"} & output.keys() == set()

    again = typed(*PREPARED, "--json")
    assert again.stdout == made.stdout

    verified = read_result(typed("verify", output["path"], "--json").stdout, "verify")
    assert verified["identity"] == output["identity"]
    lineage = read_result(typed("lineage", "synthetic_radiology", "--json").stdout, "lineage")
    assert [node["identity"] for node in lineage["made"]] == [output["identity"]]
    assert read_result(typed("lineage", output["path"], "--json").stdout, "lineage")["made_from"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("finetun",), 2),
        (("prepare", "--datset", "x"), 2),
        (("run", "--config", "nowhere.yaml"), 2),
        (("prepare", "--dataset", "nowhere.jsonl"), 3),
        (("datasets", "fetch", "mimic_cxr"), 3),
        (("verify", "nowhere"), 4),
        (("prepare", "--dataset", ""), 2),
        (("serve",), 2),
    ],
)
def test_an_error_is_a_document_too(words: tuple[str, ...], code: int, typed: Typed) -> None:
    ended = typed(*words, "--json")

    error = read_error(ended.stdout)
    assert error["code"] == ended.returncode == code
    assert f"error: {error['message']}" in ended.stderr
    assert f"  fix: {error['fix']}" in ended.stderr
    assert error["kind"] in {kind.__name__ for kind in MedllmError.__subclasses__()}


def test_an_answer_and_nothing_else_is_on_stdout(typed: Typed) -> None:
    plain = typed("generate", "--prompt", "What is sepsis?", "--max-tokens", "4")
    ended = typed("generate", "--prompt", "What is sepsis?", "--max-tokens", "4", "--json")

    assert read_result(ended.stdout, "generate --prompt")["answer"] == plain.stdout.rstrip("\n")


def test_a_file_of_texts_is_analyzed(typed: Typed) -> None:
    Path("texts.jsonl").write_text(json.dumps({"text": f"{PATIENT} and a cough."}) + "\n")

    ended = typed("calibrate", "--analyze", "texts.jsonl", "--json")

    assert read_result(ended.stdout, "calibrate --analyze")
    assert "Zebulon" not in ended.stdout


def test_help_is_help(typed: Typed) -> None:
    assert typed("datasets", "list", "--json", "--help").stdout.startswith("Usage: ")


def test_the_page_names_every_command_that_has_a_result() -> None:
    told = {"datasets list", "datasets add", "recipes list", "recipes show", "recipes copy",
            "verify", "lineage", "doctor", "--version", "--dry-run", "generate --prompt",
            "calibrate --analyze", "What a verb made"}  # fmt: skip
    assert told <= forms().keys()


# --quiet and --verbose


def test_quiet_leaves_the_place_of_the_result(typed: Typed) -> None:
    loud, quiet = typed(*PREPARED), typed(*PREPARED, "--quiet", "--output", "other")

    assert len(loud.stdout.splitlines()) > 1
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert quiet.stdout == f"{Path('other').resolve()}\n"
    assert Path("other/run.log").is_file()


def test_quiet_leaves_errors_listings_and_answers(typed: Typed) -> None:
    assert typed("verify", "nowhere", "--quiet").stderr.startswith("error: no such folder")
    assert "pubmedqa" in typed("--quiet", "datasets", "list").stdout
    answered = typed("generate", "--prompt", "Hello", "--max-tokens", "4", "--quiet")
    assert (answered.returncode, answered.stderr) == (0, "")
    assert answered.stdout.strip()


def test_verbose_says_what_is_read_and_chosen(typed: Typed) -> None:
    Path("mine.yaml").write_text("prepare: {datasets: [synthetic_radiology], max_examples: 40}")

    ended = typed("prepare", "--config", "mine.yaml", "--verbose")

    assert f"recipe: {Path('mine.yaml').resolve()}" in ended.stderr
    assert "max_examples: 40" in ended.stderr
    assert "max_examples: 40" not in typed("prepare", "--config", "mine.yaml").stderr
