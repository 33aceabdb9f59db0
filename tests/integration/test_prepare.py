"""prepare: every row in one split or with a reason, whatever the data and the workers."""

import csv
import json
import subprocess
import sys
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from medllm.artifacts.manifest import Manifest
from medllm.data.example import AS_JSON, TEXTS, read_examples, read_jsonl
from medllm.data.registry.inventory import add_dataset
from medllm.data.split import SplitConfig
from medllm.errors import ArtifactError, ConfigError, DataError
from medllm.models.load import TINY
from medllm.models.tiny.base import tiny_place
from medllm.prepare import pipeline
from medllm.prepare.config import PrepareConfig, TaskShare
from medllm.prepare.verb import prepare

pytestmark = pytest.mark.usefixtures("own_cache")

SPLITS = ("train", "validation", "test")
WORDS = [f"word{n}" for n in range(17)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run(place: Path, rows: list[dict[str, Any]], output: str = "out", **settings: Any) -> Manifest:
    path = write_rows(place / "notes.jsonl", rows)
    config = {"datasets": (path,), "output": place / output, **settings}
    return prepare(PrepareConfig(**config))


def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {split: list(read_jsonl(folder / f"{split}.jsonl")) for split in SPLITS}


def reasons(folder: Path) -> dict[str, str]:
    files = (folder / "rejected").glob("*.jsonl")
    return {row["id"].partition("/")[2]: row["reason"] for f in files for row in read_jsonl(f)}


def questions(count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": n, "question": f"What of {n} and {n * n}?", "answer": f"Take {n} mg.", **more}
        for n in range(count)
    ]


def official(count: int, **splits: int) -> list[dict[str, Any]]:
    """Rows with the split that they are put into, the rest to train on."""
    rows = questions(count)
    marks = [name for name, times in splits.items() for _ in range(times)]
    for row, mark in zip(rows, marks + ["train"] * count, strict=False):
        row["split"] = mark
    return rows


def test_a_prompt_that_comes_again_with_another_answer_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = official(20, test=4)
    rows += [{"id": 20, "question": "What  of 0 and 0?", "answer": "Take none.", "split": "train"}]
    rows += [{**rows[10], "id": 21, "answer": "Take none."}]
    rows += [{**rows[11], "id": 22}]  # the same answer, too: a duplicate

    run(tmp_path, rows)

    statistics = json.loads((tmp_path / "out/statistics.json").read_text(encoding="utf-8"))
    assert statistics["rejected"] == {"duplicate": 1}
    assert statistics["prompts_with_another_answer"] == {
        "in_training": 2, "of_held_out_rows": 1, "show_held_out_images": 0,
    }  # fmt: skip
    said = capfd.readouterr().err
    assert "2 training rows with the prompt of another one, and another answer" in said
    assert "1 training row with the prompt of a held-out row, and another answer" in said


def test_two_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    rows = [{"question": "Q", "answer": "A"}]
    files = tuple(write_rows(tmp_path / folder / "notes.jsonl", rows) for folder in "ab")

    with pytest.raises(ConfigError, match="2 datasets are called 'notes'"):
        prepare(PrepareConfig(datasets=files, output=tmp_path / "out"))


def test_every_row_is_in_one_split_or_has_a_reason(tmp_path: Path) -> None:
    rows = [{"patient_id": str(i % 40), "question": f"Q{i}", "answer": "A"} for i in range(400)]
    rows += [rows[0], {"question": "Q", "answer": ""}]

    manifest = run(tmp_path, rows)

    kept = read(tmp_path / "out")
    groups = [{row["group"] for row in found} for found in kept.values()]
    assert sum(map(len, kept.values())) + sum(manifest.counts.rejected.values()) == len(rows)
    assert len(reasons(tmp_path / "out")) == sum(manifest.counts.rejected.values())
    assert set.union(*groups) == {str(i) for i in range(40)}
    assert sum(map(len, groups)) == 40
    assert manifest.counts.rejected["no answer"] == 1
    assert manifest.access == "private"


# Shards


def test_the_result_is_the_same_with_any_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = questions(230) + questions(20)
    whole = run(tmp_path, rows, "whole")

    monkeypatch.setattr(pipeline, "BLOCK_ROWS", 40)
    made = [run(tmp_path, rows, f"by{n}", workers=n) for n in (1, 3)]

    assert whole.counts.rejected == {"duplicate id": 20}
    assert [other.identity for other in made] == [whole.identity] * 2
    assert read(tmp_path / "by3") == read(tmp_path / "whole")


def test_little_data_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pipeline, "ProcessPoolExecutor")

    assert run(tmp_path, questions(1_999)).counts.examples == 1_999


