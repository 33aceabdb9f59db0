"""What the registry tells people: lists, descriptions, and adding files to it."""

from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

import yaml

from medllm.artifacts.places import data_dir
from medllm.config.loader import Document, validate
from medllm.data.access import may_show
from medllm.data.example import Example
from medllm.data.readers import kind_of
from medllm.data.registry import (
    SPEC_FILE,
    Dataset,
    DatasetSpec,
    find_files,
    keep_examples,
    known_specs,
    open_dataset,
)
from medllm.errors import ConfigError, DataError

SAMPLE_ROWS = 3
SAMPLE_CHARACTERS = 600


def describe_datasets() -> list[tuple[str, ...]]:
    """One row a dataset: name, title, rows, licence, access, where."""
    return [
        (
            name,
            spec.title,
            f"{spec.expected_rows:,}" if spec.expected_rows else "?",
            spec.licence,
            spec.access,
            _where(name, spec),
        )
        for name, spec in sorted(known_specs().items())
    ]


def _where(name: str, spec: DatasetSpec) -> str:
    if find_files(data_dir() / name, spec):
        return str(data_dir() / name)
    if spec.synthetic:
        return "generated"
    return f"hub: {spec.hub.id}" if spec.hub else "not here"


def describe_dataset(name: str) -> list[str]:
    """What is known of a dataset, a line each.

    Raises:
        ConfigError: nobody knows the name.
    """
    spec = known_specs().get(name) or open_dataset(name, offline=True).spec
    lines = [f"{name}: {spec.title}", spec.description]
    lines += [f"licence: {spec.licence} ({spec.access})", f"found: {_where(name, spec)}"]
    if spec.files != ("*",):
        lines.append(f"raw files: {', '.join(spec.files)} in {data_dir() / name}")
    if spec.agreement:
        lines.append(f"needs the data use agreement '{spec.agreement}'")
    if spec.homepage:
        lines.append(f"more: {spec.homepage}")
    return [line for line in lines if line]


def sample_texts(name: str) -> Iterator[str]:
    """Three rows of an open dataset that is on this machine."""
    spec = known_specs()[name]
    dataset = Dataset(name, spec, find_files(data_dir() / name, spec))
    if not may_show([dataset.term]) or not (dataset.files or spec.synthetic):
        return
    rows = (row for row in dataset.examples() if isinstance(row, Example))
    for row in islice(rows, SAMPLE_ROWS):
        text = (
            row.text if len(row.text) <= SAMPLE_CHARACTERS else row.text[:SAMPLE_CHARACTERS] + " …"
        )
        yield f"\n{row.id}\n{text}"


def add_dataset(name: str, path: Path, licence: str | None, access: str | None) -> str:
    """Link files into the data folder after parsing them; returns what was found, in a line.

    Raises:
        ConfigError: a bad name or access class.
        DataError: the files do not parse as this dataset, or other files of that name are there.
    """
    if not path.exists():
        raise DataError(f"no such data file or folder: {path}", "check the path")
    known = known_specs()
    spec = known.get(name) or _new_spec(name, licence, access)
    if name in known and (licence or access):
        raise ConfigError(
            f"{name} is in the registry with its licence ({spec.licence})",
            "leave --licence and --access out",
        )
    files = (path,) if path.is_file() else find_files(path, spec)
    if not files:
        raise DataError(
            f"{path}: has no files like {', '.join(spec.files)}", "name the folder that holds them"
        )
    reasons: Counter[str] = Counter()
    good = sum(1 for _ in keep_examples(Dataset(name, spec, files).examples(), reasons))
    if not good:
        why = (
            f": all rows are left out, most as '{reasons.most_common(1)[0][0]}'"
            if reasons
            else ": they are empty"
        )
        raise DataError(
            f"{path}: the files do not parse as {name}{why}",
            f"see `medllm datasets show {name}` for its form",
        )
    _link(name, spec, files, new=name not in known)
    note = (
        f" ({spec.expected_rows:,} in the full release)"
        if spec.expected_rows and good != spec.expected_rows
        else ""
    )
    left = f"; {reasons.total():,} left out: {dict(reasons)}" if reasons else ""
    return (
        f"{name}: {good:,} rows{note} of shape {spec.shape}{left}; linked into {data_dir() / name}"
    )


def _new_spec(name: str, licence: str | None, access: str | None) -> DatasetSpec:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigError(
            f"'{name}' cannot be the name of a dataset", "use letters, digits, - and _"
        )
    data = {
        "title": name,
        "shape": "local",
        "licence": licence or "undeclared",
        "access": access or "private",
    }
    return validate(DatasetSpec, Document(data))


def _release_name(file: Path, spec: DatasetSpec) -> str:
    """The name that a file must have to be found: its own, or that of the release of its kind."""
    if any(fnmatch(file.name, pattern) for pattern in spec.files):
        return file.name
    for pattern in spec.files:
        same_kind = kind_of(file).removesuffix("l") == kind_of(Path(pattern)).removesuffix("l")
        if same_kind and file.name.endswith(".gz") == pattern.endswith(".gz"):
            return pattern
    raise DataError(f"{file}: not one of {', '.join(spec.files)}", "convert it to that kind")


def _link(name: str, spec: DatasetSpec, files: tuple[Path, ...], *, new: bool) -> None:
    folder = data_dir() / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / (_release_name(file, spec) if len(files) == 1 else file.name)
        if link.is_symlink():
            link.unlink()
        if link.exists():
            raise DataError(f"{link} is there already", "remove it first if it is to be replaced")
        link.symlink_to(file.resolve())
    if new:
        content = {
            "title": spec.title,
            "shape": spec.shape,
            "licence": spec.licence,
            "access": spec.access,
        }
        (folder / SPEC_FILE).write_text(yaml.safe_dump(content), encoding="utf-8")
