"""The dataset registry: what is known of each dataset, its files, and its rows as Examples."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from itertools import groupby, product
from pathlib import Path, PurePath
from typing import Literal

from pydantic import field_validator

from medllm import console
from medllm.artifacts.digest import digest_file, digest_files, digest_text
from medllm.artifacts.manifest import Access, DataTerm, Parent
from medllm.artifacts.places import data_dir as default_data_dir
from medllm.config.base import Place, Strict
from medllm.config.loader import read_yaml, validate
from medllm.data.access import check_agreement
from medllm.data.documents import join_lines
from medllm.data.example import Example, Rejected
from medllm.data.files import kind_of
from medllm.data.hub import HubSource, is_offline, read_hub
from medllm.data.readers import FILE, KEY, READERS, SPLIT, Layout, Row, read_rows
from medllm.data.shapes import Columns, find_shape, list_shapes
from medllm.data.shapes.columns import Pattern
from medllm.data.shapes.multiple_choice import settle_answers
from medllm.data.split import Split, SplitConfig, split_of
from medllm.data.synthetic_radiology import VOCABULARY
from medllm.errors import ConfigError, DataError, did_you_mean

CATALOG = Path(__file__).parent / "catalog"
SPEC_FILE = "dataset.yaml"


class DatasetSpec(Strict):
    """What is known of a dataset, from its YAML."""

    title: str
    """Name for people."""
    description: str = ""
    """What it is, in a line."""
    shape: str
    """How its rows become Examples: `columns`, `local`, one of medllm's or of a package's own."""
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
    homepage: str | None = None
    """Where to read about it and get it."""
    expected_rows: int | None = None
    """Rows of the full release; another number is a warning."""
    synthetic: bool = False
    """Whether a program or a model wrote it."""
    placeholders: tuple[str, ...] = ()
    """Marks left where something was removed, as `___`; `…` in one stands for any text."""

    @field_validator("shape")
    @classmethod
    def check_shape(cls, name: str) -> str:
        """Raise ValueError for a shape that nobody knows."""
        known = list_shapes()
        if name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise ValueError(f"unknown shape '{name}'; {hint.rstrip()}")
        return name

    @property
    def is_generated(self) -> bool:
        """Whether its rows come from no file at all."""
        return self.shape == "synthetic_radiology"


@dataclass(frozen=True)
class Dataset:
    """A dataset that can be read: from local files, from the hub, or generated."""

    name: str
    spec: DatasetSpec
    files: tuple[Path, ...] = ()
    test_ids: frozenset[str] = frozenset()

    @property
    def term(self) -> DataTerm:
        """The terms that follow everything made from it."""
        spec = self.spec
        return DataTerm(
            dataset=self.name, licence=spec.licence, access=spec.access, agreement=spec.agreement
        )

    @property
    def data_terms(self) -> tuple[DataTerm, ...]:
        """Its term, as the terms of an input."""
        return (self.term,)

    @property
    def parent(self) -> Parent:
        """It as the parent of an artifact: by its name and terms, and its files or its revision."""
        if self.files:
            path, content = str(self.folder), digest_files(self.folder, self.files)
        elif self.spec.hub:
            path = content = self.spec.hub.label
        else:
            path = f"generated: {self.name}"
            content = f"{self.spec.expected_rows} rows, {digest_file(VOCABULARY)}"
        identity = digest_text(f"{self.term.model_dump_json()}\n{content}")
        return Parent(kind="source", path=path, identity=identity)

    @property
    def folder(self) -> Path:
        """The innermost folder that holds all its files."""
        return Path(os.path.commonpath([path.parent for path in self.files]))

    def rows(self) -> Iterator[Row]:
        """Its raw rows, streamed; a generated dataset has numbers for rows."""
        if self.spec.is_generated:
            yield from ({"number": n} for n in range(self.spec.expected_rows or 0))
        elif self.files:
            folder = self.folder
            for path in self.files:
                yield from self._file_rows(path, str(path.relative_to(folder)))
        elif self.spec.hub:
            start = self.spec.document_start
            rows = read_hub(self.spec.hub)
            yield from _join_rows(rows, start) if start else rows

    def _file_rows(self, path: Path, name: str) -> Iterator[Row]:
        """The rows of one file, marked with where they come from."""
        spec = self.spec
        stem = re.sub(r"(\.\w+)(\.gz)?$", "", name)
        split, place = _split_of_file(name, spec), str(path)
        is_document = kind_of(path) == ".txt" and spec.document_start is None
        rows = read_rows(path, Layout(spec.header, spec.document_start))
        if spec.document_start and kind_of(path) == ".parquet":
            rows = join_lines((row["text"] for row in rows), spec.document_start)
        for number, row in enumerate(rows, 1):
            row.setdefault(FILE, place)
            if split:
                row.setdefault(SPLIT, split)
            if is_document:
                row.setdefault(KEY, stem)
            elif spec.splits:  # so that a row keeps its id whichever other files are there
                row.setdefault(KEY, f"{stem}-{number}")
            yield row

    def read(self, number: int, row: Row) -> Example | Rejected:
        """Its raw row `number` (from 1) as an Example, or why it is none; needs nothing else."""
        read = find_shape(self.spec.shape)(self.name, number, row, self.spec.columns)
        if isinstance(read, Example) and (split := row.get(SPLIT)):
            read.metadata["split"] = split
        return read

    def split_of(self, example: Example, config: SplitConfig) -> Split:
        """Where one of its examples belongs.

        A source that has official splits but none for validation (MedQA of the hub) gives a share
        of its training rows for that.
        """
        return split_of(example, config, self.test_ids, carve_validation=self._lacks_validation)

    @cached_property
    def _lacks_validation(self) -> bool:
        splits = {_split_of_file(path.name, self.spec) for path in self.files}
        if not self.files and self.spec.hub:
            splits = {*self.spec.hub.splits.values()}
        return "train" in splits and "validation" not in splits

    def examples(self) -> Iterator[Example | Rejected]:
        """Its rows as Examples, streamed, with the reason for each row that is none."""
        return (self.read(number, row) for number, row in enumerate(self.rows(), 1))

    def in_split(self, split: Split, config: SplitConfig) -> Iterator[Example]:
        """Its examples of one split, streamed."""
        rows = (row for row in self.examples() if isinstance(row, Example))
        return (row for row in rows if self.split_of(row, config) == split)


def open_dataset(
    ref: str, *, data_dir: Path | None = None, accepted: Collection[str] = ()
) -> Dataset:
    """The dataset of a name, or of a path to the user's own file or folder.

    Raises:
        ConfigError: nobody knows the name.
        DataError: it is neither here nor reachable, or its agreement was not named.
    """
    folder = data_dir or default_data_dir()
    spec = known_specs(folder).get(ref)
    if spec is None:
        if Path(ref).exists():
            return _open_path(Path(ref), folder, accepted)
        raise _unknown(ref, folder)
    check_agreement(ref, spec.access, spec.agreement, accepted)
    if spec.notice:
        console.notice(f"{ref}: {spec.notice}")
    files = find_files(folder / ref, spec)
    if not files and not spec.is_generated:
        _check_reachable(ref, spec, folder / ref)
    return build_dataset(ref, spec, files)


def build_dataset(name: str, spec: DatasetSpec, files: tuple[Path, ...]) -> Dataset:
    """A dataset of files that are here, looked through for how they name right answers.

    Raises:
        DataError: that cannot be told, or its list of test ids is missing.
    """
    if spec.shape == "multiple_choice" and files:
        layout = Layout(spec.header)
        rows = (row for path in files for row in read_rows(path, layout))
        columns = settle_answers(rows, spec.columns)
        spec = spec.model_copy(update={"columns": columns})
    return Dataset(name, spec, files, _read_test_ids(spec))


def known_specs(folder: Path | None = None) -> dict[str, DatasetSpec]:
    """All datasets by name: the catalog's, and the user's (`<data dir>/<name>/dataset.yaml`)."""
    theirs = {
        path.parent.name: read_spec(path)
        for path in sorted((folder or default_data_dir()).glob(f"*/{SPEC_FILE}"))
    }
    return {**_catalog(), **theirs}


def find_files(folder: Path, spec: DatasetSpec) -> tuple[Path, ...]:
    """The raw files of a dataset in its folder; the first pattern that matches counts."""
    for pattern in spec.files:
        found = sorted(
            {
                path
                for one in alternatives(pattern)
                for path in folder.glob(one)
                if kind_of(path) in READERS
                and path.is_file()
                and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            }
        )
        # beside tables, text files say how to use them: LICENSE.txt, SHA256SUMS.txt
        if found:
            return tuple(path for path in found if kind_of(path) != ".txt") or tuple(found)
    return ()


def alternatives(pattern: str) -> list[str]:
    """A pattern with the alternatives of its braces spelt out, each also gzipped."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [part.split(",") if n % 2 else [part] for n, part in enumerate(parts)]
    plain = ["".join(chosen) for chosen in product(*choices)]
    return [*plain, *(f"{one}.gz" for one in plain if not one.endswith("*"))]


