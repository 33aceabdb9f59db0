"""What stages leave of a text: its length, the facts that stay, and what is new."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import Message
from medllm.engines.row_file import RowFile
from medllm.errors import DataError
from medllm.generate.asking import Answer, split_messages
from medllm.generate.compression import Compressed, announce_flips, measure_all, write_tables
from medllm.generate.config import GenerateConfig, Stage
from medllm.generate.judging import count_cut, judge, sum_up_answers
from medllm.generate.prompts import Prompt, read_prompts
from medllm.generate.stages import announce_other, section_of
from medllm.measures.text.answers import repeated_share

NOTE = (
    "Pneumonia. Aspirin 75 mg daily was started. Heart rate 92/min. No fever. "
    "Appendectomy was done. Follow-up in 2 weeks."
)


def chain(*answers: str, number: int = 1) -> Compressed:
    return Compressed(Prompt(number, str(number), (Message("user", NOTE),)), answers, answers)


def test_facts_that_are_kept_lost_and_new_are_counted() -> None:
    (kept, lost), summary = measure_all([
        chain(NOTE, NOTE),
        chain(NOTE, "Aspirin 750 mg daily. Fever. Heart rate 92/min.", number=2),
    ], None)  # fmt: skip

    assert (kept["ratio"], kept["retention"], kept["unsupported"]) == (1.0, 1.0, 0)
    assert lost["ratio"] == 47 / len(NOTE)
    assert 0 < lost["retention"] < 0.6 and lost["retention"] == lost["retention_of_source"]
    assert lost["unsupported_major"] >= 2  # another dose, and a fever that was denied
    assert summary["retention"]["value"] == pytest.approx(
        (kept["retention_found"] + lost["retention_found"]) / (2 * kept["retention_of"])
    )
    assert summary["retention"]["low"] is None  # two texts have no interval
    assert summary["ratio_against_retention"] == {"items": 2, "spearman": None}
    assert summary["bertscore"] == {"not_computed": "no encoder is named (generate.encoder)"}


def test_what_an_answer_turns_round_is_told_of_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    note = "Left knee pain. Once right knee pain. No effusion, no fever. Aspirin 75 mg."
    first = "Left knee pain. No effusion, no fever. Aspirin 75 mg daily."

    def told(last: str) -> Compressed:
        return Compressed(Prompt(3, "a", (Message("user", note),)), [first, last], [first, last])

    (kept, denied, side), summary = measure_all(
        [told("Left knee pain, no fever."), told("Fever."), told("Right knee pain.")], None
    )

    assert kept["flips"] == []
    assert denied["flips"] == [
        {"flip": "negation", "class": "finding", "span": [0, 5], "unlike": "text"}
    ]
    assert [(each["flip"], each["unlike"]) for each in side["flips"]] == [
        ("laterality", "first stage")
    ]  # the text has both knees
    assert summary["retention_of_source"]["value"] < 1
    assert summary["flips"] == {"texts": 2, "by": {"negation": 1, "laterality": 1}}
    announce_flips({1: kept, 7: denied})
    said = capsys.readouterr().err
    assert "row 7: the last answer states something the other way round" in said
    assert "(negation)" in said and "fever" not in said.lower()


def test_numbers_are_kept_altered_or_invented_and_nothing_is_certain() -> None:
    spoken = "Heart rate ninety two. Fiebre 38,5 °C."
    chains = [
        Compressed(Prompt(n, str(n), (Message("user", spoken),)), ["So.", last], ["So.", last])
        for n, last in enumerate(["Heart rate 92.", "Heart rate 29.", "Fiebre 39,5 °C.", ""] * 2)
    ]

    measured, summary = measure_all(chains, None)

    told = [(each["numbers"], each["numbers_altered"], each["numbers_invented"])
            for each in measured[:4]]  # fmt: skip
    assert told[:2] == [(1, 0, 0), (1, 1, 0)] and told[2][0] == sum(told[2][1:]) == 1
    assert told[3] == (0, 0, 0)
    assert (summary["numbers"], summary["numbers_altered"] >= 2) == (6, True)
    nothing = measure_all([chains[3], chains[7]] * 3, None)[1]["retention_of_source"]
    assert nothing["value"] == 0 and nothing["high"] > 0.3  # six texts prove little


def test_a_table_holds_lists_as_json(tmp_path: Path) -> None:
    chains = [chain("Fever, no cough.", "Fever."), chain("=1+1", "-2 °C")]
    measured, summary = measure_all(chains, None)
    write_tables(tmp_path, ["1-a", "2-b"], chains, measured, summary)
    table = (tmp_path / "results.csv").read_text(encoding="utf-8")
    row, formula = csv.DictReader(table.removeprefix("\ufeff").splitlines())
    assert table.startswith("\ufeff") and (formula["1-a"], formula["2-b"]) == ("'=1+1", "'-2 °C")
    assert json.loads(row["flips"]) == measured[0]["flips"] != []
    assert json.loads(row["characters"]) == [16, 6]
    assert (row["1-a"], row["2-b"]) == ("Fever, no cough.", "Fever.")


def test_what_a_stage_does_not_name_is_as_in_its_section(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = Stage(name="a", model="org/a", quantization="nf4", instruction="Sum up.", max_tokens=9)
    last = Stage(name="b", instruction="Halve.", temperature=0.3, over_length="refuse")
    config = GenerateConfig(
        model="org/m", max_tokens=50, top_p=0.9, n_ctx=99, system="Be exact.", abstain_below=0.5,
        stages=(first, last),
    )  # fmt: skip

    one, two = (section_of(config, stage) for stage in config.stages)

    assert (one.model, one.quantization, one.max_tokens) == ("org/a", "nf4", 9)
    assert (one.top_p, one.n_ctx, one.system) == (0.9, 99, "Be exact.")
    assert (one.over_length, two.over_length) == ("split", "refuse")
    assert (one.abstain_below, two.abstain_below) == (None, 0.5)
    assert (two.model, two.quantization) == ("org/m", None)
    assert (two.max_tokens, two.temperature) == (50, 0.3)
    announce_other(config, first)
    announce_other(config, last)
    assert capsys.readouterr().err == "generate: stage a has its own max_tokens\n"


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"prompt": "Hi"}, "stages read a file"),
        ({"review": {}}, "stages are not reviewed"),
        ({"stages": [], "encoder": "there"}, "there are no stages"),
    ],
)
def test_what_does_not_go_with_stages_is_refused(section: dict[str, Any], told: str) -> None:
    stages = [{"name": "a", "instruction": "Halve."}]
    with pytest.raises(ValueError, match=told):
        GenerateConfig.model_validate_json(json.dumps({"stages": stages, **section}))


def test_stages_read_the_text_of_a_row_whatever_else_stands_there(tmp_path: Path) -> None:
    source = tmp_path / "notes.jsonl"
    rows = [
        {"id": "a", "prompt": "Sum up:", "text": NOTE, "completion": "Pneumonia."},
        {"id": "b", "Text": " ", "prompt": "Pneumonia?"},
        {"id": "c", "note": NOTE, "summary": "Pneumonia."},
        {"id": "d", "other": 1},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rejected = Counter[str]()

    found = read_prompts(source, rejected, None, of_texts=True)

    assert [each.messages[-1].content for each in found] == [NOTE, "Pneumonia?", NOTE]
    assert [each.reference for each in found] == ["Pneumonia.", "", "Pneumonia."]
    assert rejected == {"no prompt": 1}


def test_answers_that_were_cut_and_confidence_without_references_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = GenerateConfig(abstain_below=0.5)
    rows = [
        {"answer": "Yes.", "finish_reason": reason, **judge(Answer("Yes.", 1, reason, -1), config)}
        for reason in ("length", "stop")
    ]
    assert count_cut([*rows, {"answer": None, "finish_reason": "error"}], "stage a") == 1
    sum_up_answers(rows, ["", ""])
    said = capsys.readouterr().err
    assert "stage a: 1 of 2 answers were cut, at max_tokens or at the end of the context" in said
    assert "no row has a reference: how far the confidence can be trusted is not known" in said


def test_texts_without_facts_have_no_retention() -> None:
    told = Compressed(
        Prompt(1, "1", (Message("user", "Well."),)), ["Well.", "So."], ["Well.", "So."]
    )
    ((measured,), summary) = measure_all([told], None)
    assert measured["retention"] is None and "retention" not in summary
    assert measure_all([], None)[1]["items"] == 0


def test_answers_are_marked_as_long_repetitive_or_uncertain() -> None:
    config = GenerateConfig(max_words=3, abstain_below=0.5)
    sure = judge(Answer("No acute finding.", 4, "stop", -0.1), config)
    assert (sure["words"], sure["too_long"], sure["repeats"], sure["uncertain"]) == (
        3, False, False, False,
    )  # fmt: skip
    unsure = judge(Answer("a b c d " * 5, 20, "length", -1.0, pieces=2), config)
    assert (unsure["too_long"], unsure["repeats"], unsure["uncertain"]) == (True, True, True)
    assert unsure["pieces"] == 2 and unsure["confidence"] == pytest.approx(0.367879)
    unknown = judge(Answer("Well.", 1, "stop", None), config)
    assert (unknown["confidence"], unknown["uncertain"]) == (None, True)
    assert repeated_share("") == 0.0 and repeated_share("a b c d e") == 0.0


def test_confidence_is_compared_with_references_where_there_are_some() -> None:
    config = GenerateConfig(abstain_below=0.5)
    answers = [Answer("yes", 1, "stop", 0.0), Answer("no", 1, "stop", -2.0),
               Answer("maybe", 1, "stop", None)]  # fmt: skip
    rows = [{"answer": each.text, **judge(each, config)} for each in answers]
    rows.append({"answer": None, "error": "too long"})
    found = sum_up_answers(rows, ["Yes.", "yes", "maybe", "yes"])
    told = found["confidence"]["calibration"]
    assert (found["confidence"]["known"], found["confidence"]["uncertain"]) == (2, 2)
    assert (told["items"], told["token_f1"], told["exact_match"]) == (2, 0.5, 0.5)
    assert (told["token_f1_certain"], told["token_f1_uncertain"]) == (1.0, 0.0)
    assert told["calibration_error"] == pytest.approx(0.135335 / 2, abs=1e-5)
    assert sum_up_answers(rows, [""] * 4)["confidence"]["calibration"] is None


def test_rows_in_any_order_are_kept_and_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with RowFile(path).adding() as add:
        add(3, {"id": "c"})
        add(1, {"id": "a"})
    partial = tmp_path / "rows.partial"
    partial.write_bytes(partial.read_bytes() + b'[2, {"id"')
    file = RowFile(path)
    assert file.numbers() == {1, 3} and not file.is_whole
    with file.adding() as add:
        add(2, {"id": "b"})
    file.finish()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b", "c"]
    assert RowFile(path).is_whole and not partial.exists()
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_instruction_stands_before_each_piece() -> None:
    first = "Halve.\n\n"
    asked = (Message("system", "Be brief."), Message("user", first + "One. Two. " * 20))
    parts = split_messages(asked, 3, first)
    assert len(parts) == 3 and all(part[0] == asked[0] for part in parts)
    assert all(part[1].content.startswith(first) for part in parts)
    pieces = "".join(part[1].content.removeprefix(first) for part in parts)
    assert first + pieces == asked[1].content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no rows in it"),
        ("\n\n", "no rows in it"),
        ('{"age": 3}\n', r"no row has a prompt \(1 no prompt\)"),
        ('{"prompt": "Look.", "images": ["a.png"]}\n', r"\(1 with images\)"),
    ],
)
def test_a_file_without_rows_is_told_from_rows_without_a_prompt(
    tmp_path: Path, content: str, told: str
) -> None:
    source = tmp_path / "notes.jsonl"
    source.write_text(content)

    with pytest.raises(DataError, match=told):
        read_prompts(source, Counter(), None)
