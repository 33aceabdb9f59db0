"""YAML → a strict model, with errors that point at file and line, all at once."""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from medllm.config.base import Location, is_there, location_of, models_in
from medllm.config.dialect import MOST_DEPTH, SURROGATE, parse_yaml, read_text
from medllm.errors import ConfigError, DataError, did_you_mean
from medllm.places import short_path

Model = TypeVar("Model", bound=BaseModel)
Key = tuple[str | int, ...]
MOST_PARENTS = 20
"""Files that one may extend, one after the other."""
MOST_ERRORS = 20
"""Those that are shown."""
NOT_UTF_8 = "rename it, write it as UTF-8, or set a locale of UTF-8, as `export LC_ALL=C.UTF-8`"
SECRET = re.compile(r"api_key|token$|password|secret")
"""Keys whose values are not repeated in an error."""


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a label (`lora.yaml:4`, `--set`), and the base of its paths."""

    label: str
    folder: Path


@dataclass
class Document:
    """Plain data and the origin of each key in it."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)
    extended: "Document | None" = None
    """What its file extends, whole."""

    def origin(self, key: Key) -> Origin:
        """The origin of `key`, else of the nearest key around it."""
        for length in range(len(key), -1, -1):
            if found := self.origins.get(key[:length]):
                return found
        return Origin("configuration", Path.cwd())


def read_yaml(path: Path, children: tuple[Path, ...] = ()) -> Document:
    """The document at `path`, with its `extends:` parent merged below it.

    `children` are the files that it extends, one after the other.
    """
    path = path.resolve()
    if path in children:
        raise ConfigError(f"{short_path(path)}: extends itself", "remove one of these `extends:`")
    if len(children) > MOST_PARENTS:
        message = f"{short_path(children[0])}: extends a chain of more than {MOST_PARENTS} files"
        raise ConfigError(message, "write the files of the chain into fewer")
    document = _parse(path)
    name = document.data.pop("extends", None)
    if name is None:
        return document
    place = f"{document.origin(('extends',)).label}: extends"
    parent = _find_parent(path.parent, name, place)
    extended = read_yaml(parent, (*children, path))
    return replace(merge(extended, document), extended=extended)


def _find_parent(folder: Path, name: Any, place: str) -> Path:
    """The file that `extends:` names."""
    if not isinstance(name, str):
        raise ConfigError(f"{place}: must name one file", "give one path")
    with suppress(OSError, ValueError):  # a name too long, or with a NUL
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"{place}: no such file: {name:.200}", "check the path")


def _parse(path: Path) -> Document:
    name = short_path(path)
    node, data = parse_yaml(read_text(path), name)
    whole = Origin(name, path.parent)
    document = Document(origins={(): whole})
    _locate(node, (), whole, document.origins)
    document.data = data if node else {}
    if not isinstance(document.data, dict):
        raise ConfigError(f"{name}: must be a mapping of keys to values", "start with `name: …`")
    return document


