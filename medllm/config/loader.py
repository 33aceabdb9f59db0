"""YAML → a strict model, with errors that point at file and line, all at once."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from medllm.artifacts.places import short_path
from medllm.config.base import Location, location_of, models_in
from medllm.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
Key = tuple[str | int, ...]


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

    def origin(self, key: Key) -> Origin:
        """The origin of `key`, else of the nearest key around it."""
        for length in range(len(key), -1, -1):
            if found := self.origins.get(key[:length]):
                return found
        return Origin("configuration", Path.cwd())


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-4` is a number; only true and false are booleans (`yes` is text)."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rsplit(":", 1)[-1] not in {"bool", "int", "float", "timestamp"}
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(  # `010` is ten, and `12:30` is text, not 750
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?[0-9]+$|^0o[0-7]+$|^0x[0-9a-fA-F]+$"),
    list("-+0123456789"),
)
_Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda _, node: int(node.value, 0 if node.value[:2] in {"0o", "0x"} else 10),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> Document:
    """The document at `path`, with its `extends:` parent merged below it."""
    return _read(path.resolve(), ())


def _read(path: Path, children: tuple[Path, ...]) -> Document:
    if path in children:
        raise ConfigError(
            f"{short_path(path)}: extends itself", "remove one `extends:` of the circle"
        )
    document = _parse(path)
    parent_name = document.data.pop("extends", None)
    if parent_name is None:
        return document
    if not isinstance(parent_name, str):
        raise ConfigError(
            f"{document.origin(('extends',)).label}: extends: must name one file", "give one path"
        )
    parent_path = (path.parent / parent_name).resolve()
    if not parent_path.is_file():
        raise ConfigError(
            f"{document.origin(('extends',)).label}: extends: no such file: {parent_name}",
            "check the path",
        )
    return merge(_read(parent_path, (*children, path)), document)


def _parse(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no such file: {short_path(path)}", "check the path, or see `medllm recipes list`"
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            f"{short_path(path)} is a folder, not a YAML file", "name the file in it"
        ) from None
    except UnicodeDecodeError as problem:
        raise ConfigError(
            f"{short_path(path)}: not UTF-8 text ({problem.reason})", "save the file as UTF-8"
        ) from None
    try:
        loader = _Loader(text)
    except yaml.YAMLError as problem:  # a character that YAML does not allow
        reason = str(problem).splitlines()[0]
        raise ConfigError(
            f"{short_path(path)}: not valid YAML: {reason}", "remove the character"
        ) from None
    try:
        node = loader.get_single_node()
        document = Document(origins={(): Origin(short_path(path), path.parent)})
        _locate(node, (), path, document.origins)
        data = loader.construct_document(node) if node else {}
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise ConfigError(
            f"{short_path(path)}:{line}: not valid YAML: {problem.problem}", "mend the line"
        ) from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise ConfigError(
            f"{short_path(path)}: must be a mapping of keys to values", "start with `name: …`"
        )
    document.data = data
    return document


def _locate(node: yaml.Node | None, key: Key, path: Path, origins: dict[Key, Origin]) -> None:
    """Note the line of every key, and refuse a key written twice (YAML would keep the last)."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            label = f"{short_path(path)}:{name.start_mark.line + 1}"
            if not isinstance(name, yaml.ScalarNode):
                raise ConfigError(f"{label}: a key must be a word", "quote it, or mend the line")
            inner = (*key, name.value)
            if inner in origins:
                raise ConfigError(
                    f"{label}: {'.'.join(map(str, inner))}: written twice", "remove one of the two"
                )
            origins[inner] = Origin(label, path.parent)
            _locate(value, inner, path, origins)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            origins[(*key, index)] = Origin(
                f"{short_path(path)}:{value.start_mark.line + 1}", path.parent
            )
            _locate(value, (*key, index), path, origins)


def merge(base: Document, over: Document) -> Document:
    """`over` on top of `base`: mappings merge deep, everything else replaces."""

    def merged(low: Any, high: Any) -> Any:
        if isinstance(low, Mapping) and isinstance(high, Mapping):
            return {
                **low,
                **{key: merged(low[key], high[key]) if key in low else high[key] for key in high},
            }
        return high

    return Document(merged(base.data, over.data), {**base.origins, **over.origins})


