"""What is known of each dataset: the catalog's YAML and the user's own."""

import math
import re
from functools import cache, lru_cache
from pathlib import Path, PurePath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from medllm import console
from medllm.artifacts.manifest import STRICTNESS, Access
from medllm.config.base import Place, Strict
from medllm.config.loader import read_yaml, validate
from medllm.data.generators import GENERATORS
from medllm.data.groups import Group, read_id, squeeze
from medllm.data.readers.files import open_text
from medllm.data.registry.hub import HubSource
from medllm.data.shapes import SHAPES, Columns, list_shapes, passed_over
from medllm.data.shapes.columns import Pattern
from medllm.data.split import Split
from medllm.errors import ConfigError, DataError, did_you_mean
from medllm.places import data_dir as default_data_dir

CATALOG = Path(__file__).parents[1] / "catalog"
SPEC_FILE = "dataset.yaml"
MOST_CHOICES = 1000
"""Alternatives in the braces of a pattern of files."""


def check_encoding(name: str) -> str:
    """Raise ValueError for what is no encoding of text."""
    try:
        "".encode(name)
    except (LookupError, ValueError):
        hint = "utf-8, cp1252 and latin-1 are usual"
        raise ValueError(f"no encoding is called '{name}'; {hint}") from None
    return name


Encoding = Annotated[str, AfterValidator(check_encoding)]


def check_language(code: str) -> str:
    """Raise ValueError for what is no ISO 639 code, as the hub's model cards want it."""
    if not re.fullmatch(r"[a-z]{2,3}", code):
        near = re.match(r"[a-z]{2,3}\b", code.replace("_", "-").lower())
        hint = f"did you mean '{near[0]}'?" if near else "en and de are"
        raise ValueError(f"'{code:.40}' is no ISO 639 code of a language; {hint}")
    return code


Language = Annotated[str, AfterValidator(check_language)]


class DatasetSpec(Strict):
    """What is known of a dataset, from its YAML."""

    SHOWN: ClassVar[str] = "docs/datasets.md"
    title: str = ""
    """Name for people."""
    description: str = ""
    """What it is, in a line."""
    shape: str = "local"
    """How its rows become Examples: `columns`, `local` (by the usual names of columns), one of
    medllm's or of a package's own."""
    columns: Columns = Columns()
    """Which columns hold what."""
    task: Literal["qa", "mcq", "summarize", "text", "reasoning"] | None = None
    """What its rows are for, unless a recipe says otherwise."""
    hub: HubSource | None = None
    """Where it lies on the Hugging Face hub."""
    files: tuple[str, ...] = ("**/*",)
    """Patterns of its raw release files, also gzipped; the first that any file matches counts."""
    header: tuple[str, ...] = ()
    """Columns of CSV files that come without a header line."""
    encoding: Encoding | None = None
    """Encoding of its text files, as `cp1252`; default UTF-8, or what a table's content tells."""
    document_start: Pattern | None = None
    """Regular expression: the lines of a text file at which a new document begins."""
    splits: dict[Split, tuple[str, ...]] = {}
    """Official splits: patterns of the names of their files."""
    test_ids: Place | None = None
    """File beside the YAML that lists the official test groups."""
    licence: str = "undeclared"
    """Licence of the data."""
    access: Access = "private"
    """Who may have it; a user's own data is private unless declared otherwise."""
    agreement: str | None = None
    """Name of the data use agreement that reading it needs."""
    access_steps: tuple[str, ...] = ()
    """What to do to get it, step by step."""
    notice: str = ""
    """What must be said whenever it is read."""
    language: tuple[Language, ...] = ()
    """Languages of its texts, as ISO 639 codes (`[de]`), for cards; nothing is guessed."""
    homepage: str | None = None
    """Where to read about it and get it."""
    expected_rows: int | None = Field(default=None, ge=0)
    """Rows of the full release; another number is a warning."""
    synthetic: bool = False
    """Whether a program or a model wrote it."""
    placeholders: tuple[str, ...] = ()
    """Marks left where something was removed, as `___`; `…` in one stands for any text."""

    @field_validator("files")
    @classmethod
    def check_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        """Raise ValueError for patterns of no files, or of files elsewhere."""
        for pattern in patterns:
            parts = PurePath(pattern).parts
            if not parts or ".." in parts or PurePath(pattern).is_absolute():
                raise ValueError(f"'{pattern}' is no pattern of files below the data's own folder")
            if math.prod(part.count(",") + 1 for part in pattern.split("{")[1:]) > MOST_CHOICES:
                raise ValueError(f"'{pattern:.40}' has more than {MOST_CHOICES} alternatives")
        if not patterns:
            raise ValueError("names no files; leave it out for all")
        return patterns

    @field_validator("shape")
    @classmethod
    def check_shape(cls, name: str) -> str:
        """Raise ValueError for a shape that nobody knows."""
        if name not in SHAPES and name not in (known := list_shapes()):
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise ValueError(f"unknown shape '{name}'; {hint.rstrip()}")
        return name

    @field_validator("columns")
    @classmethod
    def check_columns(cls, columns: Columns, known: ValidationInfo) -> Columns:
        """Raise ValueError for columns that are named and that the shape does not go by."""
        shape = known.data.get("shape", "")  # empty where it is wrong itself
        if unread := passed_over(shape, columns):
            hint = "; `shape: columns` does" if shape == "local" else ""
            raise ValueError(f"the shape {shape} does not read {', '.join(unread)}{hint}")
        return columns

    @property
    def is_generated(self) -> bool:
        """Whether its rows come from no file at all."""
        return self.shape in GENERATORS

    @property
    def mapping(self) -> str:
        """What decides its rows and splits, as text that is the same for the same rows."""
        return self.model_dump_json(exclude=ABOUT)

    @property
    def test_keys(self) -> frozenset[str]:
        """Its official test groups as every dataset of the same kind of groups names them."""
        kind = self.columns.group_kind
        return _keys(read_test_ids(self), kind) if kind else frozenset()