def _locate(node: yaml.Node | None, key: Key, file: Origin, origins: dict[Key, Origin]) -> None:
    """Note the line of every key, and refuse a key written twice (YAML would keep the last)."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            label = f"{file.label}:{name.start_mark.line + 1}"
            if not isinstance(name, yaml.ScalarNode):
                raise ConfigError(f"{label}: a key must be a word", "quote it, or correct the line")
            inner = (*key, name.value)
            if inner in origins:
                message = f"{label}: {'.'.join(map(str, inner))}: written twice"
                raise ConfigError(message, "remove one of the two")
            origins[inner] = Origin(label, file.folder)
            _locate(value, inner, file, origins)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            label = f"{file.label}:{value.start_mark.line + 1}"
            origins[(*key, index)] = Origin(label, file.folder)
            _locate(value, (*key, index), file, origins)


def merge(base: Document, over: Document) -> Document:
    """`over` on top of `base`: mappings merge deep, everything else replaces."""
    return Document(_merged(base.data, over.data), {**base.origins, **over.origins})


def _merged(low: Any, high: Any) -> Any:
    if isinstance(low, Mapping) and isinstance(high, Mapping):
        return {**low, **{key: _merged(low.get(key), value) for key, value in high.items()}}
    return high


def parse_assignments(assignments: Iterable[str]) -> Document:
    """`["a.b=1e-4"]` as a document; values are YAML, their paths relative to the working folder."""
    document = Document()
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            fix = "for example --set finetune.training.learning_rate=1e-4"
            raise ConfigError(f"--set {assignment:.80}: not of the form KEY=VALUE", fix)
        if name.count(".") > MOST_DEPTH:
            message = f"--set {name:.80}…: a key of more than {MOST_DEPTH} parts"
            raise ConfigError(message, "see the keys of a recipe: `medllm recipes show NAME`")
        label = f"--set {name.strip():.80}"
        node, value = parse_yaml(text, label)
        _locate(node, (), Origin(label, Path.cwd()), {})  # raises for a key that is written twice
        document = merge(document, assign(name.strip(), value, label=label))
    return document


def assign(dotted: str, value: Any, label: str) -> Document:
    """A document that holds one value."""
    key: Key = tuple(dotted.split("."))
    nested: Any = value
    for part in reversed(key):
        nested = {part: nested}
    return Document(nested, dict.fromkeys(_keys_of(value, key), Origin(label, Path.cwd())))


def _keys_of(value: Any, key: Key) -> Iterator[Key]:
    """The key of a value and those of everything in it."""
    yield key
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _keys_of(item, (*key, name))


def validate(model: type[Model], document: Document) -> Model:
    """The document as `model`: places made absolute, then checked; every error at once.

    A model may say in `SHOWN` where good ones are shown.

    Raises:
        ConfigError: one line per problem, each with file and line.
    """
    placed = _place(model, document.data, (), document)
    for key, value in _texts(placed, ()):
        if SURROGATE.search(value):
            message = f"{document.origin(key).label}: {'.'.join(map(str, key))}: not UTF-8 text"
            raise ConfigError(message, NOT_UTF_8)
    try:
        return model.model_validate_json(json.dumps(placed))
    except ValidationError as problem:
        found = problem.errors()
        lines = list(dict.fromkeys(_describe(model, document, one) for one in found[:MOST_ERRORS]))
        if len(found) > MOST_ERRORS:
            lines.append(f"and {len(found) - MOST_ERRORS:,} more")
        shown = getattr(model, "SHOWN", "`medllm recipes show NAME`")
        fix = f"correct the line(s) above; {shown} shows good ones"
        if all(line.startswith("--") and not line.startswith("--set ") for line in lines):
            fix = "correct it; `--help` of the command says what it may be"
        raise ConfigError("\n".join(lines), fix) from None


def configure(model: type[Model], /, **values: Any) -> Model:
    """A section from Python, by the rules of a recipe: lists, mappings, and paths as text.

    Relative paths are relative to the working folder.

    Raises:
        ConfigError: one line per problem.
    """
    label = model.__name__
    try:
        data = to_jsonable_python(values)
    except ValueError as problem:
        fix = "give numbers, texts, paths, lists, mappings and configurations"
        raise ConfigError(f"{label}: {problem}", fix) from None
    return validate(model, Document(data, {(): Origin(label, Path.cwd())}))


def _texts(data: Any, key: Key) -> Iterator[tuple[Key, str]]:
    """Every text in plain data, with its key; names of keys too."""
    if isinstance(data, str):
        yield key, data
    inner = data if isinstance(data, list) else ()
    parts = data.items() if isinstance(data, Mapping) else enumerate(inner)
    for name, value in parts:
        if isinstance(name, str):
            yield key, name
        yield from _texts(value, (*key, name))


def list_named(shipped: Path, folder: Path | None) -> dict[str, Path]:
    """The YAML files of tasks or the like by name; the user's come over the shipped ones.

    Raises:
        ConfigError: the user's folder is none, or has a file that ends in .yml.
    """
    if folder and not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder", "name the folder of your YAML files")
    if folder and (other := next(folder.glob("*.yml"), None)):
        raise ConfigError(f"{other}: only .yaml files are read", "rename it")
    folders = [shipped, *([folder] if folder else [])]
    return {path.stem: path for place in folders for path in sorted(place.glob("*.yaml"))}


def read_named(
    model: type[Model], what: str, name: str, shipped: Path, folder: Path | None
) -> Model:
    """The task or the like of a name.

    Raises:
        ConfigError: there is none; names the closest.
    """
    known = list_named(shipped, folder)
    if name not in known:
        raise unknown_name(what, name, known)
    return validate(model, read_yaml(known[name]))


def unknown_name(what: str, name: str, known: Collection[str]) -> ConfigError:
    """That a name is none of those known, and the closest."""
    fix = f"{did_you_mean(name, known)}known: {', '.join(sorted(known))}"
    return ConfigError(f"unknown {what} '{name}'", fix)


def _place(model: type[BaseModel], data: Any, key: Key, document: Document) -> Any:
    """The data with relative places made absolute, from the folder of the file they stand in."""
    if not isinstance(data, dict):
        return data
    placed = dict(data)
    for name in data.keys() & model.model_fields.keys():
        known = model.model_fields[name]
        mark, models = location_of(known), list(models_in(known.annotation))
        placed[name] = _place_value(mark, models, data[name], (*key, name), document)
    return placed


def _place_value(
    mark: Location | None, models: list[type[BaseModel]], value: Any, key: Key, document: Document
) -> Any:
    def place(name: str | int, item: Any) -> Any:
        return _place_value(mark, models, item, (*key, name), document)

    if isinstance(value, str):
        return _absolute(value, mark, document.origin(key)) if mark else value
    if isinstance(value, list):
        return [place(index, item) for index, item in enumerate(value)]
    if isinstance(value, dict):
        if chosen := _variant(models, value):
            return _place(chosen, value, key, document)
        return {name: place(name, item) for name, item in value.items()}
    return value


def _variant(models: list[type[BaseModel]], value: Mapping[str, Any]) -> type[BaseModel] | None:
    """The model of a union that has most of the keys; None where the keys are the user's names."""
    shared = [(len(model.model_fields.keys() & value.keys()), model) for model in models]
    most, best = max(shared, key=itemgetter(0), default=(0, None))
    return best if most else None


