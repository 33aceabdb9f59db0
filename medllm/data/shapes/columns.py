"""The shape that a dataset's YAML declares: which column is what, without any Python."""

from collections.abc import Callable
from functools import lru_cache
from string import Formatter
from typing import Annotated, Any
from unicodedata import normalize

from pydantic import AfterValidator, Field

from medllm.config.base import Strict
from medllm.data.example import Example, Message, Rejected
from medllm.data.groups import Group, build_group, kind_of_column, read_id
from medllm.data.left_out import LeftOut
from medllm.data.patterns import check_pattern, finder
from medllm.data.readers.rows import KEY, Row
from medllm.data.shapes.answers import Kind, folded
from medllm.data.shapes.conversation import Conversation
from medllm.data.shapes.values import clean, columns_of, images_of, known, text_of


def check_template(template: str) -> str:
    """The template with one form of accents; ValueError for what Python's formats would mean."""
    for _, field, width, conversion in Formatter().parse(template):
        if width or conversion:
            raise ValueError(f"'{{{field}' must end in '}}': a column's name has no ':' and no '!'")
    return normalize("NFC", template)


Template = Annotated[str, AfterValidator(check_template)]
Pattern = Annotated[str, AfterValidator(check_pattern)]


class Cut(Strict):
    """A column made from another one."""

    column: Template
    """Template of the text it is cut from."""
    pattern: Pattern
    """Regular expression; its first group, or all that it matches, is the value."""


class Columns(Strict):
    """Which columns hold what.

    Each is a template such as `{note}`, and a bare word is a column. `{note|patient}` takes the
    first that holds text; `{history|}` may be empty. Upper and lower case are alike.
    """

    id: Template | None = None
    """What identifies a row; its number where that is missing."""
    group: Template | None = None
    """What a split must not cut through: a patient, an article; each row alone where not named."""
    group_kind: str | None = None
    """What `group` is an id of, as `patient`: rows of any datasets with the same kind and id are in
    one split. Default: what the name of the column tells."""
    group_pattern: Pattern | None = None
    """Regular expression; its first group, or all that it matches, of `group` counts."""
    prompt: Template = ""
    """What is asked; empty for running text."""
    completion: Template = "{text}"
    """What is answered, or the running text."""
    choices: tuple[str, ...] = ()
    """Answers to choose from."""
    target: Template | None = None
    """The right one of `choices`."""
    images: tuple[str, ...] = ()
    """Columns with paths of images, from the folder of the data file; the first that has some."""
    metadata: tuple[str, ...] = ()
    """Columns to keep as they are."""
    cut: dict[str, Cut] = {}
    """Columns made from others, where a file has none of that name."""
    first_answer: int | None = Field(default=None, ge=0)
    """Whether numbered answers begin at 0 or at 1; where not said, the files are looked through."""
    answers: tuple[Kind, ...] = ()
    """How answers of multiple choice name an option: `letter`, `number`, `text`; likewise."""


TEMPLATES = {"id", "group", "prompt", "completion", "target"}
"""The fields of Columns that are templates."""


class MissingColumn(LeftOut):
    """A row lacks a column that its template needs."""

    def __init__(self, column: str) -> None:
        super().__init__(f"no {column}")


Build = Callable[[str, str, Row, Columns], Example]
"""(dataset, id within it, row, columns) → example; raises LeftOut."""


def read_columns(dataset: str, number: int, row: Row, columns: Columns) -> Example | Rejected:
    """A row whose columns the dataset's YAML names."""
    return read_with(_build, dataset, number, row, columns)


def read_with(
    build: Build, dataset: str, number: int, row: Row, columns: Columns
) -> Example | Rejected:
    """What `build` makes of a row and its id, or why it makes nothing."""
    identity = f"{dataset}/{number}"
    try:
        _check_names(tuple(row), columns)
        row = with_cuts(row, columns)
        source_id = source_id_of(number, row, columns)
        identity = f"{dataset}/{source_id}"
        return build(dataset, source_id, row, columns)
    except LeftOut as problem:
        return Rejected(identity, str(problem))


def _check_names(names: tuple[Any, ...], columns: Columns) -> None:
    """Raise LeftOut where a column that is read has another one's name but for its case."""
    at_hand = columns_of(names)
    if len(at_hand) < len(names):
        kept = {*at_hand.values()}
        twice = {str(name).strip().lower() for name in names if name not in kept}
        read = {str(name).strip().lower() for name in used_by(columns, names)}
        if found := sorted(twice & read):
            raise LeftOut(f"several columns {found[0]}")


def _build(dataset: str, source_id: str, row: Row, columns: Columns) -> Example:
    prompt, group = fill(columns.prompt, row), group_of(source_id, row, columns)
    asked = Conversation([Message("user", prompt)] if prompt else [])
    images = asked.show(_images(row, columns))
    example = Example(
        id=f"{dataset}/{source_id}",
        dataset=dataset,
        group=group.id,
        prompt=tuple(asked.turns),
        completion=fill(columns.completion, row),
        choices=columns.choices,
        target=_target(row, columns),
        images=images,
        metadata=metadata_of(row, columns),
        group_kind=group.kind,
    )
    if example.choices and example.target not in example.choices:
        raise LeftOut("unknown answer")
    if not example.completion:
        raise LeftOut("no text")
    return example


