"""One block of raw rows → one shard: the rows as they will be written, and what is known of each.

Runs in a worker process, imports nothing heavy, and needs nothing but its block. Of a shard's three
files the `.json` is written last: it is there when the shard is whole.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medllm.artifacts.digest import digest_file
from medllm.artifacts.manifest import IMAGES, write_atomically
from medllm.data.clean import clean, count_missing, parse_time, why_poor
from medllm.data.dedup import digest, digest_words, encode, fingerprint, split_words
from medllm.data.example import Example, Rejected, as_json, open_private, to_json, to_messages
from medllm.data.readers.csv_form import harmless, to_cells
from medllm.data.readers.rows import Row
from medllm.data.registry.datasets import Dataset
from medllm.data.shapes import CUT, images_at_hand, unasked, unread_columns
from medllm.data.shapes.values import is_missing
from medllm.data.split import SPLITS, UNDATED, official_split, rank
from medllm.prepare.config import PrepareConfig
from medllm.tasks.spec import TaskSpec
from medllm.tasks.words import name_of_task, put_as

Block = Sequence[tuple[int, int, Row]]
"""(number of the dataset, number of the row, raw row)."""
NO_SPLIT = "no official split"
"""Why a row is left out where only the source's own splits count."""
TIMES = ("charttime", "storetime", "date", "year")
LONGEST_LABEL = 40
BLANK: tuple[Any, ...] = ("", [], {})
ROWS_CUT = "turns after the last answer: rows cut"
"""How conversations are counted that somebody else than the model ends."""
COLUMNS: dict[str, Any] = {
    "id": np.uint64,
    "group": np.uint64,
    "digest": np.uint64,
    "prompt": np.uint64,
    "shown": np.uint64,
    "image": np.uint64,
    "order": np.float64,
    "time": np.int64,
    "end": np.uint64,
    "prints": np.uint32,
    "input_words": np.uint32,
    "target_words": np.uint32,
    "label": np.uint16,
    "task": np.uint16,
    "dataset": np.uint16,
    "kind": np.uint16,
    "split": np.uint8,
    "form": np.uint8,
}
"""What is known of each row: digests of id, group, words, prompt, the names of its images and what
is in the first (0 for none), its place in the draw, its time, where its bytes end, how many
fingerprints it has, lengths, and its label, task, dataset, kind of group, split and form by
number."""
FORMS = ("conversations", "plain texts", "rows with images")
"""What rows are to other trainers, which read files of one kind."""


@dataclass(frozen=True)
class Plan:
    """What every worker knows."""

    config: PrepareConfig
    datasets: tuple[Dataset, ...]
    tasks: Mapping[str, TaskSpec]
    """The tasks asked for; none: rows keep their own words."""
    task_names: tuple[str, ...]
    folder: Path
    """Where the shards go."""

    def path(self, number: int, ending: str) -> Path:
        """A file of a shard."""
        return self.folder / f"{number:06d}.{ending}"

    def is_done(self, number: int) -> bool:
        """Whether a shard is whole."""
        return self.path(number, "json").is_file()


