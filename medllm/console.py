"""The only place that prints.

Results go to stdout; notices, progress and errors go to stderr. What a verb says is also written to
its `run.log`, except text from data or models (`show_text`), which never reaches a log. Of several
processes that run one command the main one speaks, so that everything is said once; an error of
another one is said too. Names of files, columns and labels are other people's: characters that
would steer a terminal are shown as escapes, on the screen and in logs alike. Colour is for
terminals, for none where `NO_COLOR` is set (https://no-color.org), and for a pipe, too, where
`FORCE_COLOR` is.
"""

import logging
import os
import re
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from medllm.errors import MedllmError
from medllm.ranks import is_main, own_rank

PLAIN_PROGRESS_SECONDS = 5.0  # where there is no terminal: at most one progress line in this time

PIPE_CLOSED = 128 + signal.SIGPIPE
"""The exit code of a command whose reader has gone, as a shell gives it."""
WIDTH = 78
"""Characters of a line of a sentence."""
LEAST_WIDTH = 20
SHOWN = 8
"""Of several things that a sentence names."""
UNBROKEN: Any = {"break_long_words": False, "break_on_hyphens": False}
NUMBER = r"[+-]*\d*\.?\d+(?:e[+-]\d+)?|\d+\."
BETWEEN = 2
"""Characters between two columns of a table."""
STYLES = {"title": "1", "good": "32", "warning": "33", "error": "1;31"}
"""Attributes of ECMA-48 (SGR): bold, green, yellow, bold red."""
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (terminals obey them), marks that turn the direction of what follows, ends of
lines that only some programs know, and halves of characters, which no encoding holds."""

wanted: frozenset[str] = frozenset()
"""The arguments of this command, of which --json, --quiet and --verbose change what is said."""
result: dict[str, Any] = {}
"""What this command found or made, as `--json` prints it; no text of data or patients."""
_logs: list[TextIO] = []
_own_stderr: list[TextIO] = []  # where notices go while third-party code is silenced


def printable(text: str) -> str:
    """The text with characters that are not to be printed as escapes; lines and tabs stay."""
    return STEERING.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def wrapped(text: str, indent: str = "    ", width: int = WIDTH) -> str:
    """A sentence in lines for a screen, all but the first indented; no `command` is broken."""
    whole = re.sub(r"`[^`\n]*`", lambda quoted: quoted[0].replace(" ", "\0"), text)
    return textwrap.fill(whole, width, subsequent_indent=indent, **UNBROKEN).replace("\0", " ")


def counted(number: int, noun: str) -> str:
    """A number of things in words: 1 row, 2 rows."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def some_of(names: Sequence[Any]) -> str:
    """How many there are, and the first of them: 12 (a, b, c, d, e, f, g, h, …)."""
    first = ", ".join(map(str, names[:SHOWN]))
    return f"{len(names):,} ({first}{', …' if len(names) > SHOWN else ''})"


def rounded(value: float, digits: int = 4) -> str:
    """A number with so many digits, or all of those before its point: 0.4351, 12, 10,020."""
    is_long = 10 ** (digits - 1) <= abs(float(f"{value:.{digits}g}")) < 1e15
    return f"{value:,.0f}" if is_long else f"{value:.{digits}g}"


