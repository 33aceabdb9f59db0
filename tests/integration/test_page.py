"""Pages: everything escaped, nothing fetched."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from medllm.reports.page import Page
from medllm.reports.plots import MOST_BINS, draw_curves, draw_histogram


def build() -> Page:
    page = Page("A <report>", "It went <well>.", {"model": "a/b", "recipe": None})
    page.text("less < more & so on")
    page.table(("name", "n"), [("<b>", 12345), ("x", 0.12345)])
    page.check(True, "good")
    page.check(False, "bad")
    page.histogram("Tokens", [1, 2, 2, 3], "tokens")
    page.histogram("Both", {"input": [1, 2], "target": [3]}, "words")
    page.bars("Sources", {"a<b": 3, "c": 1})
    page.pre("<script>alert(1)</script>")
    return page


def test_what_is_put_in_is_escaped() -> None:
    html = build().render()

    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "A &lt;report&gt;" in html
    assert "a&lt;b" in html
    assert "12,345" in html


def test_a_page_stands_alone_and_is_the_same_each_time() -> None:
    html = build().render()

    assert html == build().render()
    assert html.count("<svg") == 3
    assert not re.search(r"(src|href)=\"(?!#)(?!http://www.w3.org)", html.replace("xlink:", ""))


@pytest.mark.parametrize("values", [[1] * 5, range(18, 60), [7, 300_000], [3.0, 3.0, 5.0]])
def test_each_bin_of_a_histogram_holds_as_many_whole_numbers(values: Sequence[float]) -> None:
    ((stairs,),) = [axes.patches for axes in draw_histogram({"n": values}, "words").axes]
    counts, edges, _ = stairs.get_data()  # type: ignore[attr-defined]

    assert sum(counts) == len(values)
    assert len(counts) <= MOST_BINS
    assert {edge % 1 for edge in edges} == {0.5}
    assert len({round(step, 6) for step in edges[1:] - edges[:-1]}) == 1


def test_no_two_of_many_series_look_alike() -> None:
    series = {str(n): [(0.0, n), (1.0, n)] for n in range(20)}

    (axes,) = draw_curves(series, "x", "y", dots=series).axes

    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 20


def test_a_label_is_drawn_as_it_stands() -> None:
    names = [
        "$^{$",
        "$x$",
        "\\frac$1",
        "_a",
        "x_1^2",
        "a\x1b[31mb\x00",
        "葡萄糖 \U0001f600",
        "w" * 300,
    ]
    page = Page("odd", "", {})
    page.bars("Bars", dict.fromkeys(names, 1))
    page.histogram("Histogram", {name: [1, 2] for name in names}, "words")
    page.curves("Curves", {name: [(1, 2), (2, 3)] for name in names}, "x", "y")
    page.dots("Dots", {name: [1, 2] for name in names}, "words")

    html = page.render()

    for drawn in ("$^{$", "$x$", "\\frac$1", " _a", "x_1^2", "葡萄糖", "w" * 39 + "…"):
        assert html.count(f">{drawn}") == 4, drawn
    assert not {"\x1b", "\x00"} & set(html)


def test_what_holds_nothing_is_left_out(tmp_path: Path) -> None:
    page = Page("empty", "", {})
    page.histogram("none", [], "tokens")
    page.bars("none", {})
    page.table(("why", "rows"), [])
    page.write(tmp_path / "report.html")

    assert "<svg" not in page.render()
    assert "<table" not in page.render()
    assert not (tmp_path / "plots").exists()


def test_it_begins_with_what_came_out_and_of_what() -> None:
    html = build().render()

    assert html.index("It went &lt;well&gt;.") < html.index("a/b") < html.index("less &lt; more")
    assert "recipe" not in html


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.000123456, "0.0001235"),
        (12_345.6, "12,346"),
        (2.7e12, "2,700,000,000,000"),
        (1_000_000, "1,000,000"),
        (0.5, "0.5"),
        (float("nan"), "nan"),
        (True, "yes"),
        (None, "not measured"),
    ],
)
def test_numbers_are_written_as_people_read_them(value: object, shown: str) -> None:
    page = Page("numbers", "", {})
    page.table(("", ""), [("figure", value)])

    assert f">{shown}</td>" in page.render()


def test_columns_of_numbers_are_right_aligned_with_their_heads() -> None:
    page = Page("numbers", "", {})
    page.table(("name", "size", "interval"), [("a", "1.5 MB", "1 – 2"), ("b", "12.5 MB", "2 – 3")])

    html = page.render()

    assert '<td class="number">1.5 MB</td>' in html
    assert '<th class="number">size</th>' in html
    assert 'class="number">1 – 2</td>' not in html


def test_each_plot_lies_beside_the_page_as_a_picture(tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/of-yesterday.png").write_bytes(b"")

    build().write(tmp_path / "report.html")

    pictures = sorted((tmp_path / "plots").iterdir())
    assert [path.name for path in pictures] == ["both.png", "sources.png", "tokens.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_plots_whose_titles_differ_in_other_letters_are_two_files(tmp_path: Path) -> None:
    page = Page("Scores", "Two.", {})
    for name in ("Fälle", "Fülle"):
        page.bars(f"{name}: accuracy", {"a": 1})
    page.write(tmp_path / "report.html")

    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == ["fälle-accuracy.png", "fülle-accuracy.png"]


def test_letters_that_the_font_lacks_are_announced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Page("Labels", "Two.", {})
    page.bars("Odd", {"はい": 3, "нет": 2})
    page.write(tmp_path / "report.html")

    assert "plots/odd.png: matplotlib's font lacks some letters" in capsys.readouterr().err
    assert "はい" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_backend_that_is_none_stops_no_report() -> None:
    code = (
        "from medllm.reports.plots import as_svg, draw_bars\n"
        "print(as_svg(draw_bars({'a': 1}, 'n'))[:4])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MPLBACKEND": "nope"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (ended.stdout, ended.stderr) == ("<svg\n", "")
