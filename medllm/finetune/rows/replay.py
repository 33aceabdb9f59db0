"""Replay: rows of another dataset among the training rows, so that what they teach stays."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medllm import console
from medllm.data.dedup import OverlapIndex, encode_words, fingerprint
from medllm.data.example import Example, read_examples
from medllm.data.registry.datasets import Dataset, open_dataset
from medllm.data.sample import Ranked
from medllm.data.split import MUCH
from medllm.errors import DataError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.build import IGNORED, Limit, RowCounts, Splits, build_row
from medllm.models.chat.template import Template, encode_rendered, render_example


@dataclass
class Replayed:
    """What was replayed."""

    rows: int = 0
    tokens: int = 0
    share: float = 0.0
    """Of all training tokens, as far as the rows went."""
    cut: int = 0
    """Rows that did not fit: documents without their end, prompts without their middle."""
    too_long: int = 0
    """Rows left out, because their answer does not fit."""
    held_out: int = 0
    """Rows left out, because the validation or test file holds text of them, or their group."""


def open_replay(config: FinetuneConfig) -> Dataset | None:
    """The dataset to replay, if one is named.

    Raises:
        ConfigError: nobody knows its name.
        DataError: it is neither here nor reachable, or its agreement was not named.
    """
    if config.replay is None:
        return None
    ref = config.replay.dataset
    return open_dataset(ref, data_dir=config.data_dir, accepted=config.data_use)


class Replay:
    """Draws rows of a dataset's training split by seed, until they have their share of tokens."""

    def __init__(self, dataset: Dataset, config: FinetuneConfig, template: Template) -> None:
        self._dataset = dataset
        self._config = config
        self._template = template
        self.done = Replayed()

    def mix_into(self, splits: Splits, data: Path) -> Splits:
        """The splits with the drawn rows behind the training rows, which the trainer shuffles.

        `data` is the prepared folder: a row that holds much of a held-out text of it is left out.

        Raises:
            DataError: the dataset has no row to train on.
        """
        from datasets import Dataset as Rows
        from datasets import concatenate_datasets

        assert self._config.replay
        share, done = self._config.replay.share, self.done
        wanted = share / (1 - share) * splits.counts.tokens
        rows = list(self._take(wanted, data))
        if not rows:
            message = f"{self._dataset.name}: has no row to replay"
            raise DataError(message, "name another dataset as finetune.replay.dataset")
        done.share = done.tokens / (done.tokens + splits.counts.tokens)
        self._say(wanted, share)
        features = splits.train.features
        mixed = Rows.from_list([_as_trained(row, features) for row in rows], features=features)
        return replace(splits, train=concatenate_datasets([splits.train, mixed]))

    def _take(self, wanted: float, data: Path) -> Iterator[dict[str, list[int]]]:
        held_out, groups = _read_held_out(data)
        half_full = self._config.training.max_length / 2
        for pool in self._pools(int(wanted / half_full) + 1):
            copied = _overlapping(pool, held_out)
            for number, example in enumerate(pool):
                if self.done.tokens >= wanted:
                    return
                if number in copied or example.group_key in groups:
                    self.done.held_out += 1
                elif row := self._row(example):
                    self.done.rows += 1
                    self.done.tokens += len(row["input_ids"])
                    yield row

    def _pools(self, expected: int) -> Iterator[list[Example]]:
        """The examples of the training split, in the order of the seed; so many are `expected`."""
        dataset, split = self._dataset, self._config.split

        def stream() -> Iterator[tuple[str, Example]]:
            return (("train", each) for each in dataset.in_split("train", split) if not each.images)

        return Ranked(stream, self._config.seed).pools("train", expected)

    def _row(self, example: Example) -> dict[str, list[int]] | None:
        """A document is trained on from its beginning, a conversation as in training."""
        limit = Limit.of(self._config.training)
        if example.prompt:
            counts = RowCounts()
            row = build_row(example, self._template, limit, counts)
            self.done.cut += counts.truncated
            self.done.too_long += counts.too_long + counts.dropped
            return row
        begin, text = encode_rendered(self._template, render_example(self._template, example))
        room = limit.max_length - len(begin)
        self.done.cut += len(text) > room
        return {"input_ids": begin + text[:room], "labels": [IGNORED] * len(begin) + text[:room]}

    def _say(self, wanted: float, share: float) -> None:
        name, done = self._dataset.name, self.done
        console.notice(f"finetune: {done.rows} rows, {done.tokens} tokens of {name} are replayed")
        if done.tokens < wanted:
            console.notice(
                f"finetune: {name} has no more to replay: they are {done.share:.1%} of the "
                f"training tokens, where {share:.1%} were asked for"
            )
        if done.cut:
            length = self._config.training.max_length
            console.notice(f"finetune: {done.cut} of them were cut to fit {length} tokens")

    @property
    def results(self) -> dict[str, Any]:
        """What was replayed, as plain data."""
        return asdict(self.done)


def _as_trained(row: dict[str, list[int]], features: Mapping[str, Any]) -> dict[str, Any]:
    """A row with all columns of the training rows: it holds no image and no mark of one."""
    unmarked = [0] * len(row["input_ids"])
    is_mark = {name: kind == features["input_ids"] for name, kind in features.items()}
    return {name: unmarked if is_mark[name] else None for name in features} | row


def _read_held_out(data: Path) -> tuple[OverlapIndex | None, frozenset[str]]:
    """What the held-out files of a prepared folder say, to be found again, and their groups."""
    paths = (data / f"{split}.jsonl" for split in ("validation", "test"))
    found = (path for path in paths if path.is_file())
    texts, groups = [], set()
    for example in (example for path in found for example in read_examples(path)):
        texts.append(encode_words(example.text))
        groups.add(example.group_key)
    return OverlapIndex(*fingerprint(texts)) if texts else None, frozenset(groups)


def _overlapping(pool: list[Example], held_out: OverlapIndex | None) -> set[int]:
    """The places of the examples that hold much of a held-out text."""
    if held_out is None or not pool:
        return set()
    prints = fingerprint([encode_words(example.text) for example in pool])
    return {row for row, _, _ in held_out.overlaps(*prints, MUCH)}
