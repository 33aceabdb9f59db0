"""Prompts with and without worked examples, against what lm-evaluation-harness 0.4.13 builds.

The expected texts were copied from its `fewshot_context` on these rows.
"""

import csv
import json
from pathlib import Path

import pytest

from medllm.data.example import Example, Message, write_jsonl
from medllm.engines.fake import FakeEngine
from medllm.errors import ConfigError, DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.groups import sum_up_groups, tasks_of
from medllm.evaluate.items import Task

HEADER = ("question", "choice0", "choice1", "choice2", "choice3", "answer")
DEV = [
    ("What is the embryological origin of the hyoid bone?", "The first pharyngeal arch",
     "The first and second pharyngeal arches", "The second pharyngeal arch",
     "The second and third pharyngeal arches", "3"),
    ("Which of these branches of the trigeminal nerve contain somatic motor processes?",
     "The supraorbital nerve", "The infraorbital nerve", "The mental nerve", "None of the above",
     "3"),
    ("Where does the pleura end?", "Rib 8", "Rib 10", "Rib 12", "Rib 6", "2"),
]  # fmt: skip
TEST = (
    " A lesion causing compression of the facial nerve at the stylomastoid foramen will cause "
    "ipsilateral",
    "paralysis of the facial muscles.", "paralysis of the facial muscles and loss of taste.",
    "paralysis of the facial muscles, loss of taste and lacrimation.",
    "paralysis of the facial muscles, loss of taste, lacrimation and decreased salivation.", "0",
)  # fmt: skip
GENETICS = ("In a Robertsonian translocation fusion occurs at the:", "telomeres.", "centromeres.",
            "histones.", "ends of the long arms.", "1")  # fmt: skip

PREAMBLE = "The following are multiple choice questions (with answers) about anatomy.\n\n"
SHOWN = [
    "What is the embryological origin of the hyoid bone?\nA. The first pharyngeal arch\n"
    "B. The first and second pharyngeal arches\nC. The second pharyngeal arch\n"
    "D. The second and third pharyngeal arches\nAnswer:",
    "Which of these branches of the trigeminal nerve contain somatic motor processes?\n"
    "A. The supraorbital nerve\nB. The infraorbital nerve\nC. The mental nerve\n"
    "D. None of the above\nAnswer:",
]
ASKED = (
    "A lesion causing compression of the facial nerve at the stylomastoid foramen will cause "
    "ipsilateral\nA. paralysis of the facial muscles.\n"
    "B. paralysis of the facial muscles and loss of taste.\n"
    "C. paralysis of the facial muscles, loss of taste and lacrimation.\n"
    "D. paralysis of the facial muscles, loss of taste, lacrimation and decreased salivation.\n"
    "Answer:"
)


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    """A data folder with some of MMLU's anatomy and genetics, and two sets of other questions."""
    folder = tmp_path / "data" / "mmlu_medical"
    folder.mkdir(parents=True)
    files = {"anatomy_dev": DEV, "anatomy_test": [TEST], "medical_genetics_test": [GENETICS]}
    for name, rows in files.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])
    return tmp_path / "data"


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def task(data: Path, name: str = "mmlu_medical", shots: int = 0) -> Task:
    return Task(name, EvaluateConfig(data_dir=data, num_fewshot=shots))


def asked(task: Task, *, in_chat: bool = False, takes_system: bool = True) -> Example:
    return task.shots.put(task.items().examples[0], in_chat=in_chat, takes_system=takes_system)


def test_without_examples_the_prompt_is_the_harnesss(mmlu: Path) -> None:
    assert asked(task(mmlu)).prompt == (Message("user", PREAMBLE + ASKED),)


def test_examples_stand_after_the_preamble_in_the_order_of_the_file(mmlu: Path) -> None:
    (mmlu / "mmlu_medical/medical_genetics_test.csv").unlink()

    two = task(mmlu, shots=2)

    whole = f"{PREAMBLE}{SHOWN[0]} D\n\n{SHOWN[1]} D\n\n{ASKED}"
    assert asked(two).prompt == (Message("user", whole),)
    assert two.shots.ids == ["mmlu_medical/anatomy_dev-1", "mmlu_medical/anatomy_dev-2"]


def test_through_a_chat_template_examples_are_turns_and_the_preamble_a_system_message(
    mmlu: Path,
) -> None:
    (mmlu / "mmlu_medical/medical_genetics_test.csv").unlink()

    turns = asked(task(mmlu, shots=1), in_chat=True).prompt

    assert turns == (
        Message("system", PREAMBLE),
        Message("user", SHOWN[0]),
        Message("assistant", "D"),
        Message("user", ASKED),
    )
    bare = asked(task(mmlu, shots=1), in_chat=True, takes_system=False).prompt
    assert bare == turns[1:]


def test_what_a_template_refuses_is_seen_before(mmlu: Path) -> None:
    class Refusing(FakeEngine):
        def render(self, messages, **settings):  # type: ignore[no-untyped-def]
            if messages[0].role == "system":
                raise DataError("no system message", "leave it out")
            return super().render(messages, **settings)

    some = task(mmlu)
    items = some.items().examples

    assert some.shots.is_system_refused(Refusing(), items)
    assert not some.shots.is_system_refused(FakeEngine(), items)
    assert not some.shots.is_system_refused(Refusing(has_chat_template=False), items)


