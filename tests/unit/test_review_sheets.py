"""A blinded sheet goes out, is filled in, and comes back; and whatever may happen to it."""

import csv
import json
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from medllm.artifacts.digest import digest_file
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import Input
from medllm.artifacts.manifest import Counts, Parent
from medllm.cli.main import run_command
from medllm.data.example import read_jsonl, write_jsonl
from medllm.generate.config import GenerateConfig

DOCUMENTED = Path(__file__).parents[1] / "integration" / "documented.py"
read_result = runpy.run_path(str(DOCUMENTED))["read_result"]
ITEMS = 12
FORMULA = '=HYPERLINK("http://x","y")'
Row = dict[str, str]


def answer_file(folder: Path, name: str, say: Callable[[int], str | None]) -> Path:
    """What generate would write for a file of questions, without a model."""
    source = folder / "questions.jsonl"
    write_jsonl(source, ({"id": f"q{n}", "prompt": f"Question {n}?"} for n in range(ITEMS)))
    parent = Parent(kind="source", path=str(source), identity=digest_file(source))
    config = GenerateConfig(input=source, output=folder / name, system=name)
    job = Job.of(config, "generation", "generate", "jsonl", Input(source, None, parent))

    def write(output: Path) -> Outcome:
        rows = ({"id": f"q{n}", "answer": say(n), "finish_reason": "stop"} for n in range(ITEMS))
        write_jsonl(output / "generations.jsonl", rows)
        return Outcome(Counts(examples=ITEMS), {}, {})

    produce(job, write)
    return folder / name


@pytest.fixture
def home(own_places: Path) -> Path:
    """A folder with the answers of two models, and a sheet of them."""
    answer_file(own_places, "zeta", lambda n: f"Old says {n}." if n else FORMULA)
    answer_file(own_places, "iota", lambda n: f"New, {n}:\n- rest" if n != 5 else None)
    assert run_command(["evaluate", "--review-sheet", "zeta", "iota", "--output", "sheet"]) == 0
    return own_places