@dataclass
class Meta:
    """The small file of a shard: what cannot stand in columns."""

    rows: int = 0
    ids: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=lambda: [""])
    kinds: list[str] = field(default_factory=lambda: [""])
    """What groups are ids of; the first is that of rows that stand alone."""
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    """(dataset, id, reason)."""
    counts: Counter[str] = field(default_factory=Counter)
    """What cleaning met and changed."""
    missing: list[Counter[str]] = field(default_factory=list)
    """For each dataset its columns, with how many rows hold nothing there."""
    unused: list[Counter[str]] = field(default_factory=list)
    """For each dataset the columns that no model will see, with how many rows hold something."""
    columns: list[Counter[str]] = field(default_factory=list)
    """For each dataset its columns, with how many of the rows that stand alone have them."""
    images: list[int] = field(default_factory=list)
    """For each dataset its rows with images."""

    @classmethod
    def empty(cls, datasets: int) -> "Meta":
        """That of a shard without rows, of so many datasets."""
        each = range(datasets)
        missing, unused, columns = ([Counter[str]() for _ in each] for _ in range(3))
        return cls(missing=missing, unused=unused, columns=columns, images=[0 for _ in each])

    @classmethod
    def read(cls, path: Path) -> "Meta":
        """The meta file of a finished shard."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


class ShardWriter:
    """Collects the rows of a shard, then writes it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        cleaning = plan.config.cleaning
        self._cleaning = [
            cleaning.model_copy(update={"marks": (*cleaning.marks, *dataset.spec.placeholders)})
            for dataset in plan.datasets
        ]
        self._meta = Meta.empty(len(plan.datasets))
        self._unread: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._columns: dict[str, Any] = {name: [] for name in COLUMNS}
        self._codes: list[NDArray[np.uint64]] = []
        self._rows: list[bytes] = []
        self._steps: list[bytes] = []
        self._bytes = 0

    def add(self, which: int, number: int, row: Row) -> None:
        """Take a raw row in, or note why not."""
        self._meta.rows += 1
        count_missing(row, self._meta.missing[which])
        dataset = self._plan.datasets[which]
        example = dataset.read(number, row)
        result = self._prepare(which, example, row) if isinstance(example, Example) else example
        if isinstance(result, Rejected):
            self._meta.rejected.append((which, result.id, result.reason))
        elif isinstance(example, Example) and not example.group_kind:
            self._meta.columns[which].update(map(str, row))

    def _prepare(self, which: int, example: Example, row: Row) -> Rejected | None:
        config, dataset = self._plan.config, self._plan.datasets[which]
        cleaning, counts = self._cleaning[which], self._meta.counts
        images = find_images(example, dataset, row)
        if images is None:
            return Rejected(example.id, "missing image")
        self._count_unused(which, example, row)
        split = place(example, dataset, config)
        if images:
            example = replace(example, images=tuple(place_of_image(p, dataset) for p in images))
        example, trail = clean(example, cleaning, counts)
        if config.keep_steps:
            self._keep_steps(example.id, trail)
        text, answer = example.text, example.completion
        words = split_words(text)
        if reason := why_poor(text, len(words), answer, cleaning, counts):
            return Rejected(example.id, reason)
        if split is None:
            return Rejected(example.id, NO_SPLIT)
        name = config.task or name_of_task(example, dataset.spec.task, self._plan.task_names)
        if config.tasks and name not in config.tasks:
            return Rejected(example.id, f"of another task ({name})")
        put = put_as(example, name, self._plan.tasks.get(name), config.system)
        if isinstance(put, Rejected):
            return put
        self._render(put)
        self._meta.images[which] += bool(put.images)
        self._codes.append(encode(words))
        target_words = len(split_words(answer)) if example.prompt else len(words)
        known = {
            "digest": digest_seen(text, example),
            "prompt": digest_prompt(example),
            "shown": digest_seen("", example) if images else 0,
            "image": int(digest_file(images[0])[:16], 16) if images else 0,
            "input_words": len(words) - target_words,
            "target_words": target_words,
            "dataset": which,
            "split": split,
            "task": self._plan.task_names.index(name),
        }
        self._describe(example, known | {"form": form_of(put)})
        return None

    def _count_unused(self, which: int, example: Example, row: Row) -> None:
        """Note what the row holds that is put before no model."""
        spec = self._plan.datasets[which].spec
        if spec.shape == "local":
            self._meta.unused[which].update(unasked(example))
            self._meta.counts[ROWS_CUT] += CUT in example.metadata
            return
        key = (which, *row)
        if (unread := self._unread.get(key)) is None:
            unread = self._unread[key] = unread_columns(spec.shape, spec.columns, key[1:])
        held = (name for name in unread if not (is_missing(row[name]) or row[name] in BLANK))
        self._meta.unused[which].update(map(str, held))

    def _keep_steps(self, identity: str, trail: Sequence[tuple[str, Sequence[str]]]) -> None:
        render = RENDERERS[self._plan.config.format]
        for step, texts in trail:
            row = (identity, step, "\n\n".join(texts[:-1]), texts[-1])
            self._steps.append(render(dict(zip(STEP_COLUMNS, row, strict=True))))

    def _render(self, example: Example) -> None:
        self._rows.append(render_example(example, self._plan.config.format))
        self._bytes += len(self._rows[-1])

    def _describe(self, example: Example, known: dict[str, Any]) -> None:
        """Note what is known of a row besides."""
        split = self._plan.config.split
        row = {
            "id": digest(example.id),
            "group": digest(example.group_key),
            "kind": number_of(example.group_kind, self._meta.kinds),
            "order": rank(example.id, self._plan.config.seed),
            "time": time_of(example, split.time) if split.by == "time" else UNDATED,
            "end": self._bytes,
            "label": self._label(example.target),
            **known,
        }
        for name, value in row.items():
            self._columns[name].append(value)
        self._meta.ids.append(example.id)

    def _label(self, target: str | None) -> int:
        labels = self._meta.labels
        if not target or len(target) > LONGEST_LABEL:
            return 0
        if target not in labels and len(labels) > 1000:  # not labels, then, but answers
            return 0
        return number_of(target, labels)

    def write(self, number: int) -> None:
        """Write the files of the shard."""
        plan, meta = self._plan, self._meta
        write_bytes(plan.path(number, "rows"), self._rows)
        if plan.config.keep_steps:
            write_bytes(plan.path(number, "steps"), self._steps)
        prints, self._columns["prints"] = fingerprint(self._codes)
        arrays = {name: np.array(self._columns[name], kind) for name, kind in COLUMNS.items()}
        np.savez(plan.path(number, "npz"), allow_pickle=False, fingerprints=prints, **arrays)
        write_atomically(plan.path(number, "json"), json.dumps(vars(meta)))


