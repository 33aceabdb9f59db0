"""What stages leave of a text: its length, the facts that stay, and what is new."""

import json
from pathlib import Path

import pytest

from medllm.data.example import Message
from medllm.engines.row_file import RowFile
from medllm.generate.asking import Answer, split_messages
from medllm.generate.compression import Compressed, measure_all
from medllm.generate.config import GenerateConfig
from medllm.generate.judging import judge, repeated_share, sum_up_answers
from medllm.generate.prompts import Prompt

NOTE = (
    "Pneumonia. Aspirin 75 mg daily was started. Heart rate 92/min. No fever. "
    "Appendectomy was done. Follow-up in 2 weeks."
)


def chain(*answers: str, number: int = 1) -> Compressed:
    return Compressed(Prompt(number, str(number), (Message("user", NOTE),)), answers)


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


def test_texts_without_facts_have_no_retention() -> None:
    told = Compressed(Prompt(1, "1", (Message("user", "Well."),)), ["Well.", "So."])
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
