"""Probes of what a model knows of medicine, the same before and after quantization."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import sub

from medllm.clinical.look_alikes import LookAlike
from medllm.clinical.terms import locate_terms
from medllm.engines.base import ScoreRequest, Scores
from medllm.measures.divergence import Compared
from medllm.measures.intervals import Estimate, estimate_proportion, estimate_ratio
from medllm.models.chat.template import Template, encode_text

BUCKETS = {"rare": 1, "occasional": 4}
"""The most holdout texts that terms of a bucket stand in; what is in more is frequent."""
FREQUENT = "frequent"


@dataclass(frozen=True, slots=True)
class TermLikelihood:
    """The mean log-likelihood of a token of a medical term in its context, in nats."""

    terms: int
    """Different terms."""
    occurrences: int
    documents: int
    parent: Estimate
    quantized: Estimate
    nats_lost: Estimate
    """The paired difference, parent - quantized; bootstrapped over the documents, as both."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A medical term in a document, as the tokens from `first` up to `last`, which is not in it."""

    term: str
    document: str
    first: int
    last: int


def find_occurrences(
    template: Template, id_: str, text: str, ids: Sequence[int], terms: Collection[str]
) -> list[Occurrence]:
    """The medical terms of a text whose tokens are known: it was encoded as `ids`, maybe cut.

    The tokens of a term are those that encoding the text up to its end adds to encoding the text
    before it. Where that is not how the whole was cut into tokens, the term is left out.
    """
    found = []
    for term, begin, end in locate_terms(text, terms):
        before = encode_text(template, text[:begin].rstrip())
        through = encode_text(template, text[:end])
        if len(through) > len(ids):
            break
        if before == list(ids[: len(before)]) and through == list(ids[: len(through)]):
            found.append(Occurrence(term, id_, len(before), len(through)))
    return [each for each in found if 0 < each.first < each.last]


def summarize_terms(
    compared: Sequence[Compared], occurrences: Sequence[Occurrence], texts: Mapping[str, int]
) -> dict[str, TermLikelihood]:
    """The likelihood of terms by the number of holdout texts that hold them; no empty bucket."""
    documents = {document.id: document for document in compared}
    buckets: dict[str, list[Occurrence]] = {name: [] for name in (*BUCKETS, FREQUENT)}
    for each in occurrences:
        buckets[_bucket(texts[each.term])].append(each)
    return {name: _summarize(documents, found) for name, found in buckets.items() if found}


def _bucket(texts: int) -> str:
    return next((name for name, most in BUCKETS.items() if texts <= most), FREQUENT)


def _summarize(
    documents: Mapping[str, Compared], occurrences: Sequence[Occurrence]
) -> TermLikelihood:
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for each in occurrences:  # the first token of a text has no likelihood
        positions[each.document] += range(each.first - 1, each.last - 1)
    parent = [float(documents[name].parent[at].sum()) for name, at in positions.items()]
    quantized = [float(documents[name].quantized[at].sum()) for name, at in positions.items()]
    tokens = [len(at) for at in positions.values()]
    return TermLikelihood(
        terms=len({each.term for each in occurrences}),
        occurrences=len(occurrences),
        documents=len(positions),
        parent=estimate_ratio(parent, tokens),
        quantized=estimate_ratio(quantized, tokens),
        nats_lost=estimate_ratio(list(map(sub, parent, quantized)), tokens),
    )


@dataclass(frozen=True, slots=True)
class LookAlikeScores:
    """How a model tells look-alike names apart."""

    sentences: int
    right: Estimate
    """The share in which the fitting name is the likelier one: guessing gives 0.5."""
    margin: Estimate
    """The mean advantage of the fitting name, in nats a sentence."""
    margins: tuple[float, ...]
    """That of each sentence."""


def score_look_alikes(
    template: Template, engine: Scores, pairs: Sequence[LookAlike]
) -> LookAlikeScores:
    """The log-likelihood of each sentence with the fitting name, less that with the mistaken one.

    Both are read as token ids of `template`, so that two models answer the same question.
    """
    sentences = [text for pair in pairs for text in (pair.fitting, pair.mistaken)]
    rows = [tuple(encode_text(template, text)) for text in sentences]
    # without a context they need not be read one by one; the first token is scored in neither
    scores = engine.score([ScoreRequest((), row) for row in rows])
    logprobs = iter(score.logprob for score in scores)
    margins = [fitting - mistaken for fitting, mistaken in zip(logprobs, logprobs, strict=True)]
    return LookAlikeScores(
        sentences=len(margins),
        right=estimate_proportion(sum(margin > 0 for margin in margins), len(margins)),
        margin=estimate_ratio(margins, [1] * len(margins)),
        margins=tuple(margins),
    )


def margin_change(before: LookAlikeScores, after: LookAlikeScores) -> Estimate:
    """The paired change of the advantage, in nats a sentence."""
    changes = [new - old for old, new in zip(before.margins, after.margins, strict=True)]
    return estimate_ratio(changes, [1] * len(changes))
