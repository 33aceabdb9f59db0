"""A sheet as a page that is filled in: it needs nothing but itself, and sends nothing."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from markupsafe import Markup

from medllm.evaluate.review_sheets.scales import (
    COMMENT,
    ITEM,
    SCALES,
    TIE,
    explained,
    preference_column,
    rating_columns,
)
from medllm.reports.page import STYLE

SCRIPT = Path(__file__).with_name("form.js")
LAYOUT = """
body { max-width: 72rem; }
section { border-top: 2px solid var(--line); margin: 2rem 0; }
section.half { border-top-color: var(--warn); }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
pre { font: inherit; margin: .4rem 0; unicode-bidi: plaintext; }
fieldset { border: 0; padding: 0; margin: .3rem 0; display: flex; flex-wrap: wrap;
           gap: .2rem .8rem; }
legend { float: left; width: 7rem; }
label { white-space: nowrap; }
textarea { width: 100%; font: inherit; box-sizing: border-box; margin: .4rem 0; }
.answers + fieldset { border-top: 1px solid var(--line); padding-top: .6rem; margin-top: .8rem; }
.save { position: sticky; bottom: 0; background: var(--ground); padding: .6rem 0; }
@media print { .save, button { display: none; } section { break-inside: avoid-page; } }
"""
CLOSED = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The page may load and send nothing (Content Security Policy)."""
TOLD = (
    "Which answer is whose is not said, and the order is random. Rate each answer by itself, then "
    "say which is better. Items without any rating are left out; one that is begun must be whole. "
    "The page sends nothing: save at the end, and after each pause, as a file."
)


class Shown(Protocol):
    """An item: its code, and its question and answers."""

    @property
    def code(self) -> str:
        """How it is called."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The question, and the answers in their order."""


def render_form(items: Sequence[Shown], letters: str) -> str:
    """The page, on which every text is escaped."""
    columns = json.dumps([ITEM, *rating_columns(letters), COMMENT])
    lines = Markup("").join(Markup("<li>{}</li>").format(line) for line in explained(letters))
    sections = Markup("\n").join(_section(item, letters) for item in items)
    return Markup(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Review sheet</title>'
        '<meta http-equiv="Content-Security-Policy" content="{}">'
        '<meta name="viewport" content="width=device-width"><style>{}</style></head>\n'
        '<body><h1>Review sheet</h1><p class="lead">{}</p><ul>{}</ul>\n'
        '<form data-columns="{}" autocomplete="off">{}\n'
        '<p class="save"><button>Save ratings</button> <output></output></p></form>\n'
        "<script>{}</script></body></html>\n"
    ).format(CLOSED, Markup(STYLE + LAYOUT), TOLD, lines, columns, sections,
             Markup(SCRIPT.read_text(encoding="utf-8")))  # fmt: skip


def _section(item: Shown, letters: str) -> Markup:
    question, *answers = item.texts
    shown = Markup("").join(
        Markup("<div><h3>Answer {}</h3><pre>{}</pre>{}</div>").format(
            letter, text, Markup("").join(_scale(item.code, *row) for row in _scales(letter))
        )
        for letter, text in zip(letters, answers, strict=True)
    )
    preferred = _scale(item.code, preference_column(letters), "preference",
                       [(name, name) for name in (*letters, TIE)])  # fmt: skip
    comment = Markup('<textarea name="{}|{}" rows="1" placeholder="comment"></textarea>')
    return Markup(
        '<section id="{}"><h2>{}</h2><pre>{}</pre><div class="answers">{}</div>{}{}'
        '<button type="button">Clear</button></section>'
    ).format(item.code, item.code, question, shown, preferred, comment.format(item.code, COMMENT))


def _scales(letter: str) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Of each scale the column, its name, and the values with what they mean."""
    return [
        (scale.column(letter), scale.name, [(str(scale.least + n), word)
                                            for n, word in enumerate(scale.meanings)])
        for scale in SCALES
    ]  # fmt: skip


def _scale(code: str, column: str, name: str, values: Sequence[tuple[str, str]]) -> Markup:
    fields = Markup("").join(
        Markup('<label title="{}"><input type="radio" name="{}|{}" value="{}">{}</label>').format(
            word, code, column, value, value
        )
        for value, word in values
    )
    return Markup("<fieldset><legend>{}</legend>{}</fieldset>").format(name, fields)