def lasting(seconds: float) -> str:
    """A time for people: 48 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say(text: str = "", style: str = "") -> None:
    """Print a line of the result, in one of the `STYLES` where a terminal has colours."""
    if is_main():
        _print(text, sys.stdout, style=style)
        _log(text)


def notice(text: str) -> None:
    """Print a line about what happens; also every fallback is announced here."""
    if is_main():
        _warn(text)


def detail(text: str) -> None:
    """Print a line about what is read or chosen, where --verbose asks for it."""
    if "--verbose" in wanted:
        notice(text)


def report(**parts: Any) -> None:
    """Add parts to `result`; a list goes on where it was, a record has more in it."""
    for name, part in parts.items():
        known = result.get(name)
        merged = [*known, *part] if isinstance(part, list) and known else part
        result[name] = {**known, **part} if isinstance(part, dict) and known else merged


def _warn(text: str, style: str = "") -> None:
    file = _own_stderr[-1] if _own_stderr else sys.stderr
    width = max(shutil.get_terminal_size().columns, LEAST_WIDTH) if file.isatty() else len(text)
    lines = (wrapped(line, width=width) if len(line) > width else line for line in text.split("\n"))
    _print("\n".join(lines), file, style=style)
    _log(text)


def show_text(text: str, end: str = "\n") -> None:
    """Print text of data or of a model: to the screen, never to a log."""
    _print(text, sys.stdout, end)


def _print(text: str, file: TextIO, end: str = "\n", style: str = "") -> None:
    """Print a line; where nobody reads on, as behind `| head`, the command ends without a word."""
    shown = printable(text)
    if style and _has_colour(file):
        shown = f"\x1b[{STYLES[style]}m{shown}\x1b[0m"
    try:
        print(shown, file=file, end=end, flush=True)
    except BrokenPipeError:
        with Path(os.devnull).open("w") as nowhere:  # what is still buffered goes there
            os.dup2(nowhere.fileno(), file.fileno())
        raise SystemExit(PIPE_CLOSED) from None


def _has_colour(file: TextIO) -> bool:
    """Whether colour is wanted there: NO_COLOR goes before FORCE_COLOR (https://force-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("FORCE_COLOR"):
        return not os.environ.get("NO_COLOR")
    return file.isatty() and os.environ.get("TERM") != "dumb"


def error(problem: MedllmError) -> None:
    """Print an error and its remedy."""
    message = "\n       ".join(printable(problem.message).splitlines())
    where = "" if is_main() else f"process {own_rank()}: "
    _warn(f"error: {where}{message}", "error")
    _warn(f"  fix: {problem.fix}")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table as wide as the screen; numbers are right-aligned, columns of nothing left out.

    What names a row stands on one line, and no word is broken where the screen holds the longest
    words of all columns; where it does not, no number and no path is: the lines are longer then.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_header=any(columns))
    shown = [i for i, _ in enumerate(columns) if not rows or any(row[i] != "" for row in rows)]
    cells = {i: [printable(str(row[i])) for row in rows] for i in shown}
    numeric = {i: _are_numbers(cells[i]) for i in shown}
    headings = {i: _heading(columns[i], cells[i], numeric[i]) for i in shown}
    filled = [[headings[i], *cells[i]] for i in shown]
    width = max(shutil.get_terminal_size((120, 0)).columns, LEAST_WIDTH)
    for i, wide in zip(shown, _widths(filled, [numeric[i] for i in shown], width), strict=True):
        side: Literal["left", "right"] = "right" if numeric[i] else "left"
        drawn.add_column(headings[i], justify=side, overflow="fold", width=wide)
    for row in zip(*cells.values(), strict=True):
        drawn.add_row(*row)
    least = sum(column.width or 0 for column in drawn.columns) + BETWEEN * len(shown)
    screen = Console(width=max(width, least), highlight=False, markup=False, color_system=None)
    with screen.capture() as captured:
        screen.print(drawn)
    if title:
        say(title, "title")
    say("\n".join(line.rstrip() for line in captured.get().rstrip("\n").splitlines()))


def _heading(name: str, cells: Sequence[str], is_numeric: bool) -> str:
    """The name of a column; one of short numbers has a line for each word."""
    is_long = is_numeric and "\n" not in name and len(name) > _width(cells)
    return printable(name.replace(" ", "\n") if is_long else name)


def _widths(columns: Sequence[Sequence[str]], numeric: Sequence[bool], width: int) -> list[int]:
    """The characters of each column of a table that is this wide, or wider where it must be."""
    words = [[word for cell in cells for word in cell.split()] for cells in columns]
    wants = [max(_width(cells), 1) for cells in columns]
    paths = [[word for word in column if i == 0 or "/" in word] for i, column in enumerate(words)]
    least = [want if fixed else max(_width(found), 1)
             for want, fixed, found in zip(wants, numeric, paths, strict=True)]  # fmt: skip
    widths = [max(floor, _width(found)) for floor, found in zip(least, words, strict=True)]
    if wants[0] <= width / 3:
        widths[0] = least[0] = wants[0]
    room = width + 1 - BETWEEN * len(columns)  # blanks at the end of a line are not printed
    while sum(widths) > room and (wide := [i for i, one in enumerate(widths) if one > least[i]]):
        widths[max(wide, key=widths.__getitem__)] -= 1
    while sum(widths) < room and (small := [i for i, one in enumerate(widths) if one < wants[i]]):
        widths[min(small, key=widths.__getitem__)] += 1
    return widths


