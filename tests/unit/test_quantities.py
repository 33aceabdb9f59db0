"""The table of quantities: what ships is what is written, rows are checked, units convert."""

import json
from decimal import Decimal
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from medllm.clinical.measurements.quantities import check_quantities, convert, quantities, quantity
from medllm.clinical.measurements.units import kind_of, read_unit
from medllm.errors import ConfigError, DataError

BUILD = run_path(str(Path(__file__).parents[2] / "scripts" / "build_knowledge.py"))
ROW: dict[str, Any] = {
    "name": "sodium", "names": ["sodium"], "unit": "mmol/L", "possible": [80, 220],
    "source": "NBME", "verified": True,
}  # fmt: skip


def test_every_row_has_a_source_and_a_range_that_its_bare_numbers_lie_in() -> None:
    for each in quantities().values():
        assert each.source and each.names and kind_of(each.unit)
        for unit, (low, high) in each.bare.items():
            assert each.is_possible(each.to_usual(low, unit)) or low < 1, each.name
            assert low < high


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"source": ""}, "no source"),
        ({"verified": None}, "no verified"),
        ({"unit": "furlong"}, "unknown unit 'furlong'"),
        ({"other": {"mEq/bottle": [1]}}, "unknown unit 'mEq/bottle'"),
        ({"possible": [220, 80]}, "no range"),
        ({"posible": [1, 2]}, "unknown column 'posible'"),
    ],
)
def test_a_wrong_row_is_named_with_its_place(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=f"^rules.yaml:7: .*{fault}"):
        check_quantities([("rules.yaml:7", {**ROW, **change})])


def test_a_name_that_is_there_twice_is_named() -> None:
    with pytest.raises(ConfigError, match="rules.yaml:8: 'sodium' is there twice"):
        check_quantities([("rules.yaml:7", ROW), ("rules.yaml:8", ROW)])


def test_a_file_with_a_wrong_row_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("quantities:\n  - " + json.dumps({**ROW, "unit": "x"}) + "\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="own.yaml:2: unknown unit 'x'"):
        BUILD["read_quantities"](path)


@pytest.mark.parametrize(
    ("name", "value", "unit", "usual"),
    [
        ("glucose", "10", "mmol/L", "180.148"),
        ("body temperature", "98.6", "°F", "37"),
        ("body temperature", "101.8", "°F", "38.7778"),
        ("haemoglobin", "72", "g/L", "7.2"),
        ("white cell count", "12000", "cells/microL", "12"),
        ("platelets", "1.5e11", "cells/L", "150"),
        ("creatinine", "88.4", "micromol/L", "1"),
        ("HbA1c", "48", "mmol/mol", "6.54158"),
        ("troponin", "40", "ng/L", "0.04"),
        ("body weight", "154", "lb", "69.8532"),
        ("body height", "70", "in", "177.8"),
        ("magnesium", "2.431", "mg/dL", "1"),
        ("systolic blood pressure", "16", "kPa", "120.01"),
        ("C-reactive protein", "1.2", "mg/dL", "12"),
        ("oxygen saturation", "0.94", "fraction", "94"),
    ],
)
def test_values_convert_to_the_usual_unit(name: str, value: str, unit: str, usual: str) -> None:
    assert convert(name, Decimal(value), unit) == Decimal(usual)


def test_an_unknown_unit_and_an_unknown_quantity_are_refused() -> None:
    with pytest.raises(DataError, match="haemoglobin: unknown unit 'mmHg'"):
        convert("haemoglobin", Decimal(1), "mmHg")
    with pytest.raises(DataError, match="no quantity 'hemoglobine'"):
        quantity("hemoglobine")


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("mcg", "microg"), ("µg", "microg"), ("UG", "microg"), ("mg/dl", "mg/dL"),
        ("MG/DL", "mg/dL"), ("mg%", "mg/dL"), ("bpm", "beats/min"),
        ("beats per minute", "beats/min"),
        ("breaths/min", "breaths/min"), ("/min", "/min"), ("mL/min/1.73m2", "mL/min/1.73 m2"),
        ("mg/24 h", "mg/day"), ("mcg/kg/min", "microg/kg/min"), ("IU/L", "U/L"), ("lbs", "lb"),
        ("wombats", ""), ("mg/wombat", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_unit_is_read_however_it_is_written(written: str, unit: str) -> None:
    assert read_unit(written) == unit
