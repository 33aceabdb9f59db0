"""The dataset registry: what is known of each dataset, its files, and its rows as Examples."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.digest import digest_file, digest_files, digest_text
from medllm.artifacts.manifest import FOR_CARDS, NAME, DataTerm, Parent
from medllm.data.access import check_agreement
from medllm.data.example import Example, Rejected
from medllm.data.generators import GENERATORS
from medllm.data.readers.documents import join_lines
from medllm.data.readers.files import check_readable, kind_of
from medllm.data.readers.rows import (
    FILE,
    KEY,
    NUMBER,
    PART,
    READERS,
    SPLIT,
    Layout,
    Row,
    check_kind,
    read_rows,
    unusual_forms,
)
from medllm.data.registry.hub import HubSource, is_offline, pin_commit, read_hub
from medllm.data.registry.release import (
    alternatives,
    check_links,
    find_files,
    left_out,
    split_of_file,
)
from medllm.data.registry.specs import (
    CATALOG,
    SPEC_FILE,
    DatasetSpec,
    find_spec,
    known_specs,
    official_test_keys,
    open_spec,
    read_spec,
    read_test_ids,
)
from medllm.data.shapes import find_shape
from medllm.data.shapes.multiple_choice import settle_answers
from medllm.data.split import Split, SplitConfig, split_of
from medllm.errors import ConfigError, DataError, did_you_mean
from medllm.places import data_dir as default_data_dir

__all__ = ["CATALOG", "SAY_COLUMNS", "SPEC_FILE", "Dataset", "DatasetSpec", "alternatives",
           "build_dataset", "find_files", "keep_examples", "known_specs", "open_dataset",
           "read_spec", "share_test_groups", "specs_of"]  # fmt: skip

SAY_COLUMNS = "check its columns, or say in a dataset.yaml which is what (docs/datasets.md)"
"""The remedy for files of which no row can be read."""


@dataclass(frozen=True)
class Dataset:
    """A dataset that can be read: from local files, from the hub, or generated."""

    name: str
    spec: DatasetSpec
    files: tuple[Path, ...] = ()
    test_ids: frozenset[str] = frozenset()
    """Its official test groups: they are its whole test set."""
    test_keys: frozenset[str] = frozenset()
    """The official test groups of all datasets, by `Example.group_key`."""
    root: Path | None = None
    """The user's own file or folder: ids begin with the place of their file below it."""
    left_out: tuple[str, ...] = ()
    """The files of its folder that are not read."""

    @property
    def term(self) -> DataTerm:
        """The terms that follow everything made from it."""
        spec = self.spec
        return DataTerm(
            dataset=self.name,
            licence=spec.licence,
            access=spec.access,
            agreement=spec.agreement,
            hub=spec.hub.id if spec.hub else None,
            language=spec.language,
        )

    @property
    def data_terms(self) -> tuple[DataTerm, ...]:
        """Its term, as the terms of an input."""
        return (self.term,)

    @property
    def parent(self) -> Parent:
        """It as the parent of an artifact: by its name, terms, mapping, and files or revision."""
        if self.files:
            path, content = str(self.folder), digest_files(self.folder, self.files)
        elif self.spec.hub:
            path = content = self.spec.hub.label
        else:
            path = f"generated: {self.name}"
            sources = map(digest_file, GENERATORS[self.spec.shape].sources)
            content = ", ".join([f"{self.spec.expected_rows} rows", *sources])
        terms = self.term.model_dump_json(exclude=FOR_CARDS)
        decides = f"{terms}\n{content}\n{self.spec.mapping}"
        held_out = "\n".join(sorted({*self.test_ids, *self.test_keys}))
        identity = digest_text(f"{decides}\n{digest_text(held_out)}")
        return Parent(kind="source", path=path, identity=identity)

    @property
    def folder(self) -> Path:
        """The innermost folder that holds all its files."""
        return Path(os.path.commonpath([path.parent for path in self.files]))

    @cached_property
    def forms(self) -> dict[str, str]:
        """How those of its tables are read that are not of UTF-8 and commas or tabs."""
        layout = Layout(self.spec.header, encoding=self.spec.encoding)
        return {
            (path.parent.relative_to(self.folder) / name).as_posix(): form
            for path in self.files
            for name, form in unusual_forms(path, layout).items()
        }

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
        split, place = split_of_file(name, spec), self._place_of(path)
        is_document = kind_of(path) == ".txt" and spec.document_start is None
        rows = read_rows(path, Layout(spec.header, spec.document_start, spec.encoding))
        if spec.document_start and kind_of(path) == ".parquet":
            rows = join_lines((row["text"] for row in rows), spec.document_start)
        for number, row in enumerate(rows, 1):
            row.setdefault(FILE, place)
            if split:
                row.setdefault(SPLIT, split)
            if is_document:
                row.setdefault(KEY, stem)
            elif self.root:
                self._mark(row, path, number)
            elif spec.splits:  # so that a row keeps its id whichever other files are there
                row.setdefault(KEY, f"{stem}-{number}")
            yield row

    def _place_of(self, path: Path) -> str:
        """The path of a file of the user's below their folder, the same wherever that lies."""
        if self.root is None:
            return str(path)
        return path.name if path == self.root else path.relative_to(self.root).as_posix()

    @cached_property
    def _folders(self) -> dict[str, tuple[Path, ...]]:
        return {self._place_of(one): (one.parent, one.resolve().parent) for one in self.files}

    def folders_of(self, row: Row) -> tuple[Path, ...]:
        """Where a row's file lies, or what it links to; beside others are others' images."""
        return self._folders.get(row.get(FILE, ""), (self.folder,))

    def _mark(self, row: Row, path: Path, number: int) -> None:
        """Note the file of a row of the user's, by which its id is told from those of others."""
        assert self.root
        is_alone = path in (self.root, self._namesake)
        below = "" if is_alone else self._place_of(path)
        row[PART] = "/".join(filter(None, (below, row.get(PART))))
        row.setdefault(NUMBER, number)

    @cached_property
    def _namesake(self) -> Path | None:
        """The one file that is named as its folder, whose rows need no more in their ids."""
        named = [path for path in self.files if path.name.split(".")[0] == self.name]
        return named[0] if len(named) == 1 and named[0].parent == self.root else None

    def read(self, number: int, row: Row) -> Example | Rejected:
        """Its raw row `number` (from 1) as an Example, or why it is none; needs nothing else."""
        shape = find_shape(self.spec.shape)
        read = shape(self.name, row.get(NUMBER, number), row, self.spec.columns)
        part = row.get(PART) if self.root else None
        if part and read.id.startswith(f"{self.name}/"):  # rows that medllm wrote keep their ids
            read = _in_file(read, self.name, part)
        if isinstance(read, Example) and (split := row.get(SPLIT)):
            read.metadata["split"] = split
        return read

    def split_of(self, example: Example, config: SplitConfig) -> Split:
        """Where one of its examples belongs.

        A source that has official splits but none for validation (MedQA of the hub) gives a share
        of its training rows for that.
        """
        carve = self._lacks_validation
        return split_of(example, config, self.test_ids, self.test_keys, carve_validation=carve)

    def is_official_test(self, example: Example) -> bool:
        """Whether the test set of some dataset names the group of an example."""
        return example.group in self.test_ids or example.group_key in self.test_keys

    @cached_property
    def _lacks_validation(self) -> bool:
        splits = {split_of_file(path.name, self.spec) for path in self.files}
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
    spec = find_spec(ref, folder)
    if spec is None:
        if Path(ref).exists():
            return _open_path(Path(ref), folder, accepted)
        raise _unknown(ref, folder)
    check_agreement(ref, spec.access, spec.agreement, accepted)
    if spec.notice:
        console.notice(f"{ref}: {spec.notice}")
    check_links(folder / ref)
    files = find_files(folder / ref, spec)
    if not files and not spec.is_generated:
        spec = spec.model_copy(update={"hub": _find_on_hub(ref, spec, folder / ref)})
    return build_dataset(ref, spec, files, folder / ref, folder)