def test_workers_load_nothing_heavy() -> None:
    code = "import sys, medllm.prepare.shard; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = {name.split(".")[0] for name in found.stdout.split()}
    assert not {"torch", "transformers", "datasets", "matplotlib", "scipy"} & loaded


# Splits


def test_official_splits_win_where_the_source_has_them(tmp_path: Path) -> None:
    run(tmp_path, official(100, test=20, dev=10))

    kept = read(tmp_path / "out")
    assert {split: len(rows) for split, rows in kept.items()} == {
        "train": 70,
        "validation": 10,
        "test": 20,
    }


def test_only_rows_with_an_official_split_stay_when_it_is_asked_for(tmp_path: Path) -> None:
    rows = official(50, test=10)
    del rows[-1]["split"]

    manifest = run(tmp_path, rows, split=SplitConfig(by="official"))

    assert manifest.counts.rejected == {"no official split": 1}


def test_a_group_that_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    rows = official(40, test=10)
    for row in rows:
        row["patient_id"] = str(row["id"] % 20)

    manifest = run(tmp_path, rows)

    kept = read(tmp_path / "out")
    assert len(kept["test"]) == 10
    assert manifest.counts.rejected == {"its group is held out": 10}
    assert not {r["group"] for r in kept["test"]} & {r["group"] for r in kept["train"]}


def visits(year: int, count: int) -> list[dict[str, Any]]:
    return [{"note": f"Round {n * n} of {year}.", "summary": f"Stable {n}."} for n in range(count)]


def test_a_patient_of_two_datasets_is_in_one_split(tmp_path: Path) -> None:
    old = [{**row, "patient_id": 7000 + n} for n, row in enumerate(visits(2023, 120))]
    new = [{**row, "Patient ID": f"{7060 + n}.0 "} for n, row in enumerate(visits(2024, 120))]
    files = (write_rows(tmp_path / "old.jsonl", old), write_rows(tmp_path / "new.jsonl", new))

    manifest = prepare(PrepareConfig(datasets=files, output=tmp_path / "out"))

    kept = read(tmp_path / "out")
    places: dict[str, set[str]] = {}
    for split, rows in kept.items():
        for row in rows:
            places.setdefault(row["group"], set()).add(split)
    assert sum(map(len, kept.values())) == 240
    assert len(places) == 180
    assert all(len(splits) == 1 for splits in places.values())
    assert manifest.results["groups"]["new"] == {"patient": {"rows": 120, "groups": 120}}


def test_a_group_of_the_test_set_is_in_no_other_split(tmp_path: Path) -> None:
    rows = official(40, test=10, validation=10)
    for row in rows:
        row["mrn"] = row["id"] % 10 if row["id"] < 25 else row["id"]

    manifest = run(tmp_path, rows)

    kept = read(tmp_path / "out")
    groups = [{row["group"] for row in kept[split]} for split in SPLITS]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert manifest.counts.rejected == {
        "its group is in the test set": 10, "its group is held out": 5,
    }  # fmt: skip


def test_rows_that_may_belong_together_unseen_are_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, questions(40, KisNr="7"))
    assert "40 rows name no patient, article or note" in (said := capsys.readouterr().err)
    assert "KisNr may be one" in said
    run(tmp_path / "japan", questions(40, 患者番号="7"))
    assert "患者番号 may be one" in capsys.readouterr().err
    files = tuple(
        write_rows(tmp_path / f"{name}.jsonl", [{**row, name: n} for n, row in enumerate(rows)])
        for name, rows in {"subject_id": visits(2023, 30), "hadm_id": visits(2024, 30)}.items()
    )

    prepare(PrepareConfig(datasets=files, output=tmp_path / "both"))

    assert "subject_id by patient; hadm_id by encounter" in capsys.readouterr().err


def test_text_that_was_garbled_before_is_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = questions(40)
    for row, text in zip(
        rows, ["GrÃ¶ÃŸe 5 cm", "38 Â°C", "itâ€™s", "NÃO, SÃO, ÂNGULO"], strict=False
    ):
        row["question"] = f"{row['question']} {text}"

    manifest = run(tmp_path, rows)

    assert "3 rows with letters like Ã¤ or Â°" in capsys.readouterr().err
    assert manifest.counts.rejected == {}


def test_a_null_is_no_patient(tmp_path: Path) -> None:
    rows = questions(60)
    for row in rows:
        row["patient_id"] = [None, "NaN", "None", float("nan")][row["id"] % 4]

    manifest = run(tmp_path, rows)

    assert manifest.results["groups"] == {"notes": {"each row alone": {"rows": 60, "groups": 60}}}


