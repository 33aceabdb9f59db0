"""What the data hold that no model will see: columns not read, turns that were cut off."""

from collections import Counter
from collections.abc import Mapping

from medllm import console

LONGEST_NAME = 40
OTHERS = "(others)"
"""Stands for names that may be text of data: those of one row alone, long ones, odd ones."""
MOST_NAMES = 12
"""So many columns are named on the screen; `statistics.json` and the report name all."""


def name_columns(counts: Counter[str], rows: int) -> dict[str, int]:
    """The columns that are counted in some of the rows, as far as their names may be told."""
    named: Counter[str] = Counter()
    for name, count in counts.most_common():
        is_name = len(name) <= LONGEST_NAME and name.isprintable()
        named[name if is_name and count >= min(2, rows) else OTHERS] += count
    return dict(named)


def describe_columns(named: dict[str, int]) -> str:
    """The columns and their numbers of rows, in a line."""
    shown = [
        f"{name} ({console.counted(count, 'row')})" for name, count in [*named.items()][:MOST_NAMES]
    ]
    more = len(named) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def announce(unused: Mapping[str, dict[str, int]], cut: int, undated: int, garbled: int) -> None:
    """Say what of each dataset no model will see, which texts are garbled, which have no time."""
    if garbled:
        told = f"{console.counted(garbled, 'row')} with letters like Ã¤ or Â°"
        console.notice(f"prepare: {told}: an earlier program read UTF-8 as another encoding; they "
                       "stay as they are, so export them anew")  # fmt: skip
    for dataset, named in unused.items():
        columns = describe_columns(named)
        console.notice(f"prepare: {dataset}: columns that no model will see: {columns}")
    if cut:
        console.notice(f"prepare: {cut:,} conversations were cut after their last answer")
    if undated:
        told = f"{console.counted(undated, 'row')} without a time that can be read (ISO 8601)"
        console.notice(f"prepare: {told} may be newer than what is held out, and are trained on")