def _width(cells: Iterable[str]) -> int:
    return max((len(line) for cell in cells for line in cell.splitlines()), default=0)


def _are_numbers(cells: Iterable[str]) -> bool:
    """Whether a column holds numbers, as far as they are known."""
    known = [cell for cell in cells if cell not in ("", "?")]
    return bool(known) and all(map(_is_number, known))


def _is_number(cell: str) -> bool:
    parts = re.sub(r"no interval|[,±°]|%(?=\s|$)|–", " ", cell).split()
    return bool(parts) and all(re.fullmatch(NUMBER, part) for part in parts)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`: a bar on a terminal, else a plain line now and then."""
    if sys.stderr.isatty() and is_main():
        with _bar(what, total) as advance:
            yield advance
        return
    started = last = time.monotonic()
    done = 0

    def advance_plain(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if done and now - last >= PLAIN_PROGRESS_SECONDS:
            last = now
            notice(_progress_line(what, done, total, now - started))

    yield advance_plain


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich import progress as parts
    from rich.console import Console

    rate, left = parts.TextColumn("{task.fields[rate]}"), parts.TimeRemainingColumn()
    counted = parts.MofNCompleteColumn()
    name = parts.TextColumn("{task.description}", markup=False)
    columns = (name, parts.BarColumn(), counted, rate, left)
    began, done = time.monotonic(), 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        bar.update(task, advance=n, rate=_rate(done, time.monotonic() - began))

    with parts.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(printable(what), total=total, rate="")
        yield advance


def _progress_line(what: str, done: int, total: int | None, seconds: float) -> str:
    rate = _rate(done, seconds)
    if not total:
        return f"{what}: {done:,} ({rate})"
    share = f"{what}: {done:,} of {total:,} ({100 * done / total:.0f} %), {rate}"
    left = seconds * (total - done) / max(done, 1)
    return share if done >= total else f"{share}, {lasting(left)} left"


def _rate(done: int, seconds: float) -> str:
    """How fast it goes: what is slower than one a second as the seconds of one."""
    if done < seconds:
        return f"{lasting(seconds / max(done, 1))} each"
    return f"{done / max(seconds, 1e-9):,.{0 if done >= 10 * seconds else 1}f}/s"


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append every line said meanwhile to `path`, with its time; only the owner can read it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as log:
        _logs.append(log)
        try:
            yield
        finally:
            _logs.remove(log)


def _log(text: str) -> None:
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for log in _logs:
        log.write("".join(f"{stamp} {line}\n" for line in printable(text).split("\n")))
        log.flush()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence third-party code on stdout and stderr, below Python too; our own notices still show.

    llama.cpp and gptqmodel print from C and at import, whatever their `verbose` says; the only
    lever is the file descriptor. What a library does to the root logger is undone: tokenicer, which
    gptqmodel imports, would show the INFO lines of every library from then on.
    """
    root = logging.getLogger()
    loggers = list(root.handlers), root.level
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace") as own:
        _own_stderr.append(_own_stderr[-1] if _own_stderr else own)
        try:
            with closed(1), closed(2):
                yield
        finally:
            _own_stderr.pop()
            root.handlers[:] = loggers[0]
            root.setLevel(loggers[1])


@contextmanager
def closed(number: int) -> Iterator[None]:
    """A standard stream leads nowhere meanwhile: 1 for stdout, 2 for stderr."""
    stream, redirect = (
        (sys.stdout, redirect_stdout) if number == 1 else (sys.stderr, redirect_stderr)
    )
    stream.flush()
    kept = os.dup(number)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect(nowhere):
        os.dup2(nowhere.fileno(), number)
        try:
            yield
        finally:
            nowhere.flush()
            os.dup2(kept, number)
            os.close(kept)