def test_by_time_nothing_to_train_on_is_newer_than_what_is_held_out(tmp_path: Path) -> None:
    rows = questions(200)
    for row in rows:
        row["patient_id"] = str(row["id"] % 50)
        row["charttime"] = str(date(2100, 1, 1) + timedelta(days=row["id"] * 37 % 200))

    run(tmp_path, rows, split=SplitConfig(by="time", validation=0.1, test=0.2))

    kept = read(tmp_path / "out")
    latest: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    for split, found in kept.items():
        for row in found:
            times = latest[split]
            times[row["group"]] = max(times.get(row["group"], ""), row["metadata"]["charttime"])
    assert [len(latest[split]) for split in SPLITS] == [35, 5, 10]
    assert max(latest["train"].values()) <= min(latest["validation"].values())
    assert max(latest["validation"].values()) <= min(latest["test"].values())
    assert not latest["train"].keys() & latest["test"].keys()


def test_a_split_by_time_needs_times(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row has a time"):
        run(tmp_path, questions(20), split=SplitConfig(by="time"))
    assert not (tmp_path / "out.unfinished").exists()


def test_rows_without_a_time_are_trained_on_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = questions(40)
    for row in rows:
        row["charttime"] = f"20{row['id'] % 10 + 10}-01-01" if row["id"] % 4 else "01.02.2024"

    manifest = run(tmp_path, rows, split=SplitConfig(by="time", validation=0.1, test=0.1))

    assert manifest.results["rows_without_time"] == 10
    assert (manifest.results["train"], manifest.results["test"]) == (34, 3)
    assert "10 rows without a time that can be read (ISO 8601)" in capsys.readouterr().err


def test_a_folder_that_medllm_wrote_is_no_raw_data(tmp_path: Path) -> None:
    run(tmp_path, questions(40))

    with pytest.raises(DataError, match="holds a result of medllm, not raw data"):
        prepare(PrepareConfig(datasets=(str(tmp_path / "out"),), output=tmp_path / "again"))


# Duplicates and contamination


def test_what_is_held_out_is_not_trained_on_in_other_words_either(tmp_path: Path) -> None:
    def note(n: int) -> str:
        return " ".join(WORDS[n * k % 17] + str(n * k) for k in range(1, 60))

    rows = official(40, test=10)
    for row in rows:
        row["question"] = note(row["id"] + 1)
    rows[20]["question"] = f"SEEN BEFORE: {rows[3]['question']}, and {note(99)}"
    rows[21] |= {"question": rows[4]["question"].upper(), "answer": rows[4]["answer"]}
    rows[22] |= {"question": rows[23]["question"], "answer": rows[23]["answer"]}
    rows[1]["question"] = rows[0]["question"]

    manifest = run(tmp_path, rows)

    folder = tmp_path / "out"
    assert reasons(folder) == {
        "20": "overlaps held-out data",
        "21": "held out elsewhere",
        "23": "duplicate",
    }
    assert manifest.counts.rejected == Counter(reasons(folder).values())
    assert [(row["id"], row["held_out"]) for row in read_jsonl(folder / "contamination.jsonl")] == [
        ("notes/20", "notes/3")
    ]
    assert len(read(folder)["test"]) == 10
    statistics = json.loads((folder / "statistics.json").read_text())
    assert statistics["contamination"]["rows_removed"] == 1


def test_an_id_that_comes_twice_is_taken_once(tmp_path: Path) -> None:
    rows = questions(30)
    rows.append({**rows[5], "answer": "Something else entirely."})

    assert run(tmp_path, rows).counts.rejected == {"duplicate id": 1}


# Tasks, shares and caps


def test_a_task_puts_its_words_around_a_row(tmp_path: Path) -> None:
    run(tmp_path, [{"note": f"Note {n}.", "summary": f"Sum {n}."} for n in range(30)],
        task="summarize")  # fmt: skip

    first = read(tmp_path / "out")["train"][0]["prompt"]
    assert [turn["role"] for turn in first] == ["system", "user"]
    assert first[1]["content"].startswith("Summarize the clinical note")
    assert "Note " in first[1]["content"]


def test_a_row_that_is_not_the_task_is_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"A note {n}."} for n in range(5)]

    manifest = run(tmp_path, questions(30) + [{"id": f"t{n}", **r} for n, r in enumerate(rows)],
                   task="qa")  # fmt: skip

    assert manifest.counts.rejected == {"no prompt for the task qa": 5}


def test_text_is_a_task_too(tmp_path: Path) -> None:
    run(tmp_path, questions(30), task="text")

    row = read(tmp_path / "out")["train"][0]
    assert row["prompt"] == []
    assert row["completion"].startswith("What of")


