"""The checks of a calibration set: each passes or warns for what the set is."""

import re
from pathlib import Path
from typing import Any

from medllm.calibrate.analysis import Row, analyze_rows
from medllm.calibrate.overlap import find_overlaps
from medllm.calibrate.report import build_page
from medllm.data.mix import Mix
from medllm.data.registry.datasets import open_dataset
from medllm.data.split import SplitConfig

CLEAR = "walked to the market and bought some bread while the sun was rising over the harbour again"


def row(number: int, text: str, source: str = "ward") -> Row:
    return {"id": f"{source}/{number}", "text": text, "source": source, "tokens": 600}


def outcome(found: dict[str, Any], words: str) -> bool:
    """Whether the check with these words passed."""
    (passed,) = [check["passed"] for check in found["checks"] if words in check["found"]]
    return bool(passed)


def test_texts_in_windows_count_one_by_one() -> None:
    windows = [row(number, f"{number} {CLEAR}") for number in range(4)]

    packed = analyze_rows(windows, documents=600)
    single = analyze_rows(windows)

    assert outcome(packed, "600 texts in 4 windows, at least 512 wanted")
    assert not outcome(single, "4 texts, at least 512 wanted")


def test_a_page_tells_samples_from_the_texts_in_them() -> None:
    windows = [row(number, f"{number} {CLEAR}") for number in range(4)]
    mix = Mix(shares={"ward": 60, "notes": 40.5})

    def shown(**packed: int) -> str:
        found = analyze_rows(windows, **packed)
        page = build_page("Set", found, [600] * 4, {"mix": mix}, names_rows=True)
        return re.sub(r"<[^>]*>", " ", page.render())

    assert "ward 60, notes 40.5" in shown()
    assert re.search(r"samples +4 .* texts in them .* +600 ", shown(documents=600))
    assert "texts in them" not in shown()


def test_what_is_held_out_of_a_generated_dataset_is_an_evaluation_set(own_places: Path) -> None:
    name = "synthetic_radiology"
    splits: dict[str, list[Row]] = {}
    for split in ("train", "test"):
        drawn = open_dataset(name).in_split(split, SplitConfig())
        splits[split] = [row(n, next(drawn).text, name) for n in range(20)]

    assert find_overlaps(splits["train"], None, ()) == {name: []}
    assert find_overlaps(splits["test"], None, ()) == {
        name: sorted(r["id"] for r in splits["test"])
    }


def test_where_no_evaluation_set_is_here_the_overlap_is_not_known(own_places: Path) -> None:
    rows = [row(0, CLEAR)]

    found = analyze_rows(rows, overlaps=find_overlaps(rows, None, ()))

    assert not outcome(found, "overlap is not known")


def test_one_set_is_said_in_the_singular() -> None:
    found = analyze_rows([row(0, CLEAR)], overlaps={"ward": ()})

    assert outcome(found, "overlap with 1 evaluation set: none")
