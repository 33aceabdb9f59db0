"""A sheet: items in random order, the outputs of each in random order, and the key to both."""

import csv
import io
import json
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Self

from medllm import console
from medllm.artifacts.digest import digest_text
from medllm.artifacts.manifest import write_atomically, write_json
from medllm.config.base import is_there
from medllm.data.readers.csv_form import harmless
from medllm.errors import ArtifactError, DataError
from medllm.evaluate.review_sheets.page import render_form
from medllm.evaluate.review_sheets.scales import LETTERS, columns_of
from medllm.evaluate.review_sheets.sources import Output, read_outputs
from medllm.places import short_path

KEY = "key.json"
FOR_RATERS = "for_raters"
"""The folder that may be handed over; the key lies outside it."""
SHEET, FORM = "review.csv", "review.html"
ITEMS = 50
"""Of a sheet, where nobody says how many: some hours of a clinician's work."""
MOST_CHARACTERS = 32_000
"""Of a cell: a spreadsheet cuts it at 32,767."""
CHECK_CHARACTERS = 4


@dataclass(frozen=True, slots=True)
class Item:
    """A row of a sheet."""

    code: str
    """How it is called on the sheet: its number, and some characters of a digest of its texts."""
    texts: tuple[str, ...]
    """The question, and the answers as they stand on the sheet."""
    id: str
    order: tuple[int, ...]
    """Which output each answer is, by its place."""

    @property
    def hidden(self) -> dict[str, Any]:
        """What the key says of it."""
        return {"id": self.id, "order": list(self.order), "texts": digest_texts(self.texts)}


@dataclass(frozen=True)
class Key:
    """What a sheet hides."""

    outputs: tuple[str, ...]
    """The name of each output."""
    items: Mapping[str, Mapping[str, Any]]
    """By code: `id`, `order`, and `texts`, a digest of what is rated."""

    @property
    def letters(self) -> str:
        """What the outputs are called on the sheet."""
        return LETTERS[: len(self.outputs)]

    def write(self, folder: Path) -> None:
        """Write it with a seal over all of it."""
        content = {"outputs": list(self.outputs), "items": dict(self.items)}
        write_json(folder / KEY, {**content, "seal": _seal(content)})

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The key in a folder.

        Raises:
            ArtifactError: there is none, or it was altered.
        """
        fix = "name the folder that `medllm evaluate --review-sheet` wrote"
        if not is_there(folder / KEY):
            raise ArtifactError(f"{folder} holds no key of a review sheet ({KEY})", fix)
        try:
            content = json.loads((folder / KEY).read_text(encoding="utf-8"))
            seal = content.pop("seal")
            if seal != _seal(content):
                raise ValueError
            return cls(tuple(content["outputs"]), content["items"])
        except (ValueError, KeyError, TypeError, AttributeError):
            message = f"{folder / KEY}: it was altered or damaged, so nothing can be read by it"
            raise ArtifactError(message, "restore the file as it was written") from None


def _seal(content: Any) -> str:
    return digest_text(json.dumps(content, sort_keys=True))


def make_sheet(folders: Sequence[Path], data: Path | None, limit: int | None, output: Path) -> None:
    """Write a sheet of the outputs in some folders, and its key.

    Raises:
        MedllmError: the place is not empty, a folder holds no answers, or they answer other things.
    """
    if is_there(output) and (not output.is_dir() or any(output.iterdir())):
        raise ArtifactError(f"{output} is not empty", "choose another --output")
    outputs = read_outputs(folders, data)
    items = draw_items(outputs, limit or ITEMS)
    place = output / FOR_RATERS
    place.mkdir(parents=True)
    columns = columns_of(LETTERS[: len(outputs)])
    write_atomically(place / SHEET, render_csv(items, columns))
    write_atomically(place / FORM, render_form(items, LETTERS[: len(outputs)]))
    hidden = {item.code: item.hidden for item in items}
    Key(tuple(each.name for each in outputs), hidden).write(output)
    _announce(items, len(outputs), output)


def _announce(items: Sequence[Item], outputs: int, output: Path) -> None:
    console.report(review_sheet={"folder": str(output), "items": len(items), "outputs": outputs})
    console.say(f"{console.counted(len(items), 'item')} with {outputs} answers each")
    console.say(f"  {short_path(output / FOR_RATERS)}: for those who rate; it holds texts of data")
    console.say(f"  {short_path(output / KEY)}: says which answer is whose; keep it from them")
    longest = max(len(text) for item in items for text in item.texts)
    if longest > MOST_CHARACTERS:
        console.notice(f"review sheet: a text has {longest:,} characters, and a spreadsheet cuts "
                       f"it: rate it in {FORM}")  # fmt: skip


def draw_items(outputs: Sequence[Output], limit: int) -> list[Item]:
    """Items that all outputs answer, drawn and put in an order that nobody can foretell.

    Each order of the outputs stands as often as any other, as far as the number of items allows.

    Raises:
        DataError: there is none, or the same id was asked otherwise.
    """
    questions = outputs[0].questions
    known = [key for key in outputs[0].answers if key in questions
             and all(key in each.answers for each in outputs)]  # fmt: skip
    if not known:
        fix = "answer the same questions with each model"
        raise DataError("review sheet: no question was answered by all", fix)
    if any(each.questions.get(key) != questions[key] for each in outputs for key in known):
        fix = "answer the same file with each model, or evaluate the same task"
        raise DataError("review sheet: items of the same id were asked otherwise", fix)
    lost = len(set().union(*(each.answers for each in outputs))) - len(known)
    if lost:
        console.notice(f"review sheet: {console.counted(lost, 'item')} left out: not all answer it")
    drawn = random.Random(secrets.randbits(128))
    chosen = drawn.sample(known, min(limit, len(known)))
    every = list(permutations(range(len(outputs))))
    orders = [order for _ in range(-(-len(chosen) // len(every)))
              for order in drawn.sample(every, len(every))][: len(chosen)]  # fmt: skip
    drawn.shuffle(orders)
    items = []
    for number, (key, order) in enumerate(zip(chosen, orders, strict=True), 1):
        said = (questions[key], *(outputs[at].answers[key] for at in order))
        texts = tuple(map(console.printable, said))  # what no spreadsheet can hold, as escapes
        code = f"R{number}-{digest_texts(texts)[:CHECK_CHARACTERS]}"
        items.append(Item(code, texts, key, order))
    return items


def digest_texts(texts: Sequence[str]) -> str:
    """Of what is rated, however a spreadsheet wrote its white space and where it cut it."""
    folded = [" ".join(text.split())[: MOST_CHARACTERS // 2] for text in texts]
    return digest_text(json.dumps(folded))


def render_csv(items: Sequence[Item], columns: Sequence[str]) -> str:
    """The sheet as a spreadsheet opens it, with its ratings empty; no text becomes a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    for item in items:
        cells = [item.code, *map(harmless, item.texts)]
        writer.writerow([*cells, *[""] * (len(columns) - len(cells))])
    return "\ufeff" + buffer.getvalue()  # by this mark Excel knows UTF-8