def test_a_share_of_a_task_without_rows_is_refused(tmp_path: Path) -> None:
    tasks = {"qa": TaskShare(share=75), "mcq": TaskShare(share=25)}

    with pytest.raises(DataError, match="no row to train on is of the task mcq"):
        run(tmp_path, questions(20), tasks=tasks)


def test_shares_of_tasks_are_kept_with_as_many_rows_as_they_allow(tmp_path: Path) -> None:
    notes = [{"id": f"t{n}", "text": f"A note number {n}.", "split": "train"} for n in range(30)]
    tasks = {"qa": TaskShare(share=75), "text": TaskShare(share=25)}

    manifest = run(tmp_path, official(70, test=10) + notes, tasks=tasks)

    shares = json.loads((tmp_path / "out" / "statistics.json").read_text())["tasks"]
    assert {name: counts["train"] for name, counts in shares.items()} == {"qa": 60, "text": 20}
    assert manifest.counts.rejected == {"over the task's share": 10}
    capped = {"qa": TaskShare(max_examples=7)}
    manifest = run(tmp_path, official(70, test=10) + notes, "capped", tasks=capped)
    assert manifest.results["train"] == 7
    assert manifest.counts.rejected == {"over max_examples": 53, "of another task (text)": 30}


def test_an_own_task_from_a_folder_changes_the_result(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    identities = set()
    for instruction in ("Be brief.", "Be long."):
        (folder / "mine.yaml").write_text(f"instruction: {instruction}\nneeds: [prompt]\n")
        manifest = run(tmp_path, questions(30), task="mine", task_dir=folder, overwrite=True)
        identities.add(manifest.identity)
        prompt = read(tmp_path / "out")["train"][0]["prompt"]
        assert prompt[0]["content"].startswith(instruction)

    assert len(identities) == 2
    with pytest.raises(ConfigError, match="unknown task 'sumarize'") as caught:
        run(tmp_path, questions(3), "other", task="sumarize")
    assert "did you mean 'summarize'" in caught.value.fix


def test_a_cap_draws_the_same_rows_in_any_order(tmp_path: Path) -> None:
    first = run(tmp_path, questions(300), "one", max_examples=20)
    run(tmp_path, questions(300)[::-1], "two", max_examples=20)

    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    assert {split: first.results[split] for split in SPLITS} == dict.fromkeys(SPLITS, 20)
    for split in SPLITS:
        assert {row["id"] for row in one[split]} == {row["id"] for row in two[split]}


# Files


def test_csv_holds_what_jsonl_holds(tmp_path: Path) -> None:
    rows = questions(40)
    rows[0]["answer"] = 'Line "one",\nline two.'
    run(tmp_path, rows, "lines", system="Be kind.")
    manifest = run(tmp_path, rows, "table", system="Be kind.", format="csv", keep_steps=True)

    lines = [row for rows in read(tmp_path / "lines").values() for row in rows]
    table = []
    for split in SPLITS:
        with (tmp_path / "table" / f"{split}.csv").open(encoding="utf-8", newline="") as file:
            table += list(csv.DictReader(file))
    assert manifest.format == "csv"
    assert [(r["id"], r["completion"]) for r in table] == [
        (r["id"], r["completion"]) for r in lines
    ]
    assert {row["system"] for row in table} == {"Be kind."}
    with (tmp_path / "table" / "steps.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 40 * 6


def test_messages_hold_what_the_default_form_holds(tmp_path: Path) -> None:
    rows = [{**row, "options": ["yes", "no"], "ward": {"beds": [n, None]}, "split": "train"}
            for n, row in enumerate(questions(20))]  # fmt: skip
    rows += questions(40, system="Be kind.")
    asked = [{"role": "user", "content": "Is it high, or is it not?"}]
    rows += [{"id": f"exam/{n}", "dataset": "exam", "group": f"{n}", "prompt": asked,
              "completion": f"A. High, by {n}.", "choices": ["High", "Not"], "target": "A"}
             for n in range(20)]  # fmt: skip
    run(tmp_path, rows, "lines")
    manifest = run(tmp_path, rows, "chats", format="messages", keep_steps=True)

    for split in SPLITS:
        lines, chats = (tmp_path / name / f"{split}.jsonl" for name in ("lines", "chats"))
        assert list(read_examples(chats)) == list(read_examples(lines))
        assert chats.stat().st_mode & 0o777 == 0o600
    written = [row for rows in read(tmp_path / "chats").values() for row in rows]
    assert manifest.format == "messages"
    assert len(written) == 60
    assert {tuple(row) for row in written} == {(*TEXTS, *AS_JSON, "messages")}
    assert {type(row[name]) for row in written for name in (*TEXTS, *AS_JSON)} == {str}
    talks = [[turn["role"] for turn in row["messages"]] for row in written]
    assert sorted({*map(tuple, talks)}) == [("system", "user", "assistant"), ("user", "assistant")]


def test_plain_texts_in_the_form_for_other_trainers_have_a_text(tmp_path: Path) -> None:
    rows = [{"note": n, "text": f"The potassium of bed {n} is {n * n}."} for n in range(20)]
    run(tmp_path, rows, "lines")
    run(tmp_path, rows, "texts", format="messages")

    written = read(tmp_path / "texts")["train"]
    assert [row["text"] for row in written] == [
        row["completion"] for row in read(tmp_path / "lines")["train"]
    ]
    assert not any("messages" in row for row in written)
    train = tmp_path / "texts" / "train.jsonl"
    assert list(read_examples(train)) == list(read_examples(tmp_path / "lines" / "train.jsonl"))


def test_other_trainers_get_rows_of_one_kind(tmp_path: Path) -> None:
    rows = questions(20) + [{"text": f"The potassium of bed {n} is high."} for n in range(20)]

    with pytest.raises(DataError, match="here are 20 conversations, 20 plain texts"):
        run(tmp_path, rows, format="messages")
    assert not (tmp_path / "out").exists()
    mixed = {"qa": TaskShare(), "text": TaskShare()}
    with pytest.raises(ConfigError, match="the tasks make conversations and texts"):
        run(tmp_path, rows, format="messages", tasks=mixed)
    run(tmp_path, rows, format="messages", tasks={"text": TaskShare()})
    assert all("text" in row for row in read(tmp_path / "out")["train"])


@pytest.mark.parametrize(
    "broken", [{"choices": "["}, {"messages": []}, {"messages": ["a"]}, {"messages": None}]
)
def test_a_broken_row_of_the_form_for_other_trainers_is_told(
    tmp_path: Path, broken: dict[str, Any]
) -> None:
    run(tmp_path, questions(20), format="messages")
    row = read(tmp_path / "out")["train"][0] | broken
    path = write_rows(tmp_path / "broken.jsonl", [row])

    with pytest.raises(DataError, match="row 1 is not in medllm's form"):
        list(read_examples(Path(path)))


def test_each_step_is_kept_on_request(tmp_path: Path) -> None:
    rows = questions(30)
    rows[0]["question"] = "summarize:\nA  \u00a0 note\x00 of 5 mg"

    run(tmp_path, rows, keep_steps=True)

    steps = {
        row["step"]: row["input"]
        for row in read_jsonl(tmp_path / "out" / "steps.jsonl")
        if row["id"] == "notes/0"
    }
    assert list(steps) == ["raw", "unicode", "control", "whitespace", "boilerplate", "placeholders"]
    assert steps["whitespace"] == "summarize:\nA  note of 5 mg"
    assert steps["placeholders"] == "A  note of 5 mg"


@pytest.mark.parametrize("access", ["open", "private"])
def test_the_report_shows_rows_of_open_data_only(tmp_path: Path, access: str) -> None:
    (tmp_path / "dataset.yaml").write_text(f"title: N\nshape: local\naccess: {access}\n")
    run(tmp_path, [{**row, "comment": ""} for row in questions(30)])

    folder = tmp_path / "out"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ("What of" in page) == (access == "open")
    assert not any(mark in page for mark in ("<script", "src=", 'href="http'))
    statistics = json.loads((folder / "statistics.json").read_text())
    assert statistics["missing_values"] == {"notes": {"comment": 30}}
    assert statistics["rows_read"] == 30
    assert "What of" not in json.dumps(statistics) + (folder / "run.log").read_text()
    assert all(path.stat().st_mode & 0o77 == 0 for path in folder.glob("*.jsonl"))


@pytest.mark.parametrize("access", ["open", "private"])
def test_a_wrong_model_for_the_report_is_known_before_the_work(tmp_path: Path, access: str) -> None:
    (tmp_path / "dataset.yaml").write_text(f"title: N\nshape: local\naccess: {access}\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/readme.txt").write_text("no model")
    model = str(tmp_path / "model")

    if access == "private":  # no row is shown, so that no template is needed
        assert run(tmp_path, questions(30), tokenizer=model).counts.examples == 30
        return
    with pytest.raises(ArtifactError, match="holds no model"):
        run(tmp_path, questions(30), tokenizer=model)
    assert not (tmp_path / "out.unfinished/shards").exists()


def test_the_tiny_model_is_not_trained_for_a_report(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("title: N\nshape: local\naccess: open\n")

    run(tmp_path, questions(30), tokenizer=TINY)

    assert "What of" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert not tiny_place().exists()


def test_the_balance_of_labels_is_counted(tmp_path: Path) -> None:
    rows = [
        {"QUESTION": f"Is it {n}?", "CONTEXTS": [f"Context {n}."], "LONG_ANSWER": f"Because {n}.",
         "final_decision": "yes" if n % 3 else "no"}
        for n in range(60)
    ]  # fmt: skip
    (tmp_path / "dataset.yaml").write_text("title: N\nshape: pubmedqa\n")

    run(tmp_path, rows)

    targets = json.loads((tmp_path / "out" / "statistics.json").read_text())["targets"]
    totals = sum((Counter(counts) for counts in targets.values()), Counter())
    assert totals == {"yes": 40, "no": 20}


def test_labels_of_private_data_are_counted_but_not_named(tmp_path: Path) -> None:
    columns = (
        "{id: id, prompt: question, completion: answer, target: finding, choices: ['$^{$', _b]}"
    )
    rows = [{**row, "finding": "$^{$" if row["id"] % 3 else "_b"} for row in questions(60)]
    for access in ("private", "open"):
        (tmp_path / "dataset.yaml").write_text(
            f"title: N\nshape: columns\naccess: {access}\ncolumns: {columns}\n"
        )
        run(tmp_path, rows, access)

    pages = {a: (tmp_path / a / "report.html").read_text() for a in ("private", "open")}
    statistics = {a: (tmp_path / a / "statistics.json").read_text() for a in pages}
    assert "$^{$" in pages["open"] and "$^{$" in statistics["open"]
    assert "$^{$" not in pages["private"] + statistics["private"]
    hidden = json.loads(statistics["private"])["targets"]
    assert sum((Counter(counts) for counts in hidden.values()), Counter()) == {
        "label 1": 40,
        "label 2": 20,
    }


def test_labels_beyond_those_that_are_named_are_counted_together(tmp_path: Path) -> None:
    labels = [f"l{n}" for n in range(60)]
    columns = f"{{prompt: question, completion: answer, target: finding, choices: {labels}}}"
    (tmp_path / "dataset.yaml").write_text(f"title: N\nshape: columns\ncolumns: {columns}\n")

    run(tmp_path, [{**row, "finding": labels[n % 60]} for n, row in enumerate(questions(600))])

    found = json.loads((tmp_path / "out" / "statistics.json").read_text())
    counted = {split: sum(counts.values()) for split, counts in found["targets"].items()}
    assert counted == found["examples"]
    assert found["targets"]["train"]["(others)"] > 0


# What no model will see


def test_columns_that_no_model_will_see_are_named_with_their_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "ward": "ICU", "notes": "" if row["id"] else "seen"} for row in questions(30)]
    rows[3] |= {"metadata": {"age": 70}, "Anna B. has HIV": 1, "Anna C.": None}
    rows[4] |= {"metadata": {"age": 71}, "x" * 60: 1}

    manifest = run(tmp_path, rows)

    named = {"ward": 30, "age": 2, "(others)": 3}
    assert manifest.results["unused_columns"] == {"notes": named}
    statistics = json.loads((tmp_path / "out/statistics.json").read_text())
    assert statistics["unused_columns"] == {"notes": named}
    said = capsys.readouterr().err
    assert "columns that no model will see: ward (30 rows), age (2 rows), (others) (3 rows)" in said
    page = (tmp_path / "out/report.html").read_text()
    assert "column of notes that no model will see" in page
    assert "Anna" not in page + said


@pytest.mark.parametrize(
    ("spec", "row", "unused"),
    [
        ("shape: columns\ncolumns: {prompt: '{question}', completion: '{answer}', id: id}",
         {"context": "C", "empty": None}, {"context": 30}),
        ("shape: multiple_choice\ncolumns: {id: id}",
         {"options": {"A": "one", "B": "two"}, "answer": "B", "context": "C"}, {"context": 30}),
        ("shape: pubmedqa", {"context": "C", "long_answer": "A", "answer": None, "MESHES": ["M"]},
         {"MESHES": 30}),
    ],
)  # fmt: skip
def test_columns_that_a_shape_does_not_read_are_named(
    tmp_path: Path, spec: str, row: dict[str, Any], unused: dict[str, int]
) -> None:
    (tmp_path / "dataset.yaml").write_text(f"title: N\n{spec}\n")

    manifest = run(tmp_path, [{**one, **row} for one in questions(30)])

    assert manifest.results["unused_columns"] == {"notes": unused}


def test_a_conversation_is_cut_after_its_last_answer_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"Bed {n}: may I give it?"},
                      {"role": "assistant", "content": f"Hold it in bed {n}."},
                      {"role": "user", "content": "Thanks."}]}
        for n in range(20)
    ]  # fmt: skip

    manifest = run(tmp_path, rows)

    assert manifest.counts.examples == 20
    assert manifest.results["conversations_cut"] == 20
    assert "20 conversations were cut after their last answer" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["jsonl", "messages", "csv"])