def _absolute(text: str, mark: Location, origin: Origin) -> str:
    for name in re.findall(r"\$\{?(\w+)\}?", text):
        if not os.environ.get(name):
            message = f"{origin.label}: the environment variable {name} is not set"
            raise ConfigError(message, f"export {name}=… or use --set")
    expanded = os.path.expandvars(text)
    if not expanded.strip():
        raise ConfigError(f"{origin.label}: the name is empty", "write one, or leave the key out")
    if "\0" in expanded:
        raise ConfigError(f"{origin.label}: a path holds no NUL", "remove the character")
    if SURROGATE.search(expanded):
        message = f"{origin.label}: the name of the file is not UTF-8: {expanded}"
        raise (DataError if mark.bare_is_name else ConfigError)(message, NOT_UTF_8)
    if expanded.startswith("~"):
        try:
            expanded = str(Path(expanded).expanduser())
        except RuntimeError:
            message = f"{origin.label}: no home folder is known for {expanded.split('/')[0]}"
            raise ConfigError(message, "write the whole path") from None
    if mark.bare_is_name and re.fullmatch(r"[\w-]+", expanded):
        return expanded
    joined = origin.folder / expanded
    if mark.may_be_name and not is_there(joined) and not expanded.startswith((".", "/")):
        return expanded
    return str(Path(os.path.normpath(joined)))


def _describe(model: type[BaseModel], document: Document, details: Any) -> str:
    key = _written_key(document.data, details["loc"])
    place = _told_place(document.origin(key).label, key)
    if details["type"] == "extra_forbidden":
        known = _known_keys(model, key[:-1])
        deeper = [path for path in key_paths(model) if path.rpartition(".")[2] == key[-1]]
        meant = f"did you mean '{deeper[0]}'?" if deeper and len(key) == 1 else ""
        hint = did_you_mean(str(key[-1]), known).rstrip() or meant
        hint = hint or f"known keys: {', '.join(known)}"
        return f"{place}: unknown key; {hint}"
    if details["type"] == "missing":
        return f"{place}: is required"
    message = details["msg"].removeprefix("Value error, ")
    is_said = details["type"] == "value_error" or SECRET.search(place)
    got = "" if is_said else f", got {details['input']!r:.60}"
    if (told := details.get("ctx", {})).keys() & {"expected", "expected_tags"}:  # fixed words
        words = re.findall("'(.*?)'", told.get("expected") or told["expected_tags"])
        got += f"; {did_you_mean(str(told.get('tag', details['input'])), words)}".rstrip("; ")
    return f"{place}: {message[:1].lower()}{message[1:]}{got}"


def _told_place(label: str, key: Key) -> str:
    """Where a value was written: a flag that says which key it is, else the place and the key."""
    dotted = ".".join(map(str, key))
    if label.startswith("--") and not label.startswith("--set "):
        in_list = isinstance(key[-1], str) and any(isinstance(part, int) for part in key)
        return f"--{key[-1]}" if in_list else label  # as of quantize.formats.0.bits
    return f"{label}: {dotted}" if dotted and label != f"--set {dotted}" else label


def _written_key(data: Any, loc: tuple[str | int, ...]) -> Key:
    """The part of `loc` that the user wrote: pydantic puts the tags of unions in between."""
    key: list[str | int] = []
    for index, part in enumerate(loc):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if index < len(loc) - 1 or not isinstance(data, Mapping):
                continue  # a tag
        key.append(part)
    return tuple(key)


def key_paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """The keys of a model and of those in it, with dots; behind `[]` those of entries of a list."""
    for name, known in model.model_fields.items():
        yield f"{before}{name}"
        entry = "[]" if get_origin(known.annotation) is tuple else ""
        for inner in models_in(known.annotation):
            yield from key_paths(inner, f"{before}{name}{entry}.")


def _known_keys(model: type[BaseModel], key: Key) -> list[str]:
    models = [model]
    for part in key:
        fields = [one.model_fields[part] for one in models if part in one.model_fields]
        if fields:
            models = [found for field_info in fields for found in models_in(field_info.annotation)]
    return sorted({name for candidate in models for name in candidate.model_fields})