def write_shard(plan: Plan, number: int, block: Block) -> None:
    """Turn a block into a finished shard."""
    writer = ShardWriter(plan)
    for which, row_number, row in block:
        writer.add(which, row_number, row)
    writer.write(number)


def digest_seen(text: str, example: Example) -> int:
    """64 bits of a text, and of the names of the images beside it."""
    words = digest_words(text)
    return digest(f"{words} {example.images}") if example.images else words


def digest_prompt(example: Example) -> int:
    """64 bits of what an example asks, of its images too; 0 where it asks nothing."""
    if not example.prompt:
        return 0
    return digest_seen("\n".join(turn.content for turn in example.prompt), example)


def number_of(name: str, names: list[str]) -> int:
    """The place of a name among names; a new one is added."""
    if name not in names:
        names.append(name)
    return names.index(name)


def write_bytes(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file that only its owner can read."""
    with open_private(path) as file:
        file.buffer.writelines(parts)


def find_images(example: Example, dataset: Dataset, row: Row) -> list[Path] | None:
    """The files of an example's images, beside the row's own; None where one is missing.

    Another column of images counts where the files of the first are not there.
    """
    if not example.images:
        return []
    others = images_at_hand(dataset.spec.shape, dataset.spec.columns, row)
    choices = product((example.images, *others), dataset.folders_of(row))
    found = ([folder / image for image in images] for images, folder in choices)
    return next((paths for paths in found if all(map(os.path.isfile, paths))), None)


def place_of_image(path: Path, dataset: Dataset) -> str:
    """Its place below the prepared folder, where a link stands for the dataset's own folder.

    So the rows are the same wherever the data lie. A place outside that folder is as the row has
    it.
    """
    if not path.is_relative_to(dataset.folder):
        return str(path.absolute())
    return str(Path(IMAGES, dataset.name, path.relative_to(dataset.folder)))


def place(example: Example, dataset: Dataset, config: PrepareConfig) -> int | None:
    """The number of its split; by time it is settled later, None where there should be one."""
    split = config.split
    is_settled = dataset.test_ids or dataset.is_official_test(example)
    if split.by == "time" and not is_settled:
        return len(SPLITS)
    if split.by == "official" and not is_settled and not official_split(example):
        return None
    return SPLITS.index(dataset.split_of(example, split))


def time_of(example: Example, column: str | None) -> int:
    """The seconds of an example's time, or UNDATED."""
    values = (example.metadata.get(name) for name in ((column,) if column else TIMES))
    time = next(filter(None, map(parse_time, values)), None)
    return int(np.datetime64(time.isoformat()[:19], "s").astype(np.int64)) if time else UNDATED


def form_of(example: Example) -> int:
    """The number of its form."""
    if example.images:
        return FORMS.index("rows with images")
    return FORMS.index("conversations" if example.prompt else "plain texts")


def render_example(example: Example, format: str) -> bytes:
    """The example as a line of JSON, or as a row of CSV."""
    if format == "csv":
        return _render_csv(to_cells(example))
    return _render_json(to_messages(example) if format == "messages" else to_json(example))


STEP_COLUMNS = ("id", "step", "input", "target")


def _render_json(row: Mapping[str, Any]) -> bytes:
    return f"{as_json(row)}\n".encode("utf-8", "backslashreplace")


def _render_csv(row: Mapping[str, str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(map(harmless, row.values()))
    return buffer.getvalue().encode("utf-8", "replace")


RENDERERS: dict[str, Callable[[Mapping[str, Any]], bytes]] = {
    "jsonl": _render_json,
    "messages": _render_json,
    "csv": _render_csv,
}