def test_prepare_reads_what_prepare_wrote(tmp_path: Path, format: str) -> None:
    rows = questions(40)
    rows += [
        {"id": f"c{n}", "messages": [{"role": "system", "content": "Be brief."},
                                     {"role": "user", "content": f"=Bed {n}: may I give it?"},
                                     {"role": "assistant", "content": f"-{n} mg, not more."},
                                     {"role": "user", "content": "Why?"},
                                     {"role": "assistant", "content": f"+ Potassium of bed {n}."}]}
        for n in range(20)
    ]  # fmt: skip
    run(tmp_path, rows, "first")
    run(tmp_path, rows, "cells", format=format)
    trained = read(tmp_path / "first")["train"]

    ref = str(tmp_path / f"cells/train.{'csv' if format == 'csv' else 'jsonl'}")
    prepare(PrepareConfig(datasets=(ref,), output=tmp_path / "again"))

    assert read(tmp_path / "again") == {"train": trained, "validation": [], "test": []}


# Bad input


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "nothing is left to train on"),
        ([{"a": 1}] * 5, "most rows were left out as 'no known columns'"),
        ([{"text": "  "}] * 5, "nothing is left to train on: most rows"),
        ([{"text": "one"}] * 5, "most rows were left out as 'near-empty'"),
        ([{**row, "split": "test"} for row in questions(9)], "train on: 9 rows are held out, for"),
    ],
)
def test_nothing_to_train_on_is_an_error(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run(tmp_path, rows)
    assert {path.name for path in tmp_path.iterdir()} <= {"notes.jsonl", "work", "cache"}


def test_a_damaged_file_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "BLOCK_ROWS", 10)
    path = Path(write_rows(tmp_path / "notes.jsonl", questions(50)))
    path.write_text(path.read_text() + "{not json\n")

    with pytest.raises(DataError, match=r"notes\.jsonl:51: not JSON"):
        prepare(PrepareConfig(datasets=(str(path),), output=tmp_path / "out", workers=1))
    assert not (tmp_path / "out.unfinished").exists()


