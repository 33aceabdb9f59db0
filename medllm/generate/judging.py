"""How long, how repetitive and how sure answers are, and how far their confidence can be trusted.

The confidence of an answer is the geometric mean of the probabilities that the model gave its
tokens, before penalties and temperature. It says how sure the model is of its words, not whether
what they say is true: only the calibration against references says how far the two go together.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import exp
from statistics import fmean, median
from typing import Any

from medllm import console
from medllm.generate.asking import Answer
from medllm.generate.config import GenerateConfig
from medllm.measures.confidence import measure_confidence
from medllm.measures.text.answers import count_words, is_exact, repeated_share, token_f1

REPEATED = 0.2
"""An answer repeats itself where more of its runs of four words stood in it before."""
HOW = (
    "confidence: geometric mean of the tokens' probabilities; compared with the token F1 of the "
    "answer and its reference (SQuAD's normalisation, numbers kept whole), measured on the rows of "
    "this file that have a reference: of other prompts it says nothing"
)


def judge(answer: Answer, config: GenerateConfig) -> dict[str, Any]:
    """What a row tells of its answer; an answer whose confidence is unknown counts as uncertain."""
    confidence = None if answer.logprob is None else round(exp(answer.logprob), 6)
    told: dict[str, Any] = {"tokens": answer.tokens, "words": count_words(answer.text)}
    told["repeats"] = repeated_share(answer.text) > REPEATED
    if config.max_words is not None:
        told["too_long"] = told["words"] > config.max_words
    told["confidence"] = confidence
    if config.abstain_below is not None:
        told["uncertain"] = confidence is None or confidence < config.abstain_below
    return told | ({"pieces": answer.pieces} if answer.pieces > 1 else {})


def count_cut(rows: Iterable[Mapping[str, Any]], what: str) -> int:
    """How many answers end at `max_tokens` or with the context, not by themselves; says so."""
    ends = [row["finish_reason"] for row in rows if row["answer"] is not None]
    if cut := ends.count("length"):
        where = "at max_tokens or at the end of the context"
        console.notice(f"{what}: {cut} of {len(ends)} answers were cut, {where}")
    return cut


def sum_up_answers(rows: Iterable[Mapping[str, Any]], references: Sequence[str]) -> dict[str, Any]:
    """The lengths of all answers, and their confidence beside their references, where these are."""
    pairs = [pair for pair in zip(rows, references, strict=True) if pair[0]["answer"] is not None]
    answers = [row for row, _ in pairs]
    if not answers:
        return {}
    words = [row["words"] for row in answers]
    counts = {name: sum(row[name] for row in answers) for name in ("repeats", "too_long")
              if name in answers[0]}  # fmt: skip
    confidence = _sum_up_confidence(answers) | _calibrate(pairs)
    if "uncertain" in confidence and confidence["calibration"] is None:
        unknown = "how far the confidence can be trusted is not known"
        console.notice(f"generate: no row has a reference: {unknown}")
    return {
        "conciseness": {
            "words_mean": fmean(words), "words_median": median(words), "words_most": max(words),
            **counts,
        },
        "confidence": confidence,
    }  # fmt: skip


def _sum_up_confidence(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = [row["confidence"] for row in answers if row["confidence"] is not None]
    told: dict[str, Any] = {"known": len(known), "mean": fmean(known) if known else None}
    if "uncertain" in answers[0]:
        told["uncertain"] = sum(row["uncertain"] for row in answers)
    return told


def _calibrate(pairs: Sequence[tuple[Mapping[str, Any], str]]) -> dict[str, Any]:
    """Confidence against what references say; nothing where no row has one."""
    found = [
        (row, token_f1(row["answer"], reference), is_exact(row["answer"], reference))
        for row, reference in pairs
        if reference and row["confidence"] is not None
    ]
    if not found:
        return {"calibration": None}
    sure = [row["confidence"] for row, _, _ in found]
    scores = [score for _, score, _ in found]
    measured = measure_confidence(sure, scores)
    told = {"how": HOW, "items": len(found), "token_f1": fmean(scores),
            "exact_match": fmean(exact for _, _, exact in found), **measured}  # fmt: skip
    if "uncertain" in found[0][0]:
        for name, is_marked in (("token_f1_uncertain", True), ("token_f1_certain", False)):
            of = [score for row, score, _ in found if row["uncertain"] is is_marked]
            told[name] = fmean(of) if of else None
    return {"calibration": told}


def describe_answers(results: Mapping[str, Any]) -> str:
    """How many answers are uncertain, too long or repeat themselves; empty where none is."""
    counts = {
        "uncertain": results.get("confidence", {}).get("uncertain"),
        "too long": results.get("conciseness", {}).get("too_long"),
        "that repeat themselves": results.get("conciseness", {}).get("repeats"),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
