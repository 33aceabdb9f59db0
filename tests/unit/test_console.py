"""What people see, and what a log may hold."""

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medllm import console
from medllm.data.registry.inventory import describe_datasets
from medllm.errors import ConfigError, DataError

SILENCE = """
import ctypes, os, sys
from medllm import console
libc = ctypes.CDLL(None)
def noise():
    libc.puts(b"C noise"); libc.fflush(None); libc.perror(b"C error")
    os.write(1, b"fd noise\\n"); os.write(2, b"fd noise\\n")
    print("print noise"); print("print noise", file=sys.stderr)
    os.system("echo child noise; echo child noise >&2")
with console.quiet():
    noise()
    console.notice("one")
    with console.quiet():
        noise()
        console.notice("two")
    noise()
    console.notice("three")
try:
    with console.quiet():
        raise ValueError
except ValueError:
    console.notice("four")
console.say("result")
libc.puts(b"C again"); libc.fflush(None)
"""


def test_quiet_silences_below_python_and_lets_our_notices_through() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SILENCE], capture_output=True, text=True, check=True
    )

    assert result.stderr == "one\ntwo\nthree\nfour\n"
    assert result.stdout == "result\nC again\n"


def test_results_go_to_stdout_and_notices_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    console.say("result")
    console.notice("notice")

    assert capfd.readouterr() == ("result\n", "notice\n")


def test_an_error_is_one_line_and_its_remedy(capfd: pytest.CaptureFixture[str]) -> None:
    console.error(DataError("no such file", "check the path"))

    assert capfd.readouterr() == ("", "error: no such file\n  fix: check the path\n")


def test_further_lines_of_an_error_are_indented(capfd: pytest.CaptureFixture[str]) -> None:
    console.error(ConfigError("a.yaml:1: x\na.yaml:2: y", "mend the lines"))

    assert capfd.readouterr().err.splitlines() == [
        "error: a.yaml:1: x", "       a.yaml:2: y", "  fix: mend the lines",
    ]  # fmt: skip


# Tables


def test_numbers_are_right_aligned_and_words_left(capfd: pytest.CaptureFixture[str]) -> None:
    console.table(("model", "MB"), [("base", 13.6), ("merged model", "1,234.5")])

    lines = [line for line in capfd.readouterr().out.splitlines() if line.strip()]
    assert lines[0].split() == ["model", "MB"]
    name, number = lines[2].index("base"), lines[2].index("13.6")
    assert lines[3].index("merged model") == name
    assert lines[3].index("1,234.5") + len("1,234.5") == number + len("13.6")


def test_cells_are_not_read_as_markup(capfd: pytest.CaptureFixture[str]) -> None:
    console.table(("a",), [("[bold]x[/bold]",), ("path[0]",)])

    out = capfd.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "path[0]" in out


def test_a_table_without_rows_has_its_head(capfd: pytest.CaptureFixture[str]) -> None:
    console.table(("dataset", "rows"), [], title="nothing")

    assert "nothing" in (out := capfd.readouterr().out)
    assert "dataset" in out