def test_odd_rows_are_counted_and_odd_values_are_kept(tmp_path: Path) -> None:
    rows = questions(40, meta_info="stfep2&3")
    rows[3]["question"] = "A\x00note of \ud800 5 mg"
    rows[4] |= {"question": "x" * 3_000_000}
    rows += [{"id": "a", "answer": "no question"}, {"id": "b", "text": "\x00"}, {}]

    manifest = run(tmp_path, rows)

    assert manifest.counts.examples == 40
    assert sum(manifest.counts.rejected.values()) == 3
    kept = [row for found in read(tmp_path / "out").values() for row in found]
    assert {row["metadata"]["meta_info"] for row in kept} == {"stfep2&3"}


@pytest.mark.parametrize("described", [True, False])
def test_images_are_found_beside_the_data_and_a_missing_one_is_a_reason(
    tmp_path: Path, described: bool
) -> None:
    column = "Scan" if described else "image_path"
    rows = [{**row, column: f"images/{row['id']}.png"} for row in questions(20)]
    rows[0][column] = [f"images/{n}.png" for n in (1, 2)]
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    for number in range(1, 19):  # 19.png is not there
        (data / "images" / f"{number}.png").write_bytes(b"")
    path = write_rows(data / "rows.jsonl", rows)
    if described:
        columns = "{id: id, prompt: question, completion: answer, images: [scan]}"
        (data / "dataset.yaml").write_text(f"title: d\nshape: columns\ncolumns: {columns}\n")

    prepare(PrepareConfig(datasets=(path,), output=tmp_path / "out", task="error_detection"))

    assert reasons(tmp_path / "out") == {"19": "missing image"}
    kept = {row["id"]: row for found in read(tmp_path / "out").values() for row in found}
    assert len(kept) == 19
    assert kept["rows/0"]["images"] == [f"images/rows/images/{n}.png" for n in (1, 2)]
    assert (tmp_path / "out" / kept["rows/7"]["images"][0]).samefile(data / "images/7.png")
    assert "has an error" in kept["rows/7"]["prompt"][-1]["content"]


