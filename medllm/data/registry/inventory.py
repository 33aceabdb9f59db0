"""What the registry tells people: lists, descriptions, and adding files to it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from medllm import console
from medllm.config.base import MOST_NAME_BYTES, is_there
from medllm.config.loader import Document, validate
from medllm.data.access import may_show
from medllm.data.example import Example, Rejected
from medllm.data.readers.files import kind_of
from medllm.data.registry.datasets import (
    CATALOG,
    SAY_COLUMNS,
    SPEC_FILE,
    Dataset,
    DatasetSpec,
    alternatives,
    build_dataset,
    find_files,
    keep_examples,
    known_specs,
    open_dataset,
)
from medllm.data.registry.hub import fetch_files
from medllm.data.registry.specs import open_spec
from medllm.data.shapes.columns import absent_from
from medllm.errors import ConfigError, DataError
from medllm.places import data_dir

SAMPLE_ROWS = 3
SAMPLE_CHARACTERS = 600


def describe_datasets() -> list[tuple[str, ...]]:
    """One row a dataset: name, title, rows, access with licence, where."""
    return [
        (
            name,
            spec.title,
            f"{spec.expected_rows:,}" if spec.expected_rows else "?",
            f"{spec.access}: {spec.licence}",
            _where(name, spec),
        )
        for name, spec in sorted(known_specs().items())
    ]


def record_datasets(*names: str) -> list[dict[str, Any]]:
    """Named datasets, or all, with the keys of `dataset.yaml`, and where each was found."""
    specs = known_specs()
    chosen = {name: specs.get(name) or open_dataset(name).spec for name in names} or specs
    return [
        {
            "name": name,
            "where": _where(name, spec),
            "folder": str(data_dir() / name),
            **spec.model_dump(mode="json", exclude={"test_ids", "columns"}),
            "columns": spec.columns.model_dump(mode="json", exclude_unset=True),
        }
        for name, spec in sorted(chosen.items())
    ]


def _where(name: str, spec: DatasetSpec) -> str:
    if find_files(data_dir() / name, spec):
        return "here"
    if spec.is_generated:
        return "generated"
    return "hub" if spec.hub else "not here"


def describe_dataset(name: str) -> list[str]:
    """What is known of a dataset, a line each.

    Raises:
        ConfigError: nobody knows the name.
    """
    spec = known_specs().get(name) or open_dataset(name).spec
    release = "" if spec.is_generated or spec.files[0] == "**/*" else ", ".join(spec.files)
    facts = {
        name: spec.title,
        "what it is": spec.description,
        "licence": f"{spec.licence} ({spec.access})",
        "language": ", ".join(spec.language),
        "agreement": spec.agreement,
        "note": spec.notice,
        "written by a program or a model": "yes" if spec.synthetic else "",
        "rows of the full release": f"{spec.expected_rows:,}" if spec.expected_rows else "",
        "found": f"{_where(name, spec)}; its folder is {data_dir() / name}",
        "raw files, also gzipped": release,
        "hub": spec.hub.label if spec.hub else "",
        "official splits": _official_splits(spec),
        "task": spec.task,
        "removed text is marked": ", ".join(spec.placeholders),
        "shape": spec.shape,
        **_fields(spec),
    }
    lines = [f"{fact}: {value}" for fact, value in facts.items() if value]
    return [*lines, *access_steps(name, spec)]


def _fields(spec: DatasetSpec) -> dict[str, str]:
    """Where each field of an Example comes from, as far as the YAML says it."""
    said = spec.columns.model_dump(exclude_unset=True, exclude={"cut", "first_answer"})
    return {
        f"  {field}": ", ".join(value) if isinstance(value, tuple) else value.replace("\n", "⏎")
        for field, value in said.items()
    }


def _official_splits(spec: DatasetSpec) -> str:
    if spec.test_ids:
        return f"test, by the ids in {spec.test_ids.name}"
    hub = [split for split in spec.hub.splits.values() if split] if spec.hub else []
    return ", ".join(dict.fromkeys([*spec.splits, *hub]))


def access_steps(name: str, spec: DatasetSpec) -> list[str]:
    """How to get a dataset, a line a step."""
    steps = [*spec.access_steps]
    if spec.access == "credentialed":
        agreement = spec.agreement or name
        steps += [
            f"Put the files into {data_dir() / name}, or `medllm datasets add {name} PATH`",
            f"Name the agreement wherever they are read: --accept-terms {agreement}",
        ]
    elif spec.is_generated:
        steps = ["name it, and its rows are generated"]
    elif not steps and spec.hub:
        steps = [f"medllm datasets fetch {name}"]
    numbered = [f"  {number}. {step}" for number, step in enumerate(steps, 1)]
    more = [f"homepage: {spec.homepage}"] if spec.homepage else []
    return ["how to get it:", *numbered, *more] if numbered else more


def sample_texts(name: str) -> Iterator[str]:
    """Three rows of an open dataset that is on this machine."""
    spec = known_specs().get(name)
    if spec is None:
        return
    dataset = build_dataset(name, spec, find_files(data_dir() / name, spec))
    if not may_show([dataset.term]) or not (dataset.files or spec.is_generated):
        return
    rows = (row for row in dataset.examples() if isinstance(row, Example))
    for row in islice(rows, SAMPLE_ROWS):
        rest = " …" if len(row.text) > SAMPLE_CHARACTERS else ""
        yield f"\n{row.id}\n{row.text[:SAMPLE_CHARACTERS]}{rest}"


def fetch_dataset(name: str) -> str:
    """Download a dataset's pinned files into the data folder; returns what came, in a line.

    Raises:
        ConfigError: nobody knows the name.
        DataError: it must be got by hand, or the hub does not give it.
    """
    spec = known_specs().get(name) or open_dataset(name).spec
    if spec.hub is None or spec.access == "credentialed":
        steps = access_steps(name, spec)
        console.report(how_to_get=steps)
        for line in steps:
            console.say(line)
        fix = "follow the steps above" if steps else f"`medllm datasets add {name} PATH`"
        raise DataError(f"{name}: medllm may not or cannot download it", fix)
    folder = data_dir() / name
    fetch_files(spec.hub, folder)
    files = find_files(folder, spec)
    if not files:
        raise DataError(
            f"{spec.hub.id}: has no files like {', '.join(spec.files)}",
            "tell us; until then put the files there by hand",
        )
    found = _count(build_dataset(name, spec, files), folder)
    return f"{found}; in {folder}{_unread_forms(folder, spec)}"


def add_dataset(
    name: str, path: Path, licence: str | None, access: str | None, language: Sequence[str] = ()
) -> str:
    """Link files into the data folder after parsing them; returns what was found, in a line.

    Raises:
        ConfigError: a bad name, access class or language.
        DataError: the files do not parse as this dataset, or other files of that name are there.
    """
    if not is_there(path):
        raise DataError(f"no such data file or folder: {str(path):.300}", "check the path")
    known, folder = known_specs().get(name), data_dir() / name
    declared = (path if path.is_dir() else path.parent) / SPEC_FILE
    if (known or declared.is_file()) and (licence or access or language):
        raise ConfigError(
            f"{name} has its licence and language declared already",
            "leave --licence, --access and --language out",
        )
    if not known:
        _check_name(name)
    if declared.is_file():
        spec = open_spec(name, declared)
    else:
        spec = known or _new_spec(name, licence, access, language)
    files = (path,) if path.is_file() else find_files(path, spec)
    if not files:
        raise DataError(
            f"{path}: has no files like {', '.join(spec.files)}", "name the folder that holds them"
        )
    found = _count(build_dataset(name, spec, files, path), path)
    links = {folder / _place_of(file, spec, path): file.resolve() for file in files}
    if declared.is_file():
        links[folder / SPEC_FILE] = declared.resolve()
    _link(links)
    if not known and not declared.is_file():
        content = yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True))
        (folder / SPEC_FILE).write_text(content, encoding="utf-8")
    others = sorted(one.name for one in find_files(folder, spec) if one not in links)
    beside = f", beside {', '.join(others)}, which is read, too" if others else ""
    return f"{found}; linked into {folder}{beside}{_unread_forms(folder, spec)}"


def _unread_forms(folder: Path, spec: DatasetSpec) -> str:
    """What lies there in other forms of the release than the one that is read."""
    one_each = (spec.model_copy(update={"files": (pattern,)}) for pattern in spec.files)
    found = {path for one in one_each for path in find_files(folder, one)}
    unread = found - {*find_files(folder, spec)}
    names = console.some_of(sorted(path.relative_to(folder).as_posix() for path in unread))
    return f"; not read, as another form of the release goes before: {names}" if unread else ""


def _count(dataset: Dataset, place: Path) -> str:
    """How many rows parse, of which shape they are, and what was left out.

    Raises:
        DataError: none does.
    """
    spec = dataset.spec
    is_shipped = (CATALOG / f"{dataset.name}.yaml").is_file()
    reasons: Counter[str] = Counter()
    names: dict[Any, None] = {}

    def read() -> Iterator[Example | Rejected]:
        for number, row in enumerate(dataset.rows(), 1):
            names.update(dict.fromkeys(row))
            yield dataset.read(number, row)

    with console.progress(f"{dataset.name}: rows") as advance:
        good = 0
        for _ in keep_examples(read(), reasons):
            good += 1
            advance(1)
    if not good:
        why = (
            f": all rows are left out, most as '{reasons.most_common(1)[0][0]}'"
            if reasons
            else ": they are empty"
        )
        fix = (
            f"see `medllm datasets show {dataset.name}` for its form" if is_shipped else SAY_COLUMNS
        )
        raise DataError(f"{place}: the files do not parse as {dataset.name}{why}", fix)
    total = good + reasons.total()
    note = (
        f" ({spec.expected_rows:,} in the full release)"
        if spec.expected_rows and total != spec.expected_rows
        else ""
    )
    columns = [name for name in next(dataset.rows()) if not name.startswith("__")]
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    left = f"; {reasons.total():,} left out: {told}" if reasons else ""
    absent = [] if is_shipped else absent_from(tuple(names), spec.columns)
    lacking = f"; no file has {', '.join(absent)}, which {SPEC_FILE} names" if absent else ""
    return (
        f"{dataset.name}: {console.counted(good, 'row')}{note} of shape {spec.shape} "
        f"(columns {', '.join(columns)}){left}{lacking}"
    )


def _check_name(name: str) -> None:
    is_plain = name.replace("-", "").replace("_", "").isalnum()
    if not is_plain or len(name.encode(errors="replace")) > MOST_NAME_BYTES:
        message = f"'{name:.80}' cannot be the name of a dataset"
        raise ConfigError(message, f"at most {MOST_NAME_BYTES} letters, digits, - and _")


def _new_spec(
    name: str, licence: str | None, access: str | None, language: Sequence[str]
) -> DatasetSpec:
    terms = {"licence": licence or "undeclared", "access": access or "private"}
    data = {"title": name, "shape": "local", **terms, "language": list(language)}
    return validate(DatasetSpec, Document(data))


def _release_name(file: Path, spec: DatasetSpec) -> str:
    """The name that a file must have to be found: its own, or that of the release of its kind."""
    patterns = [one.removeprefix("**/") for pattern in spec.files for one in alternatives(pattern)]
    if any(fnmatch(file.name, pattern) for pattern in patterns):
        return file.name
    for pattern in patterns:
        same_kind = kind_of(file).removesuffix("l") == kind_of(Path(pattern)).removesuffix("l")
        if same_kind and file.name.endswith(".gz") == pattern.endswith(".gz"):
            return pattern.replace("*", file.name.split(".")[0])
    raise DataError(f"{file}: not one of {', '.join(spec.files)}", "convert it to that kind")


def _place_of(file: Path, spec: DatasetSpec, added: Path) -> str:
    """Where a file lies below its dataset's folder: one by its release name, others as they lay."""
    return _release_name(file, spec) if file == added else str(file.relative_to(added))


def _link(links: Mapping[Path, Path]) -> None:
    """Make links to files; earlier links are replaced, files never."""
    for link, file in links.items():
        is_theirs = link.exists() and not link.is_symlink()
        if is_theirs and not link.samefile(file):
            raise DataError(f"{link} is there already", "remove it first if it is to be replaced")
    for link, file in links.items():
        if link.is_symlink() or not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(file)