def parse_assignments(assignments: Iterable[str]) -> Document:
    """`["a.b=1e-4"]` as a document; values are YAML, their paths relative to the working folder."""
    document = Document()
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(
                f"--set {assignment}: not of the form KEY=VALUE",
                "for example --set finetune.training.learning_rate=1e-4",
            )
        try:
            value = yaml.load(text, Loader=_Loader)  # _Loader is a SafeLoader
        except yaml.YAMLError as problem:
            raise ConfigError(
                f"--set {assignment}: the value is not valid YAML", "quote it"
            ) from problem
        document = merge(document, assign(name.strip(), value, label=f"--set {name.strip()}"))
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
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _keys_of(item, (*key, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _keys_of(item, (*key, index))


def validate(model: type[Model], document: Document) -> Model:
    """The document as `model`: places made absolute, then checked; every error at once.

    Raises:
        ConfigError: one line per problem, each with file and line.
    """
    placed = _place(model, document.data, (), document)
    try:
        return model.model_validate_json(json.dumps(placed))
    except ValidationError as problem:
        lines = [_describe(model, document, details) for details in problem.errors()]
        raise ConfigError(
            "\n".join(dict.fromkeys(lines)),
            "mend the line(s) above; `medllm recipes show NAME` shows good ones",
        ) from None


def _place(model: type[BaseModel], data: Any, key: Key, document: Document) -> Any:
    """The data with relative places made absolute, from the folder of the file they stand in."""
    if not isinstance(data, dict):
        return data
    placed = {}
    for name, value in data.items():
        field_info = model.model_fields.get(str(name))
        if field_info is None:
            placed[name] = value
            continue
        mark = location_of(field_info.annotation, tuple(field_info.metadata))
        placed[name] = _place_value(
            mark, list(models_in(field_info.annotation)), value, (*key, name), document
        )
    return placed


def _place_value(
    mark: Location | None, models: list[type[BaseModel]], value: Any, key: Key, document: Document
) -> Any:
    if isinstance(value, str):
        return _absolute(value, mark, document.origin(key)) if mark else value
    if isinstance(value, list):
        return [
            _place_value(mark, models, item, (*key, index), document)
            for index, item in enumerate(value)
        ]
    if isinstance(value, dict):
        chosen = _variant(models, value)
        if chosen:
            return _place(chosen, value, key, document)
        return {
            name: _place_value(mark, models, item, (*key, name), document)
            for name, item in value.items()
        }
    return value


def _variant(models: list[type[BaseModel]], value: Mapping[str, Any]) -> type[BaseModel] | None:
    """The model of a union that has most of the keys; None where the keys are the user's names."""
    best = max(
        models, key=lambda model: len(model.model_fields.keys() & value.keys()), default=None
    )
    return best if best and best.model_fields.keys() & value.keys() else None


def _absolute(text: str, mark: Location, origin: Origin) -> str:
    for name in re.findall(r"\$\{?(\w+)\}?", text):
        if not os.environ.get(name):
            raise ConfigError(
                f"{origin.label}: the environment variable {name} is not set",
                f"export {name}=… or use --set",
            )
    expanded = os.path.expandvars(text)
    if expanded.startswith("~"):
        expanded = str(Path(expanded).expanduser())
    if mark.bare_is_name and re.fullmatch(r"[\w-]+", expanded):
        return expanded
    joined = origin.folder / expanded
    if mark.may_be_name and not joined.exists() and not expanded.startswith((".", "/")):
        return expanded
    return str(Path(os.path.normpath(joined)))


def _describe(model: type[BaseModel], document: Document, details: Any) -> str:
    key = _written_key(document.data, details["loc"])
    name = ".".join(str(part) for part in key)
    label = document.origin(key).label
    if details["type"] == "extra_forbidden":
        known = _known_keys(model, key[:-1])
        hint = did_you_mean(str(key[-1]), known).rstrip() or f"known keys: {', '.join(known)}"
        return f"{label}: {name}: unknown key; {hint}"
    if details["type"] == "missing":
        return f"{label}: {name}: is required"
    message = details["msg"].removeprefix("Value error, ")
    got = "" if details["type"] == "value_error" else f", got {details['input']!r:.60}"
    return f"{label}: {name}: {message[:1].lower()}{message[1:]}{got}"


def _written_key(data: Any, loc: tuple[str | int, ...]) -> Key:
    """The part of `loc` that the user wrote: pydantic puts the tags of unions in between."""
    key: list[str | int] = []
    for index, part in enumerate(loc):
        if _holds(data, part):
            data = data[part]
        elif index < len(loc) - 1 or not isinstance(data, Mapping):
            continue  # a tag
        key.append(part)
    return tuple(key)


def _holds(data: Any, part: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, Mapping) and part in data


def _known_keys(model: type[BaseModel], key: Key) -> list[str]:
    models = [model]
    for part in key:
        if isinstance(part, str) and any(part in candidate.model_fields for candidate in models):
            models = [
                found
                for candidate in models
                if part in candidate.model_fields
                for found in models_in(candidate.model_fields[part].annotation)
            ]
    return sorted({name for candidate in models for name in candidate.model_fields})