def test_the_same_words_about_other_images_are_other_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = " ".join(["Is there a pneumonia on this chest radiograph?", *WORDS])
    rows = [
        {"id": n, "patient_id": n, "question": asked, "answer": "No.", "image": f"{n}.png"}
        for n in range(40)
    ]
    rows += [{**rows[0], "id": 40}, {**rows[1], "id": 41, "answer": "Yes."}]
    for n in range(40):
        (tmp_path / f"{n}.png").write_bytes(bytes([0 if n == 37 else n]))  # one scan, two patients

    run(tmp_path, rows, split=SplitConfig(test=0.3))

    found = read(tmp_path / "out")
    assert reasons(tmp_path / "out") == {"40": "duplicate"}
    place = {row["id"]: split for split, rows in found.items() for row in rows}
    assert place["notes/1"] == place["notes/41"] == "train"
    told = json.loads((tmp_path / "out/statistics.json").read_text())["prompts_with_another_answer"]
    assert told == {"in_training": 2, "of_held_out_rows": 0, "show_held_out_images": 1}
    assert "1 training row with the image of a held-out row" in capsys.readouterr().err


def test_questions_about_one_image_are_in_one_split(tmp_path: Path) -> None:
    rows = [{**row, "image": f"{row['id'] % 10}.png"} for row in questions(60)]
    for n in range(10):
        (tmp_path / f"{n}.png").write_bytes(bytes([n]))

    run(tmp_path, rows)

    found = read(tmp_path / "out")
    shown = [{image for row in rows for image in row["images"]} for rows in found.values()]
    assert sum(map(len, shown)) == 10
    assert sum(map(len, found.values())) == 60