def build_dataset(
    name: str,
    spec: DatasetSpec,
    files: tuple[Path, ...],
    place: Path | None = None,
    data_dir: Path | None = None,
) -> Dataset:
    """A dataset of files that are here, at `place`.

    They are looked through for how they name right answers.

    Raises:
        DataError: that cannot be told, or its list of test ids is missing.
    """
    for path in files:
        check_readable(path)
    if spec.shape == "multiple_choice" and files:
        layout = Layout(spec.header, encoding=spec.encoding)
        rows = (row for path in files for row in read_rows(path, layout))
        columns = settle_answers(rows, spec.columns)
        spec = spec.model_copy(update={"columns": columns})
    keys = official_test_keys(data_dir)
    dataset = Dataset(name, spec, files, read_test_ids(spec), keys | spec.test_keys)
    if place is None or (CATALOG / f"{name}.yaml").is_file():
        return dataset
    others = left_out(place, spec, files) if place.is_dir() else ()
    if others:
        console.notice(f"{name}: not read, for they are no data files: {console.some_of(others)}")
    return replace(dataset, root=place, left_out=others)


def share_test_groups(datasets: Sequence[Dataset]) -> list[Dataset]:
    """The datasets of one command: what is an official test group of one is one of all."""
    keys = frozenset().union(*(dataset.test_keys for dataset in datasets))
    return [replace(dataset, test_keys=keys) for dataset in datasets]


