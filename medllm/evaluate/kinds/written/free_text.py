"""Free text: answers beside their references, by the words and the meaning that they share."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from medllm import console
from medllm.data.example import Example
from medllm.engines.base import Engine, Scores
from medllm.errors import MedllmError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Record
from medllm.evaluate.kinds.generated import Answered, Generated, ends, groups_of, mean_of, share_of
from medllm.evaluate.kinds.written.told import tell_measures, tell_pairs
from medllm.measures.intervals import estimate_ratio, perplexity_of
from medllm.measures.likelihood import AnswerResult, score_answers
from medllm.measures.text.answers import count_words, is_exact, token_f1
from medllm.measures.text.bertscore import Encoder, digest_encoder
from medllm.measures.text.overlap import (
    BLEU_HOW,
    ROUGE,
    ROUGE_HOW,
    bleu_counts,
    estimate_bleu,
    rouge,
)
from medllm.reports.page import Page

LIBRARIES = {"rouge": ("rouge_score", "rouge-score"), "bleu": ("sacrebleu", "sacrebleu")}
"""What some measures are computed by: the module, and the package."""
BERTSCORE = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
ALL = ("exact", "f1", *ROUGE, "bleu", *BERTSCORE, "length_ratio")


class FreeText(Generated):
    """Answers scored by their references.

    A measure that cannot be had is not in the score; `not_computed` there says why.
    """

    settings = frozenset({"encoder", "encoder_layer"})
    measure = "f1"
    headings: Mapping[str, str] = {"rougeL": "ROUGE-L", "bertscore_f1": "BERTScore"}

    def decides(self, config: EvaluateConfig) -> dict[str, Any]:
        """Which libraries and which encoder there are, as plain data."""
        encoder = digest_encoder(config.encoder)
        return {"encoder": encoder, **{name: _is_there(name) for name in LIBRARIES}}

    def judge(self, answered: Answered, asking: Asking) -> Record:
        """Exact match, token F1, ROUGE and what BLEU is made of."""
        answer, reference = answered.text, answered.item.completion
        record: Record = {
            "exact": is_exact(answer, reference),
            "f1": token_f1(answer, reference),
            "length_ratio": count_words(answer) / max(count_words(reference), 1),
        }
        if _is_there("rouge"):
            asking.notes["rouge"] = ROUGE_HOW
            record |= rouge(answer, reference)
        if _is_there("bleu"):
            asking.notes["bleu_how"] = BLEU_HOW
            record["bleu_counts"] = bleu_counts(answer, reference)
        return record

    def judge_together(
        self, engine: Engine, answered: Sequence[Answered], asking: Asking
    ) -> Iterable[Record]:
        """The likelihood of each reference, and BERTScore."""
        records: list[Record] = [{} for _ in answered]
        missing = {
            name: f"{package} is not installed: pip install 'medllm[metrics]'"
            for name, (_, package) in LIBRARIES.items()
            if not _is_there(name)
        }
        if isinstance(engine, Scores):
            items = [each.item for each in answered]
            _add_likelihoods(records, engine, items, f"{asking.what}, references")
        else:
            reason = f"the engine {engine.name} gives no likelihood of given tokens"
            missing["reference_perplexity"] = reason
        try:
            _add_bertscores(records, answered, asking)
        except MedllmError as problem:
            missing["bertscore"] = f"{problem.message}; {problem.fix}"
        if missing:
            asking.notes["not_computed"] = missing
            for name, reason in missing.items():
                console.notice(f"{asking.what}: {name} is not computed: {reason}")
        return records

    def tell(self, page: Page, score: Mapping[str, Any], records: Sequence[Record]) -> None:
        """The measures, and answers beside their references."""
        tell_measures(page, score, (*ALL, "reference_perplexity"))
        tell_pairs(page, records, self.measure)

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        """Each measure with its 95 % interval; BLEU from 0 to 100, all else from 0 to 1."""
        numbers = {**share_of(records, "exact"), **mean_of(records, "f1")}
        for name in (*ROUGE, *BERTSCORE, "length_ratio"):
            numbers |= mean_of(records, name)
        counted = [record for record in records if "bleu_counts" in record]
        if counted:
            counts = [record["bleu_counts"] for record in counted]
            numbers |= ends("bleu", estimate_bleu(counts, groups_of(counted)))
        return {**numbers, **_reference_perplexity(records)}


def _is_there(name: str) -> bool:
    return find_spec(LIBRARIES[name][0]) is not None


def _add_likelihoods(
    records: Sequence[Record], engine: Scores, items: Sequence[Example], what: str
) -> None:
    """The log-likelihood of each reference after its prompt, as in training."""
    for record, found in zip(records, score_answers(engine, items, what=what), strict=True):
        if isinstance(found, AnswerResult):
            record |= {"reference_logprob": found.logprob, "reference_tokens": found.tokens}


def _add_bertscores(
    records: Sequence[Record], answered: Sequence[Answered], asking: Asking
) -> None:
    """BERTScore of each answer.

    Raises:
        MedllmError: the encoder is not on this machine, or cannot be loaded.
    """
    encoder = Encoder.open(asking.config.encoder, asking.config.encoder_layer)
    asking.notes["bertscore"] = encoder.how
    with console.progress(f"{asking.what}, BERTScore", len(answered)) as advance:
        for record, each in zip(records, answered, strict=True):
            found = encoder.match(each.text, each.item.completion)
            values = (found.precision, found.recall, found.f1)
            record |= dict(zip(BERTSCORE, values, strict=True))
            advance(1)


def _reference_perplexity(records: Sequence[Record]) -> dict[str, Any]:
    found = [record for record in records if record.get("reference_tokens")]
    if not found:
        return {}
    losses = [-record["reference_logprob"] for record in found]
    tokens = [record["reference_tokens"] for record in found]
    loss = estimate_ratio(losses, tokens, groups_of(found))
    return ends("reference_perplexity", perplexity_of(loss))