def test_an_image_lies_beside_the_file_of_its_row(tmp_path: Path) -> None:
    for ward in ("a", "b"):
        rows = [{**row, "image": f"{row['id']}.png"} for row in questions(10)]
        folder = tmp_path / "data" / ward
        folder.mkdir(parents=True)
        write_rows(folder / "rows.jsonl", rows)
        for n in range(10 if ward == "a" else 9):
            (folder / f"{n}.png").write_text(f"{ward}{n}")

    prepare(PrepareConfig(datasets=(str(tmp_path / "data"),), output=tmp_path / "out"))

    kept = [row for rows in read(tmp_path / "out").values() for row in rows]
    for row in kept:
        place = row["id"].split("/")
        content = (tmp_path / "out" / row["images"][0]).read_text()
        assert content == f"{place[-3]}{place[-1]}"
    assert "b/rows.jsonl/9" in reasons(tmp_path / "out")


def test_images_lie_beside_the_files_that_were_added(tmp_path: Path) -> None:
    rows = [{**row, "image": f"{row['id']}.png"} for row in questions(10)]
    path = write_rows(tmp_path / "ward/rows.jsonl", rows)
    for n in range(10):
        (tmp_path / f"ward/{n}.png").write_text(str(n))
    add_dataset("chest", Path(path), None, None)

    prepare(PrepareConfig(datasets=("chest",), output=tmp_path / "out"))

    kept = [row for rows in read(tmp_path / "out").values() for row in rows]
    assert len(kept) == 10
    for row in kept:
        assert row["id"].endswith(f"/{(tmp_path / 'out' / row['images'][0]).read_text()}")


def test_each_column_of_images_is_tried(tmp_path: Path) -> None:
    rows = [{**row, "image_path": "/gone/a.png", "image_file": "b.png"} for row in questions(20)]
    (tmp_path / "b.png").write_bytes(b"")

    run(tmp_path, rows)

    images = {tuple(row["images"]) for found in read(tmp_path / "out").values() for row in found}
    assert images == {("images/notes/b.png",)}


def test_where_images_lie_is_no_part_of_the_identity(tmp_path: Path) -> None:
    made = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "scan.png").write_bytes(b"")
        rows = [{**row, "image": "scan.png"} for row in questions(20)]
        made.append(run(tmp_path / place, rows))

    assert made[0].identity == made[1].identity


def test_unknown_and_contradicting_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="name one `task`, or several"):
        PrepareConfig(task="qa", tasks={"mcq": TaskShare()})
    with pytest.raises(ValueError, match="give all tasks a share, or none"):
        PrepareConfig(tasks={"mcq": TaskShare(share=1), "qa": TaskShare()})


def test_generated_rows_are_not_asked_for_a_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(
        PrepareConfig(datasets=("synthetic_radiology",), max_examples=20, output=tmp_path / "o")
    )

    assert "is a group of its own" not in capsys.readouterr().err
