"""Answers and summaries beside their references: what is had, what is not, what a page tells."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import Example, Message
from medllm.engines.fake import FakeEngine
from medllm.evaluate.analysis.outcomes import outcomes_of
from medllm.evaluate.analysis.patterns import find_patterns, rank_items
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.gate import judge
from medllm.evaluate.kinds.base import Asking
from medllm.evaluate.kinds.generated import Answered
from medllm.evaluate.kinds.written.free_text import FreeText
from medllm.evaluate.kinds.written.summaries import Summaries, source_of, spans_of
from medllm.measures.gates import find_gate
from medllm.measures.text.answers import repeated_share
from medllm.measures.text.overlap import bleu_counts, estimate_bleu, rouge
from medllm.reports.page import Page
from medllm.tasks.spec import TaskSpec

NOTE = (
    "MEDICATIONS: metoprolol 25 mg daily.\n\nCOURSE: He was admitted with pneumonia. No fever. "
    "Heart rate 85. Discharged in stable condition. Follow up with cardiology in 2 weeks."
)
SUMMARY = "Admitted with pneumonia. No fever. Metoprolol 25 mg daily. Follow up in 2 weeks."
ITEM = Example("ward/1", "ward", "1", (Message("user", f"Sum up.\n\n{NOTE}"),), SUMMARY)
ASKING = Asking(
    EvaluateConfig(encoder="no/encoder"), in_chat=True, what="test", shows_text=True,
    spec=TaskSpec(kind="summaries", instruction="Sum up."),
)  # fmt: skip


def asking() -> Asking:
    return replace(ASKING, notes={})


def judged(text: str) -> dict[str, Any]:
    known = {"id": "ward/1", "finish_reason": "stop", "answer_tokens": 9, "answer_empty": False}
    texts = {"answer": text, "reference": SUMMARY}
    return {**known, **texts, **Summaries().judge(Answered(ITEM, text, 9, "stop"), asking())}


def test_items_in_a_language_that_the_rules_do_not_read_are_announced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    how = asking()
    texts = [
        "Keine Dyspnoe, kein Fieber, weiterhin Metoprolol.",
        "患者は頭痛を訴えている。",
        SUMMARY,
    ]
    items = [replace(ITEM, id=f"ward/{n}", completion=text) for n, text in enumerate(texts)]

    Summaries().score(FakeEngine(), items, how)

    assert how.notes["not_english"] == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2 of 3 items are in another language than English (German, Japanese)" in said


def test_what_cannot_be_had_is_not_computed_with_its_reason() -> None:
    how = asking()
    item = replace(ITEM, prompt=(Message("user", "So?"),), completion="You said: So?")
    kind = FreeText()

    records = list(kind.score(FakeEngine(), [item], how))
    score = {**kind.summarize(records), **how.notes}

    assert (score["exact"], score["f1"], score["length_ratio"]) == (1, 1, 1)
    assert 1 < score["reference_perplexity"] < 2
    reason = "the encoder no/encoder is not on this machine; name its folder as evaluate.encoder"
    assert score["not_computed"]["bertscore"] == reason
    assert not any(name.startswith("bertscore_") for name in score)
    assert ("rouge1" in score) is ("rouge" not in score["not_computed"])
    page = Page("Evaluation", "", {})
    kind.tell(page, score, records)
    assert "bertscore is not computed: the encoder no/encoder" in page.render()
    assert kind.decides(how.config)["encoder"] == "none"


def test_an_echo_keeps_all_of_a_note_and_a_silent_model_nothing() -> None:
    whole, empty = judged(NOTE), judged("")

    for record in (whole, empty):
        assert record["numbers_wrong"] == record["unsupported"] == []
    kind = Summaries()
    kept, lost = (kind.summarize([record]) for record in (whole, empty))
    assert (kept["retention"], kept["numeric_fidelity"], kept["ratio"]) == (1, 1, 1)
    assert (lost["retention"], lost["recall"], lost["ratio"]) == (0, 0, 0)
    assert "numeric_fidelity" not in lost  # it states no number
    assert kept["discharge"]["follow-up"]["has"] == 1
    assert lost["omitted_by_section"]["medications"]["omitted"] == 1
    assert kept["ratio_sd"] is None


def test_what_is_wrong_in_a_summary_has_its_place_and_severity() -> None:
    text = "Admitted with pneumonia and asthma. Fever. Metoprolol 50 mg daily. Heart rate 150."

    record = judged(text)

    assert {(what, severity, text[a:b]) for what, severity, (a, b) in spans_of(record)} == {
        ("a new diagnosis", "major", "asthma"),
        ("negation of a finding", "major", "Fever"),
        ("a new medication", "major", "Metoprolol 50 mg daily"),
        ("a number altered", "moderate", "50 mg"),
        ("a new vital sign", "moderate", "150"),
        ("a number altered", "moderate", "150"),
    }
    score = Summaries().summarize([record, judged(SUMMARY)])
    assert score["flips"] == {"negation": 1}
    assert score["unsupported"]["major"]["facts"] == 3
    assert score["unsupported"]["major"]["share"] == 0.5
    assert (score["numbers_altered"], score["numbers_invented"]) == (2, 0)
    assert 0 < score["by_class"]["medication"]["supported"] < 1


def test_records_without_texts_hold_none_and_the_page_says_so() -> None:
    record = judged("Fever.")
    del record["answer"], record["reference"]
    score = {**Summaries().summarize([record]), "task": "summarize"}

    told = json.dumps(record)
    page = Page("Evaluation", "", {})
    Summaries().tell(page, score, [record])

    assert "Fever" not in told
    assert "pneumonia" not in page.render()
    assert "evaluate.show_text" in page.render()


def test_the_shipped_gate_is_decided_by_retention_and_ratio() -> None:
    scores = [
        {"model": "base", "task": "summarize", "identity": "x",
         **Summaries().summarize([{**judged(text), "id": str(n)} for n in range(9)])}
        for text in (NOTE,)
    ]  # fmt: skip

    checks = [check for _, check in judge(find_gate("summary"), scores, {})]

    assert [check.passed for check in checks] == [True, False]
    assert "ratio 1 (no interval, n = 9)" in str(checks[1])


def test_patterns_of_written_answers_have_a_rate_and_advice() -> None:
    score = {"model": "base", "task": "summarize"}
    texts = ["", "He is well. " * 40, SUMMARY]
    records = [{**judged(text), "id": str(n)} for n, text in enumerate(texts)]
    known = {"answer_tokens": 9, "length_ratio": 5.0}
    told = [{**records[0], "answer_empty": True}, {**records[1], "repeated": 0.9, **known},
            {**records[2], "finish_reason": "length"}]  # fmt: skip
    found = outcomes_of(told, score)
    assert found

    rows = {row["pattern"]: row["rate"]["value"] for row in find_patterns([found])}

    each = ("cut answers", "empty answers", "repetition", "verbosity")
    assert rows == dict.fromkeys(each, pytest.approx(1 / 3))
    assert rank_items([found])[0]["unit"] == "share of facts"
    assert repeated_share("so it is so it is so it is") > 0.3
    assert repeated_share("all words differ here") == repeated_share("") == 0


def test_a_source_is_what_the_user_says_without_the_instruction() -> None:
    assert source_of(ITEM, "Sum up.") == NOTE
    assert source_of(ITEM, None).startswith("Sum up.")


def test_rouge_and_bleu_are_those_of_their_libraries() -> None:
    pytest.importorskip("rouge_score")
    sacrebleu = pytest.importorskip("sacrebleu")
    pairs = [
        ("The cat sat on the mat today.", "A cat sat on the mat."),
        ("No pain.", "No fever at all."),
    ]

    assert rouge("No pain.", "No pain.") == dict.fromkeys(
        ("rouge1", "rouge2", "rougeL", "rougeLsum"), 1
    )
    assert set(rouge("", "No pain.").values()) == {0}
    counts = [bleu_counts(*pair) for pair in pairs]
    of_library = sacrebleu.corpus_bleu([a for a, _ in pairs], [[b for _, b in pairs]]).score
    assert estimate_bleu(counts).value == pytest.approx(of_library)
    assert estimate_bleu([bleu_counts("", "No pain.")]).value == 0


def test_bleu_needs_no_library_once_it_is_counted(tmp_path: Path) -> None:
    same = [[4, 3, 2, 1, 4, 3, 2, 1, 4, 4]]

    assert estimate_bleu(same).value == pytest.approx(100)
    assert estimate_bleu([[0] * 9 + [4]]).value == 0
    some = estimate_bleu([[2, 0, 0, 0, 4, 3, 2, 1, 4, 4]] * 40)
    assert some.low is not None
    assert 0 < some.low <= some.value
