"""No number and no negation is lost between a raw file and train.jsonl, whatever its format."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from medllm.data.example import read_jsonl
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare

pytestmark = pytest.mark.usefixtures("own_cache")

TEXTS = {
    "1\x002 mg": "1 2 mg",
    "1\x1f2 mg": "1 2 mg",
    "1\u200b2 mg or 1\ufeff2 mg": "1\u200b2 mg or 1\ufeff2 mg",
    "no\x00fever, no\u200bpain": "no fever, no pain",
    "can\x92t take 5\x9610 mg": "can’t take 5–10 mg",
    "un\u00adremark\u00adable, 5\u00ad10": "un\u00adremark\u00adable, 5\u00ad10",
    "10² cells, 10⁶/l, ½ tablet": "10² cells, 10⁶/l, ½ tablet",
    "ﬁbrosis F3, 5 ㎎, ≥ 5 µg, ≤ 5 μg": "ﬁbrosis F3, 5 ㎎, ≥ 5 µg, ≤ 5 μg",
    "0,5 ml, 1.000,5, 1 000": "0,5 ml, 1.000,5, 1 000",
    "1\u202f000 IE, 1\u2009000, 1\u00a0000": "1 000 IE, 1 000, 1 000",
    "37,2 ± 0.1 °C, 5 − 3, -5, +5, ~5, <5, >5": "37,2 ± 0.1 °C, 5 − 3, -5, +5, ~5, <5, >5",
    "K\t5.9\tNa\t\t138": "K 5.9 Na  138",
    "1\u20282 mg, 3\x854 mg, 5\x0c6": "1\n2 mg, 3\n4 mg, 5\n6",
    "-5 mg, not +5 mg": "-5 mg, not +5 mg",
    "=5 mg": "=5 mg",
    "@ 5 mg, 5%": "@ 5 mg, 5%",
    "'5 mg'": "'5 mg'",
    "denies pain; kein Fieber; pas de fièvre": "denies pain; kein Fieber; pas de fièvre",
    "Pas de ﬁèvre e\u0301leve\u0301e 38,5": "Pas de ﬁèvre élevée 38,5",
    "٥ mg, ５ mg, Ⅳ": "٥ mg, ５ mg, Ⅳ",
    "5 mg\\n not a line": "5 mg\\n not a line",
    'says "no" 5"': 'says "no" 5"',
    "NaN, None, null, 0": "NaN, None, null, 0",
    "Name: Anna 5\nno": "Name: Anna 5\nno",
    "😀 5 mg": "😀 5 mg",
}


def rows() -> list[dict[str, Any]]:
    return [
        {"id": f"{n}", "question": f"What of {text} in bed {n}?", "answer": text}
        for n, text in enumerate(TEXTS)
    ]


def write(path: Path) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows(), ensure_ascii=True), encoding="utf-8")
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows()), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, list(rows()[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows())


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_numbers_and_negations_come_through(tmp_path: Path, ending: str, format: str) -> None:
    write(tmp_path / f"doses.{ending}")
    data = str(tmp_path / f"doses.{ending}")
    split = {"validation": 0.0, "test": 0.0}

    prepare(
        PrepareConfig.model_validate(
            {"datasets": (data,), "output": tmp_path / "out", "format": format, "split": split}
        )
    )

    found = read_written(tmp_path / f"out/train.{format}")
    assert found == {
        f"{n}": (f"What of {after} in bed {n}?", after) for n, after in enumerate(TEXTS.values())
    }
    for (asked, said), before in zip(found.values(), TEXTS, strict=True):
        assert re.findall(r"\d+", said) == re.findall(r"\d+", before)
        assert said in asked


def read_written(path: Path) -> dict[str, tuple[str, str]]:
    """The question and the answer of each row that was written, by the source's id."""
    if path.suffix == ".jsonl":
        kept = [
            (row["id"], row["prompt"][0]["content"], row["completion"]) for row in read_jsonl(path)
        ]
    else:
        with path.open(encoding="utf-8", newline="") as file:
            cells = [
                {k: re.sub(r"^'(?='*[=+\-@])", "", v) for k, v in row.items()}
                for row in csv.DictReader(file)
            ]
        kept = [(row["id"], row["prompt"], row["completion"]) for row in cells]
    return {identity.partition("/")[2]: (asked, said) for identity, asked, said in kept}
