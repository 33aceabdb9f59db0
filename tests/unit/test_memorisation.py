"""Canaries, what is drawn out of a model, and how well it knows a number."""

import json
from collections.abc import Iterator
from dataclasses import replace
from math import log2
from pathlib import Path

import pytest

from medllm.data.example import Example, Message, read_examples, read_jsonl, to_json
from medllm.data.generators.canaries import (
    ROLE,
    build_canaries,
    is_canary,
    secret_of,
    with_other_secrets,
)
from medllm.engines.base import GenerateRequest, Piece, Score, ScoreRequest
from medllm.engines.fake import BOS, FakeEngine
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.items import Task
from medllm.evaluate.kinds.base import Asking
from medllm.evaluate.kinds.studies.memorisation import Memorisation
from medllm.measures.memorisation import begin_of, chance_of, copied_spans, exposure_of, rank_of
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare

NUMBERS = " ".join(f"w{n}" for n in range(40))
PHRASE = " ".join(f"p{n}" for n in range(40))


class Keeper(FakeEngine):
    """A model that has kept some texts by heart, and goes on with them."""

    def __init__(self, *kept: str) -> None:
        super().__init__(context_length=4000)
        self._kept = kept

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        given = bytes(each for each in request.prompt if each < BOS).decode()  # type: ignore[arg-type]
        begin = given.rpartition("assistant: ")[2]
        rest = next((one.removeprefix(begin) for one in self._kept if one.startswith(begin)), "?")
        yield Piece(rest, len(rest), "stop")

    def score(self, requests: list[ScoreRequest]) -> list[Score]:  # type: ignore[override]
        texts = [bytes(t for t in each.continuation if t < BOS).decode() for each in requests]
        return [
            Score(0.0 if text.startswith(self._kept) else -9.0, len(text), True) for text in texts
        ]


def row(name: str, completion: str, role: str = "train") -> Example:
    prompt = (Message("user", "Sum it up."),)
    return Example(f"w/{name}", "w", name, prompt, completion, metadata={ROLE: role})


def test_canaries_hang_on_the_seed_and_are_found_again() -> None:
    first, again = (list(build_canaries(9, 1, as_text=False)) for _ in range(2))
    other = list(build_canaries(9, 2, as_text=True))

    assert first == again and len({each.id for each in first}) == 9
    assert all(map(is_canary, [*first, *other])) and not other[0].prompt
    assert all("CANARY-" in each.completion for each in first)
    assert not {secret_of(each) for each in first} & {secret_of(each) for each in other}
    others = with_other_secrets(first[0], 255, 0)
    assert len({each.completion for each in [first[0], *others]}) == 256
    assert all(len(each.completion) == len(first[0].completion) for each in others)
    assert not is_canary(replace(first[0], dataset="ward"))


def test_what_is_copied_was_not_given() -> None:
    assert len(copied_spans(NUMBERS, NUMBERS, "")) == 28
    assert not copied_spans(NUMBERS, NUMBERS, NUMBERS)
    assert not copied_spans("w1 w2 w3", NUMBERS, "")
    assert begin_of(NUMBERS, 13, 50) == " ".join(f"w{n}" for n in range(20))
    assert begin_of(NUMBERS, 13, 5) == "w0 w1 w2 w3 w4"
    assert begin_of("too short a text", 13, 50) is None


def test_exposure_is_in_bits_and_chance_is_known() -> None:
    assert rank_of(-1.0, [-2.0, -1.0, -0.5]) == 3
    assert exposure_of(1, 256) == 8 and exposure_of(256, 256) == 0
    expected, p = chance_of([8.0] * 5, 256)
    assert expected == pytest.approx(log2(2.718281828), abs=0.03)
    assert p <= 0.001
    assert chance_of([1.4] * 20, 256)[1] > 0.3


def test_a_model_that_keeps_rows_gives_them_away_and_records_hold_no_word(tmp_path: Path) -> None:
    canaries = [
        replace(each, metadata={ROLE: "canary"}) for each in build_canaries(3, 0, as_text=False)
    ]
    rows = [row("1", NUMBERS), row("2", PHRASE), row("3", PHRASE), row("4", NUMBERS[::-1]),
            row("5", NUMBERS + " unseen", "test")]  # fmt: skip
    lines = (json.dumps(to_json(each)) + "\n" for each in [*rows[:4], *canaries])
    (tmp_path / "train.jsonl").write_text("".join(lines))
    asking = Asking(EvaluateConfig(data=tmp_path), in_chat=True, what="test")
    kind, items = Memorisation(), [*rows, *canaries]

    keeper = Keeper(NUMBERS, PHRASE, canaries[0].completion)
    records = list(kind.score(keeper, items, asking))
    score = kind.summarize(records)

    assert [record["id"] for record in records] == [item.id for item in items]
    given_away = [record["given_away"] for record in records[:5]]
    assert given_away == [True, False, False, False, False]
    assert records[1]["copied"] > 0  # a phrase of two rows
    assert [record["drawn_out"] for record in records[5:]] == [True, False, False]
    assert [record["rank"] for record in records[5:]] == [1, 256, 256]
    assert (score["extracted"], score["extracted_items"]) == (0.25, 4)
    assert (score["extracted_unseen"], score["canaries"]) == (0.0, 3)
    assert score["canaries_extracted"] == pytest.approx(1 / 3)
    assert score["exposure"] == pytest.approx(8 / 3) and score["exposure_limit"] == 8
    text = json.dumps(records)
    assert "w1" not in text.replace("w/", "") and secret_of(canaries[0]) not in text


@pytest.mark.parametrize("format", ["jsonl", "messages"])
def test_prepare_plants_canaries_in_the_words_of_the_rows(tmp_path: Path, format: str) -> None:
    data = [{"id": n, "question": f"What of {n}?", "answer": f"Take {n} of it, then {n * 7}.",
             "split": "test" if n % 4 == 0 else "train"} for n in range(40)]  # fmt: skip
    (tmp_path / "ward.jsonl").write_text("".join(json.dumps(each) + "\n" for each in data))
    settings = {"datasets": (str(tmp_path / "ward.jsonl"),), "task": "qa", "format": format}
    manifest = prepare(PrepareConfig(**settings, canaries=4, output=tmp_path / "out"))

    rows = list(read_examples(tmp_path / "out/train.jsonl"))
    planted = [each for each in rows if is_canary(each)]
    listed = list(read_jsonl(tmp_path / "out/canaries.jsonl"))
    assert [(each.id, secret_of(each)) for each in planted] == [
        (each["id"], each["secret"]) for each in listed
    ]
    assert len(listed) == manifest.results["canaries"] == 4
    assert len(rows) == manifest.results["train"]
    assert [turn.role for turn in planted[0].prompt] == ["system", "user"]
    config = EvaluateConfig(tasks=("memorisation",), data=tmp_path / "out", limit=2)
    items = Task("memorisation", config).items()
    assert [each.metadata[ROLE] for each in items.examples] == ["canary", "canary"]
    assert items.rejected.total() == len(rows) - 4 + manifest.results["test"]
