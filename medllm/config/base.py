"""What every configuration class shares: strictness, and the marks for values that name a place."""

import math
import os
from collections.abc import Iterator, Mapping, ValuesView
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

LARGEST = 2**32 - 1
"""No setting is larger; it is what a number is in the C libraries below."""
LEAST_TEMPERATURE = 0.001
"""Logits divided by less leave the range of 16-bit floats."""
MOST_NAME_BYTES = 200
"""Of a folder's name; file systems take 255, and endings are put behind it."""


class Location:
    """Marks a field that holds a place: relative to its file, and never part of an identity.

    `may_be_name` fields hold either a path or a name (a hub id, a dataset): they are a path when
    one exists there. With `bare_is_name` a single word is always a name, whatever lies there.
    """

    def __init__(self, *, may_be_name: bool, bare_is_name: bool = False) -> None:
        self.may_be_name = may_be_name
        self.bare_is_name = bare_is_name


NOT_IDENTITY: dict[str, Any] = {"identity": False}
"""For a field's `json_schema_extra`: it changes how, not what (a port, `overwrite`)."""

Place = Annotated[Path, Location(may_be_name=False)]
Ref = Annotated[str, Location(may_be_name=True)]
DatasetRef = Annotated[str, Location(may_be_name=True, bare_is_name=True)]


def _check_temperature(value: float) -> float:
    if 0 < value < LEAST_TEMPERATURE:
        raise ValueError(f"must be 0, which is greedy decoding, or at least {LEAST_TEMPERATURE}")
    return value


class Record(BaseModel):
    """A frozen model that refuses unknown keys and wrong types."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        validate_default=True,
    )


class Strict(Record):
    """A record that people write: it also refuses numbers that no setting can have."""

    @field_validator("*", mode="after")
    @classmethod
    def _check_numbers(cls, value: Any) -> Any:
        check_finite(value)
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if isinstance(number, int | float) and abs(number) > LARGEST:
                raise ValueError(f"must be a number between -{LARGEST:,} and {LARGEST:,}")
        return value


def check_finite(value: Any) -> None:
    """Raise ValueError for NaN or infinity, also inside of plain data."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a finite number, not {value}")
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, list | tuple | ValuesView):
        for item in value:
            check_finite(item)


def _check_folder_name(name: str) -> str:
    is_plain = name.isprintable() and name.strip() and not set(name) & set("/\\")
    if not is_plain or name in {".", ".."} or len(os.fsencode(name)) > MOST_NAME_BYTES:
        raise ValueError(
            f"names a folder: at most {MOST_NAME_BYTES} bytes, no slash, no control character"
        )
    return name


FolderName = Annotated[str, AfterValidator(_check_folder_name)]
Temperature = Annotated[float, Field(ge=0, le=2), AfterValidator(_check_temperature)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What NumPy's generators take, and so transformers."""
ContextLength = Annotated[int, Field(ge=64, le=2**24)]
"""Tokens; no model was made for more than 10 million."""


def location_of(field: FieldInfo) -> Location | None:
    """The `Location` mark of a field, looked for inside unions, lists and mappings."""
    marks = (*field.metadata, *_parts_of(field.annotation))
    return next((mark for mark in marks if isinstance(mark, Location)), None)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The model classes that an annotation may hold."""
    parts = _parts_of(annotation)
    return (part for part in parts if isinstance(part, type) and issubclass(part, BaseModel))


def _parts_of(annotation: Any) -> Iterator[Any]:
    """An annotation and everything in it, marks too."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts_of(part)


def settings_of(config: BaseModel) -> dict[str, Any]:
    """What the result depends on: the configuration without places, as plain data.

    The identities of the parents stand for the places.
    """
    kept = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if location_of(field) or field.json_schema_extra == NOT_IDENTITY:
            del kept[name]
        elif isinstance(value, BaseModel):
            kept[name] = settings_of(value)
        elif isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
            kept[name] = [settings_of(item) for item in value]
    return kept


def inputs_of(config: BaseModel) -> Iterator[Path]:
    """The files and folders on this machine that a configuration names to be read.

    Folders of definitions and of raw files (`…_dir`) are not among them: only what has a name in
    them is read.
    """
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else (value,)
        for one in values:
            if isinstance(one, BaseModel):
                yield from inputs_of(one)
            elif one and location_of(field) and name != "output" and not name.endswith("_dir"):
                yield from filter(is_there, [Path(str(one))])


def is_there(path: Path) -> bool:
    """Whether something exists at a path, which may be no possible path at all."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or with a NUL
        return False


class VerbConfig(Strict):
    """What every verb that writes an artifact takes."""

    output: Place | None = None
    """Folder of the result; under a recipe `<output_dir>/<verb>`."""
    overwrite: bool = Field(default=False, json_schema_extra=NOT_IDENTITY)
    """Whether another artifact of medllm's in the output may be replaced."""
    seed: Seed = 0
    """Seed of everything random."""
    recipe: str | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """Name of the recipe, which names what is made; filled in by `medllm`."""


class DataConfig(VerbConfig):
    """What every verb that reads datasets takes."""

    data_dir: Place | None = None
    """Folder with raw files, one folder a dataset; default `$MEDLLM_DATA_DIR`."""
    data_use: tuple[str, ...] = Field(default=(), json_schema_extra=NOT_IDENTITY)
    """Data use agreements that you have signed."""
