"""Pages: everything escaped, nothing fetched."""

import os
import re
import subprocess
import sys

from medllm.reports.page import Page


def build() -> Page:
    page = Page("A <report>")
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
    page = Page("odd")
    page.bars("Bars", dict.fromkeys(names, 1))
    page.histogram("Histogram", {name: [1, 2] for name in names}, "words")
    page.curves("Curves", {name: [(1, 2), (2, 3)] for name in names}, "x", "y")
    page.dots("Dots", {name: [1, 2] for name in names}, "words")

    html = page.render()

    for drawn in ("$^{$", "$x$", "\\frac$1", " _a", "x_1^2", "葡萄糖", "w" * 39 + "…"):
        assert html.count(f">{drawn}") == 4, drawn
    assert not {"\x1b", "\x00"} & set(html)


def test_a_plot_of_nothing_is_left_out() -> None:
    page = Page("empty")
    page.histogram("none", [], "tokens")
    page.bars("none", {})

    assert "<svg" not in page.render()


def test_a_backend_that_is_none_stops_no_report() -> None:
    code = "from medllm.reports.plots import draw_bars; print(draw_bars({'a': 1}, 'n')[:4])"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MPLBACKEND": "nope"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (ended.stdout, ended.stderr) == ("<svg\n", "")