ABOUT = {"title", "description", "hub", "files", "test_ids", "licence", "access", "agreement",
         "access_steps", "notice", "language", "homepage", "expected_rows"}  # fmt: skip
"""What is said of a dataset, or found again in its files, its terms or its revision."""


def known_specs(folder: Path | None = None) -> dict[str, DatasetSpec]:
    """All datasets by name: the catalog's, and the user's (`<data dir>/<name>/dataset.yaml`).

    One that cannot be read is left out, and said; `find_spec` raises for it.
    """
    theirs: dict[str, DatasetSpec] = {}
    for name, path in _declared(folder).items():
        try:
            theirs[name] = open_spec(name, path)
        except ConfigError as problem:
            _announce_broken(problem.message)
    broken = _declared(folder).keys() - theirs.keys()
    shipped = {name: spec for name, spec in _catalog().items() if name not in broken}
    return {**shipped, **theirs}


def find_spec(name: str, folder: Path | None = None) -> DatasetSpec | None:
    """What is known of a dataset, if anything is.

    Raises:
        ConfigError: its YAML is wrong.
    """
    if declared := _declared(folder).get(name):
        return open_spec(name, declared)
    return _catalog().get(name)


def open_spec(name: str, path: Path) -> DatasetSpec:
    """What a user says of a dataset; its terms may be stricter than the catalog's, never looser.

    Raises:
        ConfigError: the YAML is wrong.
    """
    spec, squeezed = read_spec(path), squeeze(name)
    shipped = next((one for key, one in _catalog().items() if squeeze(key) == squeezed), None)
    if shipped is None:
        return spec
    return _no_looser(spec, path, shipped.access, shipped.licence, shipped.agreement)


def _no_looser(
    spec: DatasetSpec, path: Path, access: Access, licence: str, agreement: str | None
) -> DatasetSpec:
    """The description with these terms where its own are looser; an agreement stays anyway."""
    agreement = agreement or spec.agreement
    if STRICTNESS.index(spec.access) >= STRICTNESS.index(access):
        return spec.model_copy(update={"agreement": agreement})
    console.notice(f"{path}: it describes {access} data: what it says of access is too loose")
    terms = {"access": access, "licence": licence, "agreement": agreement}
    return spec.model_copy(update=terms)


def check_specs(folder: Path | None = None) -> None:
    """Raise ConfigError where YAML of the user's datasets is wrong; it names all that is."""
    problems = []
    for name, path in _declared(folder).items():
        try:
            open_spec(name, path)
        except ConfigError as problem:
            problems.append(problem)
    if problems:
        raise ConfigError("\n".join(one.message for one in problems), problems[0].fix)


def official_test_keys(folder: Path | None = None) -> frozenset[str]:
    """The official test groups of all datasets: whoever has rows of them must not train on these.

    Those of a kind that datasets share, as the PMIDs of PubMedQA.
    """
    return frozenset().union(*(spec.test_keys for spec in known_specs(folder).values()))


def _declared(folder: Path | None) -> dict[str, Path]:
    """The user's YAML files by the names of their datasets."""
    found = sorted((folder or default_data_dir()).glob(f"*/{SPEC_FILE}"))
    return {path.parent.name: path for path in found}


@cache
def _announce_broken(message: str) -> None:
    console.notice(f"{message}; this dataset is left out")


@cache
def _catalog() -> dict[str, DatasetSpec]:
    return {path.stem: read_spec(path) for path in sorted(CATALOG.glob("*.yaml"))}


def read_spec(path: Path) -> DatasetSpec:
    """The description of a dataset in a YAML file, with terms no looser than what it extends."""
    document = read_yaml(path)
    spec, extended = validate(DatasetSpec, document), document.extended
    while extended:
        said = extended.data
        if (access := said.get("access")) in STRICTNESS:
            licence = str(said.get("licence", spec.licence))
            spec = _no_looser(spec, path, access, licence, said.get("agreement"))
        extended = extended.extended
    return spec


def read_test_ids(spec: DatasetSpec) -> frozenset[str]:
    """The official test groups that the file beside its YAML lists.

    Raises:
        DataError: it is not there, or is no text.
    """
    if spec.test_ids is None:
        return frozenset()
    path = spec.test_ids
    if not path.is_file():
        raise DataError(f"no such file of test ids: {path}", "check the dataset's YAML")
    status = path.stat()
    return _read_ids(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=32)
def _keys(ids: frozenset[str], kind: str) -> frozenset[str]:
    return frozenset(Group(one, kind).key for one in ids)


@lru_cache(maxsize=32)
def _read_ids(path: Path, changed: int, size: int) -> frozenset[str]:
    """The ids in a file as it is now; every dataset that is opened asks for those of all."""
    with open_text(path, newline=None) as lines:
        return frozenset(filter(None, (read_id(one) for line in lines for one in line.split())))