def _target(row: Row, columns: Columns) -> str | None:
    """The choice that the row names, in whatever case and form of accents."""
    if columns.target is None:
        return None
    said = fill(columns.target, row)
    if said in columns.choices:  # aa is not AA
        return said
    return next((one for one in columns.choices if folded(one) == folded(said)), said)


def _images(row: Row, columns: Columns) -> tuple[str, ...]:
    at_hand = columns_of(tuple(row))
    return images_of(row, [at_hand[n.lower()] for n in columns.images if n.lower() in at_hand])


def fill(template: str, row: Row, text: Callable[[Any], str] = text_of) -> str:
    """The template with the row's values.

    Raises:
        MissingColumn: a value is missing or empty.
    """
    parts = []
    for literal, columns, needed in _plan(template, tuple(row)):
        parts.append(literal)
        for column in columns:
            if (value := text(row[column])) and not value.isspace():
                parts.append(value)
                break
        else:
            if needed:
                raise MissingColumn(needed)
    return "".join(parts).strip()


@lru_cache(maxsize=512)
def _plan(template: str, names: tuple[Any, ...]) -> list[tuple[str, list[Any], str]]:
    """The literal texts of a template, each with the columns that may follow it.

    Last comes the name of what must not be empty there.
    """
    at_hand = columns_of(names)
    plan = []
    for literal, wanted in _parts(template):
        needed = wanted[0] if wanted and "" not in wanted else ""
        plan.append((literal, [at_hand[name] for name in wanted if name in at_hand], needed))
    return plan


def _parts(template: str) -> list[tuple[str, list[str]]]:
    """Its literal texts, each with the names of which the first that holds text follows it."""
    if template and "{" not in template:
        template = f"{{{template}}}"
    return [
        (literal, [part.strip().lower() for part in field.split("|")] if field else [])
        for literal, field, _, _ in Formatter().parse(template)
    ]


def absent_from(names: tuple[Any, ...], columns: Columns) -> list[str]:
    """The columns that a dataset's YAML names and that are not among those of its files."""
    told = columns.model_dump(include=TEMPLATES, exclude_unset=True, exclude_none=True)
    templates = [*told.values(), *(cut.column for cut in columns.cut.values())]
    asked = [wanted for one in templates for _, wanted in _parts(one)]
    asked += [[*columns.images], *([name] for name in columns.metadata)]
    at_hand = columns_of(names).keys() | map(str.lower, columns.cut)
    missed = (wanted for wanted in asked if at_hand.isdisjoint(map(str.lower, wanted)))
    return [*dict.fromkeys(name for wanted in missed for name in wanted if name)]


def used_by(columns: Columns, names: tuple[Any, ...]) -> set[Any]:
    """The columns of a file that are read, by its YAML."""
    told = (columns.id, columns.group, columns.prompt, columns.completion, columns.target)
    templates = [*filter(None, told), *(cut.column for cut in columns.cut.values())]
    used = {name for one in templates for _, found, _ in _plan(one, names) for name in found}
    at_hand = columns_of(names)
    wanted = [name.lower() for name in (*columns.images, *columns.metadata)]
    return used | {at_hand[name] for name in wanted if name in at_hand}


def with_cuts(row: Row, columns: Columns) -> Row:
    """The row with the columns that are made from others."""
    made = {
        name: value
        for name, cut in columns.cut.items()
        if name not in columns_of(tuple(row)) and (value := _cut(cut, row))
    }
    return {**made, **row} if made else row


def _cut(cut: Cut, row: Row) -> str:
    try:
        return _search(cut.pattern, fill(cut.column, row))
    except MissingColumn:
        return ""


def _search(pattern: str, text: str) -> str:
    match = finder(pattern)(text)
    return clean(match[1 if match.re.groups else 0]) if match else ""


def source_id_of(number: int, row: Row, columns: Columns) -> str:
    """What identifies a row within its dataset; its number is the last resort."""
    try:
        named = fill(columns.id, row, read_id) if columns.id else ""
    except MissingColumn:
        named = ""
    return named or read_id(row.get(KEY)) or str(number)


def group_of(source_id: str, row: Row, columns: Columns) -> Group:
    """What a split must not cut through.

    Raises:
        MissingColumn: the row does not say what its YAML names.
    """
    if columns.group is None:
        return Group(source_id, "")
    group = fill(columns.group, row, read_id)
    if columns.group_pattern and not (group := _search(columns.group_pattern, group)):
        raise MissingColumn("group")
    return build_group(group, columns.group_kind or _kind_of(columns.group, row))


def _kind_of(template: str, row: Row) -> str:
    """What the columns that fill a template are ids of."""
    taken = (
        next((name for name in names if read_id(row[name])), "")
        for _, names, _ in _plan(template, tuple(row))
    )
    return "+".join(kind_of_column(str(name)) for name in taken if name) or "group"


def metadata_of(row: Row, columns: Columns) -> dict[str, Any]:
    """The columns to keep, by the names that the YAML gives them."""
    pairs = _kept(columns.metadata, tuple(row)) if columns.metadata else []
    return known({name: row[column] for name, column in pairs})


@lru_cache(maxsize=512)
def _kept(wanted: tuple[str, ...], names: tuple[Any, ...]) -> list[tuple[str, Any]]:
    at_hand = columns_of(names)
    return [(name, at_hand[name.lower()]) for name in wanted if name.lower() in at_hand]