def _join_rows(rows: Iterator[Row], start: str) -> Iterator[Row]:
    """Documents out of rows that hold a line each (the hub's WikiText)."""
    for split, lines in groupby(rows, key=lambda row: row.get(SPLIT)):
        for number, row in enumerate(join_lines((line["text"] for line in lines), start), 1):
            yield {SPLIT: split, KEY: f"{split}-{number}", **row}


def _split_of_file(name: str, spec: DatasetSpec) -> Split | None:
    """The official split that a file holds, told by its name."""
    for split, patterns in spec.splits.items():
        if any(fnmatch(PurePath(name).name, pattern) for pattern in patterns):
            return split
    return None


@cache
def _catalog() -> dict[str, DatasetSpec]:
    return {path.stem: read_spec(path) for path in sorted(CATALOG.glob("*.yaml"))}


def read_spec(path: Path) -> DatasetSpec:
    """The description of a dataset in a YAML file."""
    return validate(DatasetSpec, read_yaml(path))


def _read_test_ids(spec: DatasetSpec) -> frozenset[str]:
    if spec.test_ids is None:
        return frozenset()
    if not spec.test_ids.is_file():
        raise DataError(f"no such file of test ids: {spec.test_ids}", "check the dataset's YAML")
    return frozenset(spec.test_ids.read_text(encoding="utf-8").split())