def rows_of(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def save(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def fill(row: Row, *, likes: str = "New", harm: int = 0) -> Row:
    """A row by somebody who prefers the answers of the new model, or those of the old one."""
    is_new_first = row["answer A"].startswith("New")
    better = "A" if is_new_first == (likes == "New") else "B"
    filled = dict(row)
    for letter in "AB":
        filled[f"helpfulness {letter} (1-5)"] = "5" if letter == better else "2"
        filled[f"accuracy {letter} (1-5)"] = "4"
        filled[f"harm {letter} (0-3)"] = str(harm)
    return {**filled, "preference (A, B or tie)": better, "comment": "=1+1"}


def test_a_sheet_is_blind_and_runs_no_formula(home: Path) -> None:
    sheet = home / "sheet" / "for_raters"
    text = (sheet / "review.csv").read_text(encoding="utf-8")
    rows, key = rows_of(sheet / "review.csv"), json.loads((home / "sheet/key.json").read_text())

    assert len(rows) == ITEMS - 1, "one has no answer of the new model"
    assert {path.name for path in sheet.iterdir()} == {"review.csv", "review.html"}
    assert "zeta" not in text and "q1" not in text
    page = (sheet / "review.html").read_text(encoding="utf-8")
    assert "zeta" not in page and page.count("<section") == ITEMS - 1
    assert "HYPERLINK(&#34;" in page
    told = [cell for row in rows for cell in row.values()]
    assert f"'{FORMULA}" in told and not any(cell.startswith("=") for cell in told)
    orders = [tuple(item["order"]) for item in key["items"].values()]
    assert sorted([orders.count((0, 1)), orders.count((1, 0))]) == [5, 6]
    for path in (home / "sheet/key.json", *sheet.iterdir()):
        assert path.stat().st_mode & 0o777 == 0o600
    first = [row["question"] for row in rows]
    assert run_command(["evaluate", "--review-sheet", "zeta", "iota", "--output", "again"]) == 0
    assert [row["question"] for row in rows_of(home / "again/for_raters/review.csv")] != first


def test_ratings_are_unblinded_with_agreement_and_preference(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(home / "sheet/for_raters/review.csv")
    anna = save(home / "anna.csv", [fill(row) for row in rows[::-1]])  # sorted otherwise
    ben = [fill(row, likes="New" if n else "Old", harm=n % 2) for n, row in enumerate(rows)]
    save(home / "ben.csv", ben[:9])  # who left out some

    capfd.readouterr()
    assert run_command(["evaluate", "--ratings", "sheet", "anna.csv", "ben.csv", "--json"]) == 0

    found = json.loads((home / "sheet/ratings.json").read_text(encoding="utf-8"))
    assert read_result(capfd.readouterr().out, "evaluate --ratings")["ratings"] == found
    assert run_command(["evaluate", "--ratings", "sheet", "anna.csv", "ben.csv"]) == 0
    assert (found["items"], found["of"]) == (11, 11)
    assert found["raters"] == [{"rater": "anna", "items": 11}, {"rater": "ben", "items": 9}]
    means = {(row["output"], row["of"]): row["value"] for row in found["ratings"]}
    old, new = found["outputs"]
    assert old.endswith("zeta") and means[new, "helpfulness"] > means[old, "helpfulness"] + 2
    (preferred,) = found["preferences"]
    assert (preferred["first"], preferred["second"], preferred["even"]) == (10, 0, 1)
    assert preferred["preferred"] == new and preferred["p"] == pytest.approx(2 / 2**10)
    agreed = {row["of"]: row for row in found["agreement"]}
    assert agreed["helpfulness"]["statistic"] == "Cohen's kappa, quadratic weights"
    assert agreed["helpfulness"]["items"] == 18 and agreed["preference"]["items"] == 9
    assert agreed["accuracy"]["kappa"] is None, "all ratings are one"
    page = (home / "sheet/ratings.html").read_text(encoding="utf-8")
    assert "Agreement between people" in page
    shown = capfd.readouterr().out
    for told in (page, shown):
        assert "helpfulness" in told and "Question" not in told and "says" not in told
    assert anna.read_text(encoding="utf-8").count("'=HYPER") == 1


def spoil(rows: list[Row], how: str) -> list[Row]:
    column = "helpfulness A (1-5)"
    if how == "half":
        rows[2][column] = ""
    elif how == "double":
        rows.append(rows[0])
    elif how == "sorted apart":
        texts = [row["answer A"] for row in rows]
        rows = [{**row, "answer A": text} for row, text in zip(rows, texts[::-1], strict=True)]
    elif how == "range":
        rows[1][column] = "6"
    elif how == "word":
        rows[1]["preference (A, B or tie)"] = "left"
    elif how == "other":
        rows[0]["item"] = "R99-abcd"
    elif how == "column":
        rows = [{key: cell for key, cell in row.items() if key != column} for row in rows]
    elif how == "empty":
        rows = [{key: "" if "(" in key else cell for key, cell in row.items()} for row in rows]
    return rows


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("half", "is rated in part"),
        ("double", "stands twice"),
        ("sorted apart", "are not those that were to be rated"),
        ("range", "helpfulness A (1-5) is '6'"),
        ("word", "is 'left'"),
        ("other", "no item 'R99-abcd' in this sheet"),
        ("column", "it has no column 'helpfulness A (1-5)'"),
        ("empty", "nothing is rated in it"),
    ],
)
def test_a_sheet_that_came_to_harm_is_an_error_that_says_where(
    home: Path, capfd: pytest.CaptureFixture[str], how: str, message: str
) -> None:
    rows = [fill(row) for row in rows_of(home / "sheet/for_raters/review.csv")]
    save(home / "anna.csv", spoil(rows, how))

    assert run_command(["evaluate", "--ratings", "sheet", "anna.csv"]) == 3

    assert message in capfd.readouterr().err
    assert not (home / "sheet/ratings.json").exists()


def test_copies_and_other_keys_are_told(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [fill(row) for row in rows_of(home / "sheet/for_raters/review.csv")]
    save(home / "anna.csv", rows)
    save(home / "copy.csv", rows)
    run_command(["evaluate", "--review-sheet", "zeta", "iota", "--output", "other"])
    capfd.readouterr()

    assert run_command(["evaluate", "--ratings", "sheet", "anna.csv", "copy.csv"]) == 3
    assert "anna and copy hold the same ratings" in capfd.readouterr().err
    assert run_command(["evaluate", "--ratings", "other", "anna.csv"]) == 3
    assert "in this sheet" in capfd.readouterr().err
    key = home / "sheet/key.json"
    key.write_text(key.read_text().replace("[\n    0,\n    1\n   ]", "[\n    1,\n    0\n   ]", 1))
    assert run_command(["evaluate", "--ratings", "sheet", "anna.csv"]) == 4
    assert "was altered or damaged" in capfd.readouterr().err
    assert run_command(["evaluate", "--ratings", "sheet"]) == 2
    assert run_command(["evaluate", "--ratings", "zeta", "anna.csv"]) == 4
    assert "holds no key" in capfd.readouterr().err


def test_what_a_spreadsheet_writes_is_read(home: Path) -> None:
    rows = [fill(row) for row in rows_of(home / "sheet/for_raters/review.csv")]
    for row in rows:
        row["accuracy A (1-5)"] = "4,0"
        row["answer B"] = row["answer B"].replace("\n", "\r\n")
    with (home / "anna.csv").open("w", encoding="cp1252", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    ratings = [{key: cell for key, cell in row.items() if "answer" not in key and key != "question"}
               for row in rows]  # fmt: skip
    ratings[0]["helpfulness A (1-5)"] = "1"
    save(home / "ben.csv", ratings)  # as the page saves it

    assert run_command(["evaluate", "--ratings", "sheet", "anna.csv", "ben.csv"]) == 0

    found = json.loads((home / "sheet/ratings.json").read_text(encoding="utf-8"))
    assert [each["items"] for each in found["raters"]] == [11, 11]


def test_what_makes_no_sheet_is_said(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make = ["evaluate", "--review-sheet"]
    answer_file(home, "third", lambda n: f"Third {n}.")
    cases = [
        (["zeta"], 2, "2 to 8 models"), (["zeta", "zeta"], 2, "2 to 8 models"),
        (["zeta", "nowhere"], 4, "no such file"),
        (["zeta", "iota", "--limit", "0"], 2, "0"),
    ]  # fmt: skip
    for folders, code, message in cases:
        capfd.readouterr()
        assert run_command([*make, *folders, "--output", "none"]) == code
        assert message in capfd.readouterr().err
        assert not (home / "none").exists()
    assert run_command([*make, "zeta", "iota", "--output", "sheet"]) == 4
    assert run_command([*make, "zeta", "iota", "third", "--output", "three", "--limit", "6"]) == 0
    assert len(rows_of(home / "three/for_raters/review.csv")) == 6
    assert "answer C" in rows_of(home / "three/for_raters/review.csv")[0]
    questions = home / "questions.jsonl"
    kept = list(read_jsonl(questions))
    write_jsonl(questions, kept[1:])
    assert run_command([*make, "zeta", "iota", "--output", "none"]) == 3
    assert "it was changed" in capfd.readouterr().err
    write_jsonl(home / "kept.jsonl", kept)
    questions.unlink()
    assert run_command([*make, "zeta", "iota", "--output", "none"]) == 3
    moved = [*make, "zeta", "iota", "--data", "kept.jsonl", "--output", "moved"]
    assert run_command(moved) == 0