def test_a_table_keeps_to_its_width(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")

    console.table(("a", "b"), [("word " * 30, "x" * 60)])

    lines = capfd.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert "".join(lines).count("x") == 60  # folded, not cut


def test_a_name_and_a_number_are_never_broken(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    figures = {"MB": "14.7", "bits per weight": "5.96", "KL mean": "0.0037", "same token": "97.1%",
               "medical ppl": "8.358", "general ppl": "8.358", "tokens/s": "14,208",
               "peak GiB": "0.63"}  # fmt: skip

    console.table(("format", *figures), [("gguf-q2_k-no-imatrix", *figures.values())])

    assert ["gguf-q2_k-no-imatrix", *figures.values()] in [
        line.split() for line in capfd.readouterr().out.splitlines()
    ]


def test_a_number_without_an_interval_is_not_broken(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shares = ["0.000\n0.000–0.522"] * 4

    console.table(("model", *"abcd", "signs restated"), [["merged", *shares, "0.000\nno interval"]])

    shown = capfd.readouterr().out
    assert "restated" in shown and "no interval" in shown and " 0.000\n" in shown


def test_a_table_whose_columns_have_no_names_has_no_head(capfd: pytest.CaptureFixture[str]) -> None:
    console.table(("", ""), [("texts", 3)])

    assert capfd.readouterr().out.split() == ["texts", "3"]


@pytest.mark.parametrize("width", ["80", "100", "120"])
def test_no_word_of_the_table_of_datasets_is_broken(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    rows = describe_datasets()
    words = {word for row in rows for cell in row for word in cell.split()}

    console.table(("dataset", "what it is", "rows", "access: licence", "where"), rows)

    out = capfd.readouterr().out
    assert words <= set(out.split())
    assert max(map(len, out.splitlines())) <= int(width)


def test_a_long_name_breaks_the_longest_words_beside_it_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    name = "a_dataset_of_our_ward_with_a_long_name"

    console.table(("dataset", "licence", "where"), [(name, "c" * 30, "not here")])

    lines = capfd.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert any(name in line for line in lines)
    assert "".join(lines).count("c" * 12) == 2


def test_a_column_that_holds_nothing_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    console.table(("part", "state", "remedy"), [("torch", "2.13.0", ""), ("peft", "0.21", "")])

    assert "remedy" not in capfd.readouterr().out


def test_a_number_that_is_not_known_leaves_the_others_aligned(
    capfd: pytest.CaptureFixture[str],
) -> None:
    console.table(("dataset", "rows"), [("a", "12,345"), ("b", "?"), ("c", "7")])

    ends = {len(line) for line in capfd.readouterr().out.splitlines() if line[1:2] in {*"abc"}}
    assert len(ends) == 1


# Colour


PAINT = """
from medllm import console
from medllm.data.registry.inventory import describe_datasets
from medllm.errors import DataError
console.say("fine", "good")
console.table(("a",), [("\x1b[31mred",)], "title")
console.error(DataError("no file", "check"))
"""


def on_a_terminal(code: str = PAINT, **settings: str) -> str:
    """What a terminal is sent."""
    screen, terminal = os.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    environment |= {"TERM": "xterm", **settings}
    command = [sys.executable, "-c", code]
    subprocess.run(command, stdout=terminal, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    with os.fdopen(screen, "rb") as reader:
        return reader.read1(65536).decode()


def test_a_terminal_gets_colour_from_us_alone() -> None:
    shown = on_a_terminal()

    assert "\x1b[32mfine\x1b[0m" in shown
    assert "\x1b[1mtitle\x1b[0m" in shown
    assert "\\x1b[31mred" in shown
    assert "\x1b[1;31merror: no file\x1b[0m" in shown
    assert shown.count("\\x1b") == 1  # none of ours is shown as text


FIT = """
from medllm import console
from medllm.errors import DataError
console.notice("a notice of many words that says `medllm datasets show pubmedqa` and then goes on")
path = "/a/path/that/is/longer/than/the/screen/is/wide/notes.csv"
console.error(DataError(f"{path}: no file", "check"))
"""


def test_a_notice_fits_a_terminal_and_breaks_no_word_and_no_command() -> None:
    lines = on_a_terminal(FIT, COLUMNS="40", NO_COLOR="1").splitlines()

    assert lines == [
        "a notice of many words that says",
        "    `medllm datasets show pubmedqa` and",
        "    then goes on",
        "error:",
        "    /a/path/that/is/longer/than/the/screen/is/wide/notes.csv:",
        "    no file",
        "  fix: check",
    ]


@pytest.mark.parametrize("settings", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_who_wants_no_colour_gets_none(settings: dict[str, str]) -> None:
    assert "\x1b" not in on_a_terminal(**settings)


def test_a_pipe_gets_colour_where_it_is_asked_for(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    console.say("plain", "good")
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.say("green", "good")
    monkeypatch.setenv("NO_COLOR", "1")
    console.say("none", "good")

    assert capfd.readouterr().out == "plain\n\x1b[32mgreen\x1b[0m\nnone\n"


def test_a_path_in_a_table_is_never_broken(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    path = f"/home/user/{'very-long-folder/' * 5}convert.py"

    console.table(("part", "state", "remedy"), [("converter", f"{path}, here", "word " * 20)])

    assert path in capfd.readouterr().out


# Progress


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_PROGRESS_SECONDS", 0.0)

    with console.progress("training", 100) as advance:
        advance(25)
        advance(25)
    with console.progress("reading") as advance:
        advance(1000)

    first, second, third = capfd.readouterr().err.splitlines()
    assert first.startswith("training: 25 of 100 (25 %), ")
    assert second.startswith("training: 50 of 100 (50 %), ")
    assert third.startswith("reading: 1,000 (")


def test_slow_work_says_how_long_each_takes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_PROGRESS_SECONDS", 0.0)
    clock = iter((0.0, 30.0, 60.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))

    with console.progress("layers", 4) as advance:
        advance(1)
        advance(1)

    assert capfd.readouterr().err.splitlines() == [
        "layers: 1 of 4 (25 %), 30 s each, 90 s left",
        "layers: 2 of 4 (50 %), 30 s each, 60 s left",
    ]


def test_work_that_is_done_says_no_time_that_is_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_PROGRESS_SECONDS", 0.0)
    clock = iter((0.0, 1.0, 100.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))

    with console.progress("rows", 400) as advance:
        advance(2)
        advance(398)

    assert capfd.readouterr().err.splitlines() == [
        "rows: 2 of 400 (0 %), 2.0/s, 3 min left",
        "rows: 400 of 400 (100 %), 4.0/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "1 s"), (0.6, "1 s"), (119, "119 s"), (120, "2 min"), (5743, "1.6 h"), (720, "12 min")],
)
def test_a_time_is_told_as_people_say_it(seconds: float, said: str) -> None:
    assert console.lasting(seconds) == said


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [(0.43512, 4, "0.4351"), (12.3456, 2, "12"), (99.6, 2, "100"), (134.2, 2, "134"), (0.0, 4, "0"),
     (1847.3, 4, "1,847"), (10020.4, 4, "10,020"), (-2719.8, 3, "-2,720"), (1.55e-5, 2, "1.6e-05"),
     (999.96, 4, "1,000"), (float("nan"), 4, "nan"), (float("inf"), 4, "inf")],
)  # fmt: skip
def test_a_large_number_is_told_without_an_exponent(value: float, digits: int, said: str) -> None:
    assert console.rounded(value, digits) == said


def test_one_thing_has_no_plural() -> None:
    assert [console.counted(n, "row") for n in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]


def test_quick_work_shows_no_progress(capfd: pytest.CaptureFixture[str]) -> None:
    with console.progress("training", 3) as advance:
        for _ in range(3):
            advance(1)

    assert capfd.readouterr() == ("", "")


# Logs


def test_a_log_holds_what_was_said_with_its_time_but_no_text_of_data() -> None:
    with console.log_to(Path("run.log")):
        console.say("two\nlines")
        console.notice("a notice")
        console.show_text("Patient has pneumonia")
        console.error(DataError("wrong", "mend it"))
    console.say("later")

    lines = Path("run.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)
    assert [line.partition(" ")[2] for line in lines] == [
        "two", "lines", "a notice", "error: wrong", "  fix: mend it",
    ]  # fmt: skip
    assert stat.S_IMODE(Path("run.log").stat().st_mode) == 0o600


def test_a_log_is_appended_to() -> None:
    for text in ("first", "second"):
        with console.log_to(Path("run.log")):
            console.notice(text)

    assert [line.split()[1] for line in Path("run.log").read_text().splitlines()] == [
        "first", "second",
    ]  # fmt: skip


def test_text_goes_to_the_screen_piece_by_piece(capfd: pytest.CaptureFixture[str]) -> None:
    console.show_text("piece ", end="")
    console.show_text("by piece")

    assert capfd.readouterr().out == "piece by piece\n"
    assert list(Path().iterdir()) == []


def test_quiet_undoes_what_a_library_does_to_the_root_logger() -> None:
    code = (
        "import logging; from medllm import console\n"
        "with console.quiet(): logging.basicConfig(level=logging.INFO)\n"
        "logging.getLogger('library').info('chatter'); print('said')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("said\n", "")


# What other people name

NAMED = "a\x1b[31mred\x9b0m\x07\x00\r\u202e\udcff\u2028 [red]b[/]"
SHOWN = r"a\x1b[31mred\x9b0m\x07\x00\r\u202e\udcff\u2028 [red]b[/]"


def test_what_would_steer_a_terminal_is_shown_as_escapes(capfd: pytest.CaptureFixture[str]) -> None:
    with console.log_to(Path("run.log")):
        console.say(NAMED)
        console.notice(NAMED)
        console.show_text(NAMED)
        console.error(DataError(NAMED, NAMED))
        console.table([NAMED], [[NAMED]], NAMED)

    out, err = capfd.readouterr()
    log = Path("run.log").read_text()
    assert out.count(SHOWN) == 5
    assert err.count(SHOWN) == 3
    assert log.count(SHOWN) == 7
    for text in (out, err, log):
        assert set(text) & set(NAMED) <= set(SHOWN)


def test_text_in_any_language_is_printed_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    text = "Müller\t数据 שלום \u200dfamily 👩\u200d⚕️\nline"
    console.say(text)

    assert capfd.readouterr().out == f"{text}\n"
    assert console.printable(text) == text