def _open_path(path: Path, data_dir: Path, accepted: Collection[str]) -> Dataset:
    """The user's own data; private unless a `dataset.yaml` beside it declares a licence.

    What lies in the data folder is the dataset it lies there as: a path is no way around terms.
    """
    place, data_dir = path.parent.resolve() / path.name, data_dir.resolve()
    if place != data_dir and place.is_relative_to(data_dir):
        name = place.relative_to(data_dir).parts[0]
        if name in (specs := known_specs(data_dir)):
            check_agreement(name, specs[name].access, specs[name].agreement, accepted)
            files = (place,) if place.is_file() else find_files(data_dir / name, specs[name])
            return build_dataset(name, specs[name], files)
    declared = (path if path.is_dir() else path.parent) / SPEC_FILE
    spec = (
        read_spec(declared) if declared.is_file() else DatasetSpec(title=path.stem, shape="local")
    )
    name = path.name.split(".")[0] or path.name
    check_agreement(name, spec.access, spec.agreement, accepted)
    files = find_files(path, spec) if path.is_dir() else (path,)
    if not files:
        raise DataError(
            f"{path}: holds no data files",
            f"put {', '.join(sorted(READERS))} files there, also .gz",
        )
    return build_dataset(name, spec, files)


def _check_reachable(name: str, spec: DatasetSpec, folder: Path) -> None:
    place = (
        f"put its files ({', '.join(spec.files)}) into {folder}, "
        f"or `medllm datasets add {name} PATH`"
    )
    if spec.hub is None or spec.access == "credentialed":
        raise DataError(f"{name}: no files in {folder}", place)
    if is_offline():
        raise DataError(f"{name}: not on this machine, and the hub is not asked (offline)", place)
    console.notice(f"{name}: no files in {folder}; reading {spec.hub.label} from the hub")


def _unknown(ref: str, folder: Path) -> ConfigError | DataError:
    if "/" in ref or kind_of(Path(ref)) in READERS:
        return DataError(
            f"no such data file or folder: {ref}",
            "check the path, or name a dataset: `medllm datasets list`",
        )
    hint = did_you_mean(ref, sorted(known_specs(folder))).rstrip()
    return ConfigError(f"unknown dataset '{ref}'", hint or "see `medllm datasets list`")


def keep_examples(
    rows: Iterator[Example | Rejected], rejected: dict[str, int]
) -> Iterator[Example]:
    """The examples of a stream; rejected rows are counted by reason."""
    for row in rows:
        if isinstance(row, Rejected):
            rejected[row.reason] = rejected.get(row.reason, 0) + 1
        else:
            yield row
