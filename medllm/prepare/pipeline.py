"""One process reads, the others shape and clean: blocks of raw rows → finished shards."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from medllm import console
from medllm.data.registry.datasets import Dataset
from medllm.errors import SetupError
from medllm.models.hardware import count_cpus
from medllm.prepare.shard import Block, Plan, write_shard

BLOCK_ROWS = 5_000
BLOCK_CHARACTERS = 8_000_000
SCALAR_CHARACTERS = 4
DEEPEST = 8
MOST_WORKERS = 8
"""One reader feeds about so many, and each takes some 100 MiB."""


def write_shards(plan: Plan) -> int:
    """Write every shard that is not there yet; returns how many there are.

    The blocks depend on the data alone, so that a later run finds the same ones, with whatever
    number of workers. Data of one block are not worth starting processes for.
    """
    blocks = enumerate(_blocks(plan.datasets))
    first = list(islice(blocks, 3))
    read = sum(len(block) for _, block in first)
    total = read if len(first) < 3 else _expect_rows(plan.datasets, read)
    with console.progress("prepare: rows", total if len(first) > 1 else None) as advance:
        if len(first) > 1:
            return _in_processes(plan, chain(first, blocks), advance)
        for number, block in first:
            if not plan.is_done(number):
                write_shard(plan, number, block)
            advance(len(block))
    return len(first)


def _blocks(datasets: Sequence[Dataset]) -> Iterator[Block]:
    """The raw rows of all datasets, bounded by number and by size."""
    block: list[tuple[int, int, Any]] = []
    size = 0
    for which, dataset in enumerate(datasets):
        for number, row in enumerate(dataset.rows(), 1):
            block.append((which, number, row))
            size += sum(map(_size_of, row.values()))
            if len(block) == BLOCK_ROWS or size > BLOCK_CHARACTERS:
                yield block
                block, size = [], 0
    if block:
        yield block


def _size_of(value: Any, depth: int = 0) -> int:
    """About how many characters a value has; what is nested deeper than a few levels has none."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return SCALAR_CHARACTERS
    return sum(_size_of(one, depth + 1) for one in value) if depth < DEEPEST else 0


def _in_processes(
    plan: Plan, blocks: Iterable[tuple[int, Block]], advance: Callable[[int], None]
) -> int:
    """Hand the blocks to workers, a few ahead of them; returns how many there were."""
    workers = plan.config.workers or min(count_cpus(), MOST_WORKERS)
    count = 0
    # spawned, not forked: the caller may have threads, as torch has, and they would not survive
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (plan,))
    running: dict[Future[None], int] = {}
    try:
        for number, block in blocks:
            count += 1
            if plan.is_done(number):
                advance(len(block))
                continue
            running[pool.submit(_work, number, block)] = len(block)
            if len(running) > workers + 1:
                _collect(running, advance)
        while running:
            _collect(running, advance)
    except BrokenProcessPool:
        raise SetupError(
            "a worker process of prepare was ended from outside, or could not start",
            "free some memory or lower `prepare.workers`, then run the same command again; "
            "in a script, call it below `if __name__ == '__main__':`",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return count


def _collect(running: dict[Future[None], int], advance: Callable[[int], None]) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        rows = running.pop(future)
        future.result()
        advance(rows)


_plan: list[Plan] = []
"""In a worker: what it knows."""


def _start_worker(plan: Plan) -> None:
    _plan.append(plan)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent was killed; else a worker would wait for work for ever."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _work(number: int, block: Block) -> None:
    write_shard(_plan[0], number, block)


def _expect_rows(datasets: Sequence[Dataset], rows: int) -> int | None:
    """About how many rows there are, where `rows` were just read; None where nobody can tell."""
    files = [path for dataset in datasets for path in dataset.files]
    read = _bytes_read(files)
    if read and all(dataset.files for dataset in datasets):
        return round(rows * sum(path.stat().st_size for path in files) / read)
    known = [dataset.spec.expected_rows for dataset in datasets]
    return sum(filter(None, known)) if all(known) else None


def _bytes_read(files: Sequence[Path]) -> int:
    """How far this process has come in some files that it reads in order; 0 where it is unknown."""
    for link in Path("/proc/self/fd").glob("*"):  # Linux tells; elsewhere there is no time left
        try:
            place = link.readlink()
            before = [path.resolve() for path in files].index(place)
            position = Path("/proc/self/fdinfo", link.name).read_text(encoding="utf-8").split()[1]
        except (OSError, ValueError):
            continue
        return sum(path.stat().st_size for path in files[:before]) + int(position)
    return 0
