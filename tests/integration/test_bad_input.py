"""What a user can get wrong, through the real command line: one line, one remedy, one exit code."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typed import QUIET, Ended, Typed, run_alone

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import DataTerm, Manifest, Parent
from medllm.recipe import ROAD


def check_error(ended: Ended, code: int, message: str, fix: str) -> None:
    """One `error:` line with its continuations, one `  fix:` line, and nothing like a traceback."""
    assert "Traceback" not in ended.stderr + ended.stdout
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    fixes = [line for line in lines if line.startswith("  fix: ")]
    assert (len(errors), len(fixes)) == (1, 1), ended.stderr
    assert message in errors[0]
    assert fix in fixes[0]
    start = lines.index(errors[0])
    assert lines[-1] == fixes[0]
    assert all(line.startswith("       ") for line in lines[start + 1 : -1])


# What lies in the working folder of each test


def toy(kind: Any, folder: Path, *parents: Parent, files: dict[str, str]) -> Path:
    """A small artifact, made as a verb makes it but without the work."""

    def write(room: Path) -> Outcome:
        for name, text in files.items():
            (room / name).write_text(text)
        return Outcome(results={"train": 1, "validation": 0, "test": 0})

    term = DataTerm(dataset="toy", licence="MIT", access="open")
    produce(Job(kind, "toy", kind, folder, {}, {}, parents, (term,)), write)
    return folder


ROW = {"id": "d/1", "dataset": "d", "group": "1", "completion": "yes",
       "prompt": [{"role": "user", "content": "Is it?"}]}  # fmt: skip


@pytest.fixture
def place(own_places: Path) -> Path:
    """A working folder with a bit of everything, sound and unsound."""
    rows = {f"{split}.jsonl": json.dumps(ROW) + "\n" for split in ("train", "validation", "test")}
    prepared = toy("dataset", Path("prepared"), files=rows)
    shutil.copytree(prepared, "altered")
    Path("altered/train.jsonl").write_text(rows["train.jsonl"].replace("yes", "no!"))
    toy("model", Path("changed"), files={"config.json": json.dumps({"model_type": "llama"})})
    Path("changed/config.json").write_text(json.dumps({"model_type": "mamba"}))
    Path("half.unfinished").mkdir()
    Path("half.unfinished/request.json").write_text("{}")
    for name in ("base", "other"):
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps({"model_type": "llama", "name": name}))
    toy(
        "adapter",
        Path("adapter"),
        Parent(kind="foreign", path="base", identity="11"),
        files={"adapter_config.json": json.dumps({"base_model_name_or_path": "other"})},
    )
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("mine")
    Path("broken.jsonl").write_text('{"question": "a", "answer": "b"}\n{"question": \n')
    Path("empty.jsonl").write_text("")
    Path("odd.jsonl").write_text('{"a": "b"}\n')
    Path("foreign").mkdir()
    Path("foreign/train.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    Path("empty.yaml").write_text("name: nothing\n")
    Path("wrong.yaml").write_text(
        "name: wrong\nfinetune:\n  training:\n    learning_rte: 1e-4\n    max_steps: many\n"
    )
    return own_places


CASES: dict[str, tuple[Sequence[str], int, str, str]] = {
    # configuration: 2
    "misspelt key": (
        ["finetune", "--config", "wrong.yaml"], 2,
        "wrong.yaml:5: finetune.training.max_steps: input should be a valid integer, got 'many'",
        "correct the line(s) above"),
    "a key of a section without the section": (
        ["finetune", "--set", "learning_rate=1"], 2,
        "--set learning_rate: unknown key; did you mean 'finetune.training.learning_rate'?", ""),
    "a flag that is out of its range": (
        ["serve", "--port", "99999"], 2, "--port: input should be less than or equal to 65535",
        "`--help` of the command says"),
    "a flag that is an entry of a list": (
        ["quantize", "--format", "gptq", "--bits", "5"], 2,
        "--bits: input should be 2, 3, 4 or 8, got 5", "`--help` of the command says"),
    "misspelt --set": (
        ["calibrate", "--set", "calibrate.sampels=5"], 2,
        "--set calibrate.sampels: unknown key; did you mean 'samples'?", ""),
    "wrong type": (
        ["calibrate", "--set", "calibrate.samples=many"], 2,
        "calibrate.samples: input should be a valid integer, got 'many'", ""),
    "out of range": (
        ["calibrate", "--samples", "0"], 2, "--samples: input should be greater than 0",
        ""),
    "wrong type of a flag": (["calibrate", "--samples", "many"], 2,
                             "--samples: 'many' is not a valid int",
                             "see `medllm calibrate --help`"),
    "unknown flag": (["prepare", "--datset", "x"], 2, "no such option: --datset",
                     "see `medllm prepare --help`"),
    "unknown command": (["finetun"], 2, "no such command 'finetun'", "see `medllm --help`"),
    "missing flag": (["run"], 2, "missing option '--config'", "see `medllm run --help`"),
    "task without a name": (["prepare", "--set", "prepare.task=''", "--dry-run"], 2,
                            "prepare.task: string should have at least 1 character", ""),
    "terms without a name": (["calibrate", "--set", "calibrate.boost_terms=''"], 2,
                             "calibrate.boost_terms: string should have at least 1 char", ""),
    "missing recipe": (["run", "--config", "nowhere.yaml"], 2, "no such recipe: nowhere.yaml",
                       "`medllm recipes list`"),
    "misspelt recipe": (["run", "--config", "quikstart"], 2, "no such recipe: quikstart",
                        "did you mean 'quickstart'?"),
    "no verb to begin at": (["run", "--config", "quickstart", "--from", "zzz"], 2,
                            "quickstart has no section 'zzz'", "it has: "),
    "recipe without sections": (["run", "--config", "empty.yaml"], 2, "nothing has no sections",
                                "calibrate, prepare, "),
    "unset variable": (["run", "--config", "pubmedqa"], 2,
                       "the environment variable MEDLLM_MODEL is not set", "export MEDLLM_MODEL=…"),
    "unknown mix": (["calibrate", "--mix", "pubmed"], 2, "unknown mix 'pubmed'",
                    "did you mean 'pubmedqa'?"),
    "unknown task": (["evaluate", "--tasks", "radiologie"], 2, "unknown task 'radiologie'",
                     "did you mean 'radiology'?"),
    "unknown format": (["quantize", "--format", "gtpq"], 2, "unknown format 'gtpq'",
                       "one of: gptq, awq, gguf, bnb, fp8, w8a8"),
    "unknown type": (["quantize", "--format", "gguf", "--type", "Q4_K_X"], 2,
                     "unknown GGUF type 'Q4_K_X'; did you mean 'Q4_K_", "`--help` of the command"),
    "unknown dataset": (["prepare", "--dataset", "pubmed_qa"], 2, "unknown dataset 'pubmed_qa'",
                        "did you mean 'pubmedqa'?"),
    "no dataset": (["prepare"], 2, "no dataset is named", "--dataset NAME_OR_PATH"),
    "no training data": (["finetune"], 2, "no training data are named", "--data DIR"),
    "no adapter": (["merge"], 2, "no adapter is named", "--adapter DIR"),
    "no calibration": (["quantize", "--model", "base"], 3, "pubmedqa: not on this machine",
                       "medllm datasets add pubmedqa"),
    "no prompt": (["generate"], 2, "nothing to answer", "--input FILE, in a recipe"),
    "empty prompt": (["generate", "--prompt", ""], 2, "--prompt: followed by an empty argument",
                     "perhaps a variable of the shell is not set"),
    "unknown recipe to show": (["recipes", "show", "zzz"], 2, "no such recipe: zzz", ""),
    "copy onto a file": (["recipes", "copy", "quickstart", "empty.yaml"], 2, "empty.yaml exists",
                         ""),
    # data: 3
    "a file for a folder of prepared data": (
        ["finetune", "--model", "base", "--data", "broken.jsonl"], 4,
        "broken.jsonl: has no train.jsonl", "`medllm prepare --dataset "),
    "missing data file": (["prepare", "--dataset", "nowhere.jsonl"], 3,
                          "no such data file or folder: nowhere.jsonl", ""),
    "unreachable dataset": (["prepare", "--dataset", "pubmedqa"], 3,
                            "pubmedqa: not on this machine, and the hub is not asked (offline)",
                            "medllm datasets add pubmedqa PATH"),
    "unreachable mix": (["calibrate", "--mix", "pubmedqa", "--tokenizer", "base"], 3,
                        "pubmedqa: not on this machine", ""),
    "broken data file": (["prepare", "--dataset", "broken.jsonl"], 3, "broken.jsonl:2: not JSON",
                         "correct or remove the line"),
    "empty data file": (["prepare", "--dataset", "empty.jsonl"], 3, "nothing is left to train on",
                        ""),
    "unknown columns": (["prepare", "--dataset", "odd.jsonl"], 3,
                        "nothing is left to train on: most rows were left out as 'no known col",
                        "say in a dataset.yaml which is what"),
    "unknown ending": (["prepare", "--dataset", "mine/thesis.tex"], 3,
                       "thesis.tex: not a data file medllm reads", "use one of .csv, .json"),
    "missing prompts": (["generate", "--model", "base", "--input", "nowhere.jsonl"], 3,
                        "no such data file: ", ""),
    "nothing to add": (["datasets", "add", "pubmedqa", "nowhere.json"], 3,
                       "no such data file or folder: nowhere.json", ""),
    # artifacts: 4
    "non-empty output": (["prepare", "--dataset", "synthetic_radiology", "--output", "mine"], 4,
                         "mine is not empty and was not made by medllm", "another --output"),
    "another artifact in the output": (
        ["prepare", "--dataset", "synthetic_radiology", "--output", "prepared"], 4,
        "prepared holds another dataset", "add --overwrite"),
    "missing model": (["finetune", "--data", "prepared", "--model", "./nowhere"], 4,
                      "no such file or folder: ", "check the path"),
    "missing file of a model": (["evaluate", "--model", "nowhere.gguf", "--data", "prepared"], 4,
                                "no such file or folder: ", ""),
    "no model in the folder": (["finetune", "--data", "prepared", "--model", "./mine"], 4,
                               "mine holds no model (no config.json)", ""),
    "altered input": (["finetune", "--data", "altered", "--model", "base"], 4,
                      "altered: train.jsonl was altered", "--overwrite"),
    "unfinished input": (["finetune", "--data", "half", "--model", "base"], 4,
                         "half is unfinished", "run the command that makes it again"),
    "unfinished input by its name": (
        ["finetune", "--data", "half.unfinished", "--model", "base"], 4,
        "half.unfinished is unfinished", ""),
    "wrong kind": (["finetune", "--data", "adapter", "--model", "base"], 4,
                   "adapter is an adapter, not a dataset", "name a dataset"),
    "an adapter as base": (["finetune", "--data", "prepared", "--model", "adapter"], 4,
                           "adapter is an adapter, and a whole", "medllm merge --adapter"),
    "no adapter there": (["merge", "--adapter", "base"], 4, "base is not an adapter", ""),
    "adapter for another base": (["merge", "--adapter", "adapter", "--model", "other"], 4,
                                 "is not the base that ", "use --model base"),
    "serve an altered model": (["serve", "--model", "changed", "--port", "0"], 4,
                               "changed: config.json was altered", "restore the file"),
    "no test split": (["evaluate", "--model", "base", "--data", "foreign"], 4,
                      "foreign: has no test.jsonl", "medllm prepare"),
    "no training split": (["finetune", "--model", "base", "--data", "mine"], 4,
                          "mine: has no train.jsonl", "medllm prepare"),
    "no calibration texts": (["quantize", "--model", "base", "--calibration", "mine"], 4,
                             "mine: has no calibration.jsonl", "medllm calibrate"),
    "verify nothing": (["verify", "nowhere"], 4, "no such folder: nowhere", ""),
    "verify a foreign folder": (["verify", "mine"], 4, "mine: has no medllm.json", ""),
    "verify an altered one": (["verify", "altered"], 4, "altered: train.jsonl was altered", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_with_a_remedy(place: Path, case: str, typed: Typed) -> None:
    arguments, code, message, fix = CASES[case]
    before = sorted(path for path in place.rglob("*") if ".unfinished" not in str(path))

    ended = typed(*arguments)

    check_error(ended, code, message, fix)
    after = sorted(path for path in place.rglob("*") if ".unfinished" not in str(path))
    assert set(after) - set(before) <= {place / "runs", place / "runs/default"}


FOUND_AT_WORK = {"broken data file", "empty data file", "unknown columns"}
"""What is known only once all rows are read."""
DRY = [
    case
    for case, (words, *_) in CASES.items()
    if words[0] in {*ROAD, "run"} and case not in FOUND_AT_WORK and "--dry-run" not in words
]


@pytest.mark.parametrize("case", DRY)
def test_a_dry_run_refuses_what_the_real_run_does(place: Path, case: str, typed: Typed) -> None:
    arguments, code, message, fix = CASES[case]
    before = sorted(place.rglob("*"))

    ended = typed(*arguments, "--dry-run")

    check_error(ended, code, message, fix)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("case", ["misspelt key", "missing data file", "altered input"])
def test_a_process_of_its_own_ends_alike(place: Path, case: str) -> None:
    arguments, code, message, fix = CASES[case]

    check_error(run_alone(*arguments), code, message, fix)


@pytest.mark.parametrize("group", [(), ("datasets",), ("recipes",)])
def test_without_a_command_the_help_is_shown(
    place: Path, group: tuple[str, ...], typed: Typed
) -> None:
    ended = typed(*group)

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Usage: {' '.join(('medllm', *group))} [OPTIONS] COMMAND")
    assert "error:" not in ended.stderr


def test_several_errors_come_at_once(place: Path, typed: Typed) -> None:
    ended = typed("finetune", "--config", "wrong.yaml")

    check_error(ended, 2, "wrong.yaml:5", "correct")
    assert ended.stderr.splitlines()[1] == (
        "       wrong.yaml:4: finetune.training.learning_rte: "
        "unknown key; did you mean 'learning_rate'?"
    )


def test_a_credentialed_dataset_is_refused_until_its_terms_are_accepted(
    place: Path, tmp_path: Path, typed: Typed
) -> None:
    folder = tmp_path / "datasets/icu"
    folder.mkdir(parents=True)
    (folder / "dataset.yaml").write_text(
        "title: ICU\nshape: local\naccess: credentialed\nagreement: icu-dua\n"
    )
    rows = [json.dumps({"id": n, "question": f"q {n}", "answer": "a"}) for n in range(50)]
    (folder / "notes.jsonl").write_text("\n".join(rows))
    command = ("prepare", "--dataset", "icu", "--output", "icu")

    check_error(
        typed(*command), 3, "under the data use agreement 'icu-dua'", "--accept-terms icu-dua"
    )
    assert typed(*command, "--accept-terms", "icu-dua").returncode == 0
    assert Manifest.read(Path("icu")).access == "credentialed"


def test_zero_is_a_value_not_an_absence(place: Path, typed: Typed) -> None:
    Path("seed.yaml").write_text("seed: 5\nprepare: {seed: 7}\ngenerate: {temperature: 0.7}")

    words = ("--config", "seed.yaml", "--dry-run")
    plan = typed("prepare", "--dataset", "synthetic_radiology", "--seed", "0", *words)
    other = typed("generate", "--prompt", "Hello", "--temperature", "0", *words)

    assert "  seed: 0\n" in plan.stdout
    assert "  temperature: 0.0\n" in other.stdout


# A wrong recipe is known at once


def test_a_wrong_recipe_is_reported_before_torch_loads(place: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "medllm"]
    result = subprocess.run(
        [*command, "finetune", "--config", "wrong.yaml"],
        env={**os.environ, **QUIET}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert result.returncode == 2
    imported = {
        line.rpartition("|")[2].strip().split(".")[0]
        for line in result.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert {"medllm", "yaml", "pydantic"} <= imported
    assert imported & {"torch", "transformers", "trl", "peft", "datasets", "pyarrow"} == set()


def test_a_wrong_recipe_is_reported_within_a_second_and_a_half(place: Path) -> None:
    def seconds() -> float:  # of a processor: those of a clock tell what else the machine does
        before = os.times()
        run_alone("finetune", "--config", "wrong.yaml")
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    assert min(seconds() for _ in range(3)) < 1.5
