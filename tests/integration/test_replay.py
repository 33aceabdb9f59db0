"""Replay: how much of another dataset is mixed in, what of it, and under which terms."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from trainings import write_examples

from medllm.artifacts.manifest import Manifest
from medllm.data.example import Example, read_examples, to_json, write_jsonl
from medllm.data.registry.datasets import open_dataset
from medllm.data.split import SplitConfig
from medllm.errors import ConfigError, DataError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.build import IGNORED, Limit, Splits, load_splits
from medllm.finetune.rows.replay import Replay
from medllm.finetune.rows.tokenizer import Tokenizer
from medllm.finetune.verb import finetune
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.load import resolve_model

WORDS = ("town", "lies", "river", "has", "old", "bridge", "market", "three", "schools", "green")
LENGTH = 96


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("data") / "prepared", 64, 16, ("yes", "no"))


def town(number: int, words: int = 30) -> str:
    return f"Town {number}: " + " ".join(Random(number).choices(WORDS, k=words))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def config(model: Path, data: Path, folder: Path, dataset: str, **own: Any) -> FinetuneConfig:
    section = {
        "model": str(model), "data": str(data), "output": str(folder / "out"),
        "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
        "training": {"num_train_epochs": 1, "max_length": LENGTH, "warmup_steps": 0.0},
        "replay": {"dataset": dataset, "share": 0.25}, **own,
    }  # fmt: skip
    return FinetuneConfig.model_validate_json(json.dumps(section))


def mix(config: FinetuneConfig) -> tuple[Splits, Splits, Replay, list[str]]:
    """The splits before and after, and the texts that were mixed in."""
    tokenizer = Tokenizer.open(config, resolve_model(config.model)).own
    template = TokenizerTemplate(tokenizer)
    assert config.data
    assert config.replay
    before = load_splits(config.data, template, Limit(LENGTH))
    replay = Replay(open_dataset(config.replay.dataset), config, template)
    after = replay.mix_into(before, config.data)
    added = after.train.select(range(len(before.train), len(after.train)))
    return before, after, replay, [tokenizer.decode(row["input_ids"]) for row in added]


def test_documents_are_learnt_whole_up_to_their_share(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "towns.jsonl", [{"text": town(n)} for n in range(200)])
    one = config(tiny_model, data, tmp_path, str(path))

    before, after, replay, texts = mix(one)

    done, given = replay.done, before.counts.tokens
    rows = after.train[len(before.train) :]
    longest = max(map(len, rows["input_ids"]))
    assert done.tokens == sum(map(len, rows["input_ids"]))
    assert done.rows == len(texts) > 3
    assert 0 <= done.tokens - given / 3 < longest  # a quarter of all is a third of the rest
    assert done.share == done.tokens / (done.tokens + given)
    for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True):
        assert [label for label in labels if label != IGNORED] == ids[-len(labels) + 1 :]
    held_out = {
        example.completion
        for split in ("validation", "test")
        for example in open_dataset(str(path)).in_split(split, SplitConfig())
    }
    assert held_out
    assert not any(text in drawn for text in held_out for drawn in texts)
    assert mix(one)[3] == texts
    assert mix(one.model_copy(update={"seed": 1}))[3] != texts


def test_questions_are_learnt_as_in_training_and_long_documents_lose_their_end(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    asked = [{"question": f"Where is {n}?", "answer": f"in {town(n, 4)}"} for n in range(60)]
    write_rows(tmp_path / "both.jsonl", [*asked, *({"text": town(n, 900)} for n in range(60))])

    before, after, replay, texts = mix(
        config(tiny_model, data, tmp_path, str(tmp_path / "both.jsonl"))
    )

    rows = after.train[len(before.train) :]
    long = [n for n, ids in enumerate(rows["input_ids"]) if len(ids) == LENGTH]
    assert len(long) == replay.done.cut > 0
    assert all("Town" in texts[n][:12] for n in long)
    for n in set(range(len(texts))) - set(long):
        asked_tokens = rows["labels"][n].count(IGNORED)
        assert 5 < asked_tokens < len(rows["labels"][n]) - 5
        assert "Where is" in texts[n]


def test_rows_fit_among_rows_with_images(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "towns.jsonl", [{"text": town(n)} for n in range(60)])
    one = config(tiny_model, data, tmp_path, str(path))
    template = TokenizerTemplate(Tokenizer.open(one, resolve_model(one.model)).own)
    splits = load_splits(data, template, Limit(LENGTH))
    marks = splits.train.add_column(
        "token_type_ids", splits.train["input_ids"], feature=splits.train.features["input_ids"]
    )
    seen = marks.add_column("image_paths", [["a.png"]] * len(marks))

    replay = Replay(open_dataset(str(path)), one, template)
    mixed = replay.mix_into(replace(splits, train=seen), data).train

    last = mixed[len(mixed) - 1]
    assert last["image_paths"] is None
    assert last["token_type_ids"] == [0] * len(last["input_ids"])
    assert mixed[0]["image_paths"] == ["a.png"]


def test_text_of_held_out_rows_is_not_replayed(tiny_model: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for name in ("train", "validation"):
        asked = [Example(f"t/{n}", "t", str(n), (), town(n)) for n in range(40)]
        write_jsonl(prepared / f"{name}.jsonl", map(to_json, asked))
    rows = [{"text": f"Copied. {town(n)}"} for n in range(60)]
    path = write_rows(tmp_path / "towns.jsonl", rows)

    *_, replay, texts = mix(config(tiny_model, prepared, tmp_path, str(path)))

    numbers = {int(text.split("Town ")[1].split(":")[0]) for text in texts}
    assert replay.done.held_out > 5
    assert numbers
    assert min(numbers) >= 40


def test_its_terms_and_identity_follow(
    tiny_model: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "datasets" / "towns"
    write_rows(folder / "towns.jsonl", [{"text": town(n)} for n in range(10)])
    (folder / "dataset.yaml").write_text(
        "title: Towns\nshape: columns\nlicence: CC-BY-4.0\naccess: non-commercial\n"
    )

    manifest = finetune(
        config(tiny_model, data, tmp_path, "towns", replay={"dataset": "towns", "share": 0.5})
    )

    (term,) = manifest.data_terms
    assert (term.dataset, term.licence, term.access) == ("towns", "CC-BY-4.0", "non-commercial")
    parent = open_dataset("towns").parent
    assert parent.identity in {each.identity for each in manifest.parents}
    done = manifest.results["replay"]
    counts = manifest.results["rows"]
    assert 5 < done["rows"] < 12
    assert done["share"] == done["tokens"] / (done["tokens"] + counts["tokens"]) < 0.5
    assert counts["examples"] == len(list(read_examples(data / "train.jsonl")))
    said = capfd.readouterr().err
    assert "towns has no more to replay" in said
    assert "where 50.0% were asked for" in said
    assert manifest.settings["replay"] == {"share": 0.5}
    assert manifest.settings["split"] == SplitConfig().model_dump()
    assert Manifest.read(tmp_path / "out").identity == manifest.identity


def test_a_dataset_that_is_not_here_is_known_before_the_model_is_read(
    data: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "no-model"

    with pytest.raises(ConfigError, match="unknown dataset 'wikitxt'"):
        finetune(config(nowhere, data, tmp_path, "wikitxt"))
    with pytest.raises(DataError, match="mimic-iv-note"):
        finetune(config(nowhere, data, tmp_path, "mimic_iv_note_discharge"))