def test_too_few_examples_of_a_subject_are_said_before_a_model_loads(mmlu: Path) -> None:
    with pytest.raises(ConfigError, match="mmlu_medical has 0 rows of medical_genetics to show"):
        task(mmlu, shots=1).items()
    with pytest.raises(ConfigError, match="has 3 rows of anatomy .* num_fewshot asks for 4"):
        task(mmlu, shots=4).items()


def test_medmcqa_shows_rows_to_train_on_in_its_own_words(tmp_path: Path) -> None:
    row = {"question": "Which of the following is developed from the 1st arch:",
           "opa": "Stylohyoid ligament.", "opb": "Spenomandibular ligament.", "opc": "Stapes.",
           "opd": "Styloid process."}  # fmt: skip
    write(tmp_path, "medmcqa/dev.json", [{**row, "id": f"t{n}", "cop": n + 1} for n in range(4)])
    shown = [{**row, "id": f"s{n}", "question": f"Q{n}", "cop": n + 1} for n in range(4)]
    write(tmp_path, "medmcqa/train.json", shown)

    listed = ("\nChoices:\nA. Stylohyoid ligament.\nB. Spenomandibular ligament.\nC. Stapes.\n"
              "D. Styloid process.\nAnswer:")  # fmt: skip
    one = asked(task(tmp_path, "medmcqa", 1))

    assert one.prompt[0].content == (
        f"Question: Q0{listed} A\n\n"
        f"Question: Which of the following is developed from the 1st arch:{listed}"
    )


def test_a_split_without_labels_has_no_items_and_says_why(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"q{n}", "question": "Why?", "opa": "a", "opb": "b", "opc": "c", "opd": "d",
         "cop": -1} for n in range(3)
    ]  # fmt: skip
    write(tmp_path, "medmcqa/dev.json", rows)

    with pytest.raises(DataError, match=r"medmcqa has no items \(3 rows: no label\)"):
        task(tmp_path, "medmcqa").items()


def test_rows_with_other_choices_are_counted_and_alone_an_error(tmp_path: Path) -> None:
    options = {letter: f"option {letter}" for letter in "ABCDE"}
    five: dict[str, object] = {"question": "Why?", "options": options, "answer_idx": "E"}
    four = {**five, "options": {key: options[key] for key in "ABCD"}, "answer_idx": "A"}
    write(tmp_path, "medqa/phrases_no_exclude_test.jsonl", [five, four, five])

    found = task(tmp_path, "medqa").items()
    assert len(found.examples) == 1
    assert found.rejected == {"other choices than A, B, C, D": 2}

    write(tmp_path, "medqa/phrases_no_exclude_test.jsonl", [five])
    with pytest.raises(DataError, match="1 rows: other choices than A, B, C, D"):
        task(tmp_path, "medqa").items()


# Groups


def test_a_group_is_its_tasks_each_once() -> None:
    config = EvaluateConfig(tasks=("radiology", "multimedqa", "medqa"))

    assert tasks_of(config) == ["radiology", "pubmedqa", "medmcqa", "medqa", "mmlu_medical"]


def test_the_score_of_a_group_is_the_mean_weighted_by_items(tmp_path: Path) -> None:
    """Its interval is over patients, whom several tasks may ask of: here 25 with 20 items each."""
    scores = [
        {"task": name, "kind": "choices", "model": "m", "items": items, "accuracy": accuracy,
         "majority": 0.25, "cut": 1}
        for name, items, accuracy in [("pubmedqa", 100, 0.5), ("medmcqa", 300, 0.1),
                                      ("medqa", 50, 0.2), ("mmlu_medical", 50, 0.4),
                                      ("radiology", 900, 1.0)]
    ]  # fmt: skip

    for score in scores:
        right = round(score["items"] * score["accuracy"])
        rows = ({"id": str(n), "group": str(n * 25 // score["items"]), "target": True,
                 "answer": n < right} for n in range(score["items"]))  # fmt: skip
        write_jsonl(tmp_path / f"{score['task']}.jsonl", rows)

    (group,) = sum_up_groups(EvaluateConfig(tasks=("multimedqa", "radiology")), scores, tmp_path)

    assert group["items"] == 500
    assert group["accuracy"] == pytest.approx((50 + 30 + 10 + 20) / 500)
    # 500 items, and 25 that count one each: R's binom.test
    assert 0.08 < group["accuracy_low"] < 0.18 < 0.26 < group["accuracy_high"] < 0.42
    assert (group["cut"], group["task"], group["model"]) == (4, "multimedqa", "m")


@pytest.mark.parametrize("member", ["answers", "multimedqa"])
def test_a_group_of_what_has_no_common_number_is_refused(tmp_path: Path, member: str) -> None:
    (tmp_path / "ours.yaml").write_text(f"tasks: [radiology, {member}]\n")

    with pytest.raises(ConfigError, match=f"cannot have one number with the task {member} in it"):
        tasks_of(EvaluateConfig(tasks=("ours",), task_dir=tmp_path))
