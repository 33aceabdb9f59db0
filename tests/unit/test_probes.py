"""Probes: where the terms of a text stand in its tokens, and names that look alike."""

import pytest

from medllm.clinical.look_alikes import LookAlike, look_alikes
from medllm.clinical.terms import count_texts, find_terms, locate_terms
from medllm.engines.fake import FakeEngine
from medllm.measures.divergence import compare_document
from medllm.measures.probes import (
    find_occurrences,
    margin_change,
    score_look_alikes,
    summarize_terms,
)

TERMS = {"renal failure", "acute renal failure", "metformin", "edema"}
TEXTS = {
    "a": "Acute renal failure; metformin held. Metformin again.",
    "b": "İn the morning: Metformin, and Edema of the legs.",
}


def test_terms_are_found_where_they_stand() -> None:
    for text in TEXTS.values():
        located = list(locate_terms(text, TERMS))

        assert [term for term, _, _ in located] == list(find_terms(text, TERMS))
        assert all(text[begin:end].lower() == term for term, begin, end in located)


def test_tokens_of_a_term_are_those_that_it_adds() -> None:
    engine, text = FakeEngine(), TEXTS["b"]
    ids = engine.encode(text, add_special_tokens=True)

    found = find_occurrences(engine, "b", text, ids, TERMS)

    written = [bytes(ids[each.first : each.last]).decode().strip() for each in found]
    assert written == ["Metformin", "Edema"]
    cut = found[0].last
    assert find_occurrences(engine, "b", text, ids[:cut], TERMS) == found[:1]
    assert find_occurrences(engine, "b", text, [1, *ids], TERMS) == []


def test_likelihood_of_terms_by_how_many_texts_hold_them() -> None:
    sure, unsure = FakeEngine(confidence=0.8), FakeEngine(confidence=0.5)
    ids = {name: sure.encode(text, add_special_tokens=True) for name, text in TEXTS.items()}
    compared = [compare_document(sure, unsure, name, row) for name, row in ids.items()]
    occurrences = [
        each for name, row in ids.items()
        for each in find_occurrences(sure, name, TEXTS[name], row, TERMS)
    ]  # fmt: skip
    texts = count_texts(find_terms(text, TERMS) for text in TEXTS.values())

    found = summarize_terms(compared, occurrences, texts)

    assert dict(texts) == {"acute renal failure": 1, "metformin": 2, "edema": 1}
    assert set(found) == {"rare", "occasional"}, "no term is in five texts"
    assert (found["rare"].terms, found["rare"].occurrences) == (2, 2)
    assert (found["occasional"].terms, found["occasional"].occurrences) == (1, 3)
    lost = found["rare"].nats_lost
    assert lost.value == pytest.approx(found["rare"].parent.value - found["rare"].quantized.value)
    assert lost.value < 0, "the surer model is the more surprised by what does not repeat"


def test_names_are_asked_both_ways_in_sentences_that_differ_by_the_name_alone() -> None:
    pairs = look_alikes()

    assert len(pairs) >= 60
    for pair in pairs:
        differing = set(pair.fitting.split()) ^ set(pair.mistaken.split())
        assert len(differing) == 2, pair
        assert "{" not in pair.fitting
    assert any("subcarinal" in pair.fitting for pair in pairs)
    assert any("hydralazine" in pair.mistaken for pair in pairs)


def test_a_model_that_prefers_what_fits() -> None:
    engine = FakeEngine(context_length=64)
    pairs = [LookAlike("ileum", "ilium"), LookAlike("ilium", "ileum")]

    scores = score_look_alikes(engine, engine, pairs)

    assert scores.margins[0] == pytest.approx(-scores.margins[1])
    assert scores.margins[0] != 0
    assert scores.right.value == 0.5, "who has a preference is right one way and wrong the other"
    assert scores.right.low < 0.05 < 0.95 < scores.right.high
    unchanged = margin_change(scores, scores)
    assert (unchanged.low, unchanged.value, unchanged.high) == (None, 0, None), (
        "two tell too little"
    )
