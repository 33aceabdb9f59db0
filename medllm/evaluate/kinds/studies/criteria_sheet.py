"""The sheet on which people say which criteria an answer meets, empty and filled in."""

import csv
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medllm import console
from medllm.artifacts.digest import digest_text
from medllm.artifacts.manifest import write_atomically
from medllm.data.readers.csv_form import harmless
from medllm.data.readers.rows import read_rows
from medllm.data.shapes.rubrics import RUBRICS
from medllm.data.shapes.values import text_of
from medllm.errors import DataError
from medllm.evaluate.kinds.generated import Answered

COLUMNS = ("answer_code", "criterion", "met", "text", "answer", "conversation", "comment")
ANSWERS = 50
"""So many answers are drawn: some 570 criteria of HealthBench, hours of a clinician's work."""
SAID = {**dict.fromkeys(("1", "1.0", "yes", "true", "met"), True),
        **dict.fromkeys(("0", "0.0", "no", "false", "not met"), False)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """What a person says of a criterion."""

    answer: str
    """The code of the answer; without one the id of its item."""
    is_coded: bool
    model: str | None
    number: int
    """Of the criterion, from 1."""
    met: bool


def code_of(answered: Answered) -> str:
    """What an answer is called on a sheet: another answer to the same question has another code."""
    return "A" + digest_text("\n".join((answered.item.id, answered.text)))[:12]


def conversation_of(answered: Answered) -> str:
    """What was asked, turn by turn."""
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in answered.item.prompt)


def write_sheet(path: Path, answered: Sequence[Answered], seed: int) -> None:
    """Write an empty sheet of some answers, drawn by seed, a row a criterion.

    It says neither whose an answer is nor what a judge says of it.
    """
    drawn = random.Random(seed).sample(list(answered), min(ANSWERS, len(answered)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for each in drawn:
        texts = [each.text, conversation_of(each)]
        for number, (criterion, _, _) in enumerate(each.item.metadata.get(RUBRICS, ()), 1):
            cells = [harmless(console.printable(text)) for text in (criterion, *texts)]
            writer.writerow([code_of(each), number, "", *cells, ""])
    write_atomically(path, "\ufeff" + buffer.getvalue())  # by this mark Excel knows UTF-8
    # the folder above its own has another name once it is whole
    name = f"{path.parent.name}/{path.name}"
    console.say(f"  {name}: for people to fill in `met`; it holds texts of data")


def read_sheet(path: Path) -> Iterator[Said]:
    """What people say; rows without a verdict are left out.

    Raises:
        DataError: a row lacks something, or says the contrary of another; names it. Or nothing is
            filled in.
    """
    said: dict[tuple[str, str | None, int], bool] = {}
    for number, row in enumerate(read_rows(path), 1):
        met = text_of(row.get("met")).strip().lower()
        if not met and "met" in row:
            continue
        code, at = text_of(row.get("answer_code")), text_of(row.get("criterion"))
        answer = code or text_of(row.get("id"))
        if met not in SAID or not at.isdigit() or not answer:
            message = f"{path}: row {number}: needs answer_code (or id), criterion (a number)"
            raise DataError(f"{message} and met (yes or no)", "correct the row, or leave it out")
        model = text_of(row.get("model")) or None
        if said.setdefault((answer, model, int(at)), SAID[met]) is not SAID[met]:
            message = f"{path}: row {number}: another row says the contrary of the same criterion"
            raise DataError(message, "leave one of them; give each person a sheet of their own")
        yield Said(answer, bool(code), model, int(at), SAID[met])
    if not said:
        raise DataError(f"{path}: nothing is filled in", "write yes or no in the column met")


def verdicts_on(path: Path, answered: Sequence[Answered], what: str) -> dict[str, dict[int, bool]]:
    """What people say of these answers, by item and number of the criterion.

    `what` names the model. Verdicts on other answers are left out, which is said.
    """
    items = {code_of(each): each.item.id for each in answered}
    told: dict[str, dict[int, bool]] = {}
    others = 0
    for said in read_sheet(path):
        item = items.get(said.answer) if said.is_coded else said.answer
        if item is None:
            others += 1
        elif said.is_coded or said.model is None or f": {said.model}, " in what:
            told.setdefault(item, {})[said.number] = said.met
    if others:
        console.notice(
            f"{what}: {console.counted(others, 'verdict')} of {path.name} left out: of other "
            "answers than these, of another model or written anew"
        )
    return told
