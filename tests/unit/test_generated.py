"""Answers that a model writes: each asked once, in order, whole or counted as cut."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import Example, Message
from medllm.engines.base import GenerateRequest, Piece
from medllm.engines.fake import FakeEngine
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Record
from medllm.evaluate.kinds.generated import Answered, Generated, mean_of, ratio_of, share_of
from medllm.evaluate.kinds.pieces import split_item, split_text
from medllm.tasks.spec import Generation, TaskSpec

ITEM = Example("ward/1", "ward", "1", (Message("user", "So?"),), "You said: So?")


class Lengths(Generated):
    """Counts characters."""

    measure = "characters"

    def judge(self, answered: Answered, asking: Asking) -> Record:
        return {"characters": len(answered.text)}

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        return mean_of(records, "characters")


def asking(**generation: Any) -> Asking:
    spec = TaskSpec(kind="lengths", generation=Generation(**generation))
    return Asking(EvaluateConfig(), in_chat=True, what="test", spec=spec)


def test_each_item_has_a_record_in_its_order() -> None:
    items = [ITEM, replace(ITEM, id="ward/2", prompt=(Message("user", "And then?"),))]
    how = asking()

    records = list(Lengths().score(FakeEngine(), items, how))

    assert [record["id"] for record in records] == ["ward/1", "ward/2"]
    assert [record["characters"] for record in records] == [13, 19]
    assert {record["finish_reason"] for record in records} == {"stop"}
    assert not {"answer", "reference", "target", "tokens", "logprob"} & records[0].keys()
    assert how.notes["generation"]["max_tokens"] == 256
    score = Lengths().summarize(records)
    assert (score["items"], score["answers_cut"], score["characters"]) == (2, 0, 16)
    many = Lengths().summarize([{**record, "id": str(n)} for n, record in enumerate(records * 20)])
    assert many["characters_low"] < 16 < many["characters_high"]


def test_texts_stand_in_records_of_open_data_alone() -> None:
    (record,) = Lengths().score(FakeEngine(), [ITEM], replace(asking(), shows_text=True))

    assert (record["answer"], record["reference"]) == ("You said: So?", "You said: So?")


def test_a_cut_answer_is_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    records = list(Lengths().score(FakeEngine(), [ITEM], asking(max_tokens=3)))

    assert records[0]["finish_reason"] == "length"
    assert Lengths().summarize(records)["answers_cut"] == 1
    assert "1 of 1 answers were cut" in capsys.readouterr().err


def test_what_an_interrupted_run_wrote_is_not_written_again(tmp_path: Path) -> None:
    class Stopping(FakeEngine):
        """Stops at the third answer, as a person may stop it."""

        asked = 0

        def generate(self, request: GenerateRequest) -> Iterator[Piece]:
            self.asked += 1
            if self.asked == 3:
                raise KeyboardInterrupt
            return super().generate(request)

    items = [replace(ITEM, id=f"ward/{n}") for n in range(4)]
    how = replace(asking(), written=tmp_path / "qa.answers.jsonl")
    with pytest.raises(KeyboardInterrupt):
        list(Lengths().score(Stopping(), items, how))
    (left,) = tmp_path.glob("*.partial")
    left.write_text(left.read_text().replace("You said", "He said"))
    records = list(Lengths().score(FakeEngine(), items, how))

    assert left.stat().st_mode & 0o77 == 0, "it holds answers"
    assert [each["characters"] for each in records] == [12, 12, 13, 13]


def test_what_is_too_long_is_not_asked_or_read_in_pieces() -> None:
    engine = FakeEngine(context_length=200)
    long = replace(ITEM, prompt=(Message("user", "A short sentence. " * 20),))

    (dropped,) = Lengths().score(engine, [long], asking(max_tokens=20))
    (split,) = Lengths().score(engine, [long], asking(max_tokens=20, over_length="split"))

    assert dropped == {"id": "ward/1", "not_asked": "the prompt leaves no room for an answer"}
    assert split["pieces"] == 3
    assert split["characters"] == 3 * 20 + 2 * len("\n\n")
    assert Lengths().summarize([split])["in_pieces"] == 1


def test_an_empty_prompt_is_refused_by_its_reason() -> None:
    kind = Lengths()

    assert kind.lacking(replace(ITEM, prompt=())) == "no prompt"
    assert kind.lacking(replace(ITEM, completion=" ")) == "no completion"
    assert kind.lacking(ITEM) is None


def test_pieces_are_all_of_a_text_and_end_with_sentences() -> None:
    text = "One is here. Two is here. Three is here. Four is here. "

    assert "".join(split_text(text, 3)) == text
    assert all(piece.endswith(". ") for piece in split_text(text, 2))
    assert split_text("x" * 10, 3) == ["xxx", "xxxx", "xxx"]
    assert split_text("", 4) == []
    asked = replace(
        ITEM, prompt=(Message("system", "Be short."), Message("user", f"Sum up.\n\n{text}"))
    )
    parts = split_item(asked, 2, "Sum up.")
    assert [part.prompt[1].content[:9] for part in parts] == ["Sum up.\n\n"] * 2
    assert {part.prompt[0].content for part in parts} == {"Be short."}


def test_means_and_shares_say_of_how_many_they_are() -> None:
    records = [{"id": "1", "x": 1.0, "k": 1, "n": 2}, {"id": "2", "x": None, "k": 0, "n": 0}]

    assert mean_of(records, "x") == {"x": 1.0, "x_low": None, "x_high": None, "x_items": 1}
    assert share_of(records, "k")["k"] == 0.5
    assert ratio_of(records, "r", "k", "n") == {"r": 0.5, "r_low": None, "r_high": None, "r_of": 2}
    assert mean_of(records, "y") == ratio_of([], "r", "k", "n") == {}
    alike = [{"id": str(n), "group": "one", "x": float(n)} for n in range(9)]
    assert mean_of(alike, "x")["x_low"] is None