def specs_of(datasets: Iterable[Dataset]) -> dict[str, Any]:
    """What decides the rows and splits of each dataset, as plain data."""
    return {
        dataset.name: json.loads(dataset.spec.mapping) | ({"forms": forms} if forms else {})
        for dataset in datasets
        for forms in [dataset.forms]
    }


def _in_file(read: Example | Rejected, dataset: str, part: str) -> Example | Rejected:
    """What was read, with an id that no row of another file has."""
    source_id = read.id.removeprefix(f"{dataset}/")
    identity = f"{dataset}/{part}/{source_id}"
    if isinstance(read, Rejected):
        return replace(read, id=identity)
    is_alone = not read.group_kind and read.group == source_id
    return replace(read, id=identity, group=f"{part}/{source_id}" if is_alone else read.group)


def _join_rows(rows: Iterator[Row], start: str) -> Iterator[Row]:
    """Documents out of rows that hold a line each (the hub's WikiText)."""
    for split, lines in groupby(rows, key=lambda row: row.get(SPLIT)):
        for number, row in enumerate(join_lines((line["text"] for line in lines), start), 1):
            yield {SPLIT: split, KEY: f"{split}-{number}", **row}


def _open_path(path: Path, data_dir: Path, accepted: Collection[str]) -> Dataset:
    """The user's own data; private unless a `dataset.yaml` beside it declares a licence.

    What lies in the data folder is the dataset it lies there as: a path is no way around terms.
    """
    place, data_dir = path.parent.resolve() / path.name, data_dir.resolve()
    if place != data_dir and place.is_relative_to(data_dir):
        name = place.relative_to(data_dir).parts[0]
        if spec := find_spec(name, data_dir):
            check_agreement(name, spec.access, spec.agreement, accepted)
            files = (place,) if place.is_file() else find_files(data_dir / name, spec)
            return build_dataset(name, spec, files, data_dir / name, data_dir)
    declared = (path if path.is_dir() else path.parent) / SPEC_FILE
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise DataError(f"{path}: cannot be read: permission denied", "check its permissions")
    if (path / NAME).is_file():
        raise DataError(
            f"{path}: holds a result of medllm, not raw data", "name a file in it, as train.jsonl"
        )
    name = path.name.split(".")[0] or path.name
    spec = open_spec(name, declared) if declared.is_file() else DatasetSpec(title=path.stem)
    check_agreement(name, spec.access, spec.agreement, accepted)
    check_links(path)
    files = find_files(path, spec) if path.is_dir() else (path,)
    if path.is_file():
        check_kind(path)
    if not files:
        raise DataError(
            f"{path}: holds no data files",
            f"put {', '.join(sorted(READERS))} files there, also .gz",
        )
    return build_dataset(name, spec, files, path, data_dir)


def _find_on_hub(name: str, spec: DatasetSpec, folder: Path) -> HubSource:
    """Where a dataset is read that has no files here: its repository, at one commit."""
    place = (
        f"put its files ({', '.join(spec.files)}) into {folder}, "
        f"or `medllm datasets add {name} PATH`"
    )
    if spec.hub is None or spec.access == "credentialed":
        raise DataError(f"{name}: no files in {folder}", place)
    if is_offline():
        raise DataError(f"{name}: not on this machine, and the hub is not asked (offline)", place)
    source = pin_commit(spec.hub)
    console.notice(f"{name}: no files in {folder}; reading {source.label} from the hub")
    return source


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
