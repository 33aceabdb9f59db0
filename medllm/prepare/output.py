"""The files of a prepared dataset: its rows by split, and the ids and reasons of all others."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medllm.artifacts.manifest import IMAGES
from medllm.data.example import open_private, write_jsonl, write_row
from medllm.data.readers.csv_form import CSV_COLUMNS
from medllm.data.split import SPLITS
from medllm.prepare.shard import STEP_COLUMNS, Meta, Plan
from medllm.prepare.verdicts import REASONS, Verdicts


def write_splits(plan: Plan, folder: Path, verdicts: Verdicts) -> None:
    """Put each row that stays into the file of its split, in the order of the source."""
    with ExitStack() as stack:
        files = [_open(stack, plan, folder, split, CSV_COLUMNS) for split in SPLITS]
        for number in range(len(verdicts.starts) - 1):
            shard = verdicts.shard(number)
            data = memoryview(plan.path(number, "rows").read_bytes())
            begin = 0
            for split, end, reason in zip(
                verdicts.columns["split"][shard].tolist(),
                verdicts.columns["end"][shard].tolist(),
                verdicts.reason[shard].tolist(),
                strict=True,
            ):
                if not reason:
                    files[split].write(data[begin:end])
                begin = end


def write_rejected(plan: Plan, folder: Path, verdicts: Verdicts) -> Counter[str]:
    """Write `rejected/<dataset>.jsonl`: id and reason of each row that was left out, never text."""
    counts: Counter[str] = Counter()
    (folder / "rejected").mkdir(exist_ok=True)
    with ExitStack() as stack:
        files = [
            stack.enter_context(open_private(folder / "rejected" / f"{dataset.name}.jsonl"))
            for dataset in plan.datasets
        ]
        for number, meta in enumerate(metas(plan, verdicts)):
            shard = verdicts.shard(number)
            judged = zip(
                verdicts.columns["dataset"][shard].tolist(),
                meta.ids,
                (REASONS[reason] for reason in verdicts.reason[shard].tolist()),
                strict=True,
            )
            for which, identity, reason in (*meta.rejected, *judged):
                if reason:
                    counts[reason] += 1
                    write_row(files[which], {"id": identity, "reason": reason})
    return counts


def write_overlaps(plan: Plan, folder: Path, verdicts: Verdicts) -> None:
    """Write `contamination.jsonl`: which training row holds how much of which held-out row."""
    wanted = {row for found in verdicts.overlaps for row in found[:2]}
    ids: dict[int, str] = {}
    for number, meta in enumerate(metas(plan, verdicts)) if wanted else ():
        start = int(verdicts.starts[number])
        ids |= {start + n: name for n, name in enumerate(meta.ids) if start + n in wanted}
    rows = (
        {"id": ids[row], "held_out": ids[other], "share": round(share, 3)}
        for row, other, share in sorted(verdicts.overlaps)
    )
    write_jsonl(folder / "contamination.jsonl", rows)


def write_steps(plan: Plan, folder: Path, verdicts: Verdicts) -> None:
    """Write each step's text of each row that was read, where that was asked for."""
    if not plan.config.keep_steps:
        return
    with ExitStack() as stack:
        file = _open(stack, plan, folder, "steps", STEP_COLUMNS)
        for number in range(len(verdicts.starts) - 1):
            with plan.path(number, "steps").open("rb") as steps:
                shutil.copyfileobj(steps, file)


def link_images(plan: Plan, folder: Path, images: Sequence[int]) -> None:
    """Put a link to the folder of each dataset with images where its rows name them."""
    for dataset, rows in zip(plan.datasets, images, strict=True):
        if rows:
            (folder / IMAGES).mkdir(exist_ok=True)
            link = folder / IMAGES / dataset.name
            link.unlink(missing_ok=True)
            link.symlink_to(dataset.folder.absolute(), target_is_directory=True)


def metas(plan: Plan, verdicts: Verdicts) -> Iterator[Meta]:
    """The small files of the shards, one at a time: together they hold the ids of the corpus."""
    for number in range(len(verdicts.starts) - 1):
        yield Meta.read(plan.path(number, "json"))


def read_samples(plan: Plan, verdicts: Verdicts, count: int) -> Iterator[str]:
    """Some rows of the training file, as they were written."""
    for row in np.flatnonzero(verdicts.in_split("train"))[:count].tolist():
        number = int(np.searchsorted(verdicts.starts, row, side="right")) - 1
        ends = verdicts.columns["end"]
        begin = int(ends[row - 1]) if row > verdicts.starts[number] else 0
        with plan.path(number, "rows").open("rb") as file:
            file.seek(begin)
            yield file.read(int(ends[row]) - begin).decode()


def _open(
    stack: ExitStack, plan: Plan, folder: Path, name: str, columns: Sequence[str]
) -> BinaryIO:
    """A new file of the result; CSV begins with its header."""
    ending = "csv" if plan.config.format == "csv" else "jsonl"
    file = stack.enter_context(open_private(folder / f"{name}.{ending}")).buffer
    if plan.config.format == "csv":
        file.write(",".join(columns).encode() + b"\n")
    return file
