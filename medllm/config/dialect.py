"""The YAML dialect: YAML 1.2 scalars, plain data alone, and no more of it than a person writes.

A document is measured while it is read: how deep it is, and how many values it has once its aliases
are written out. So a few hundred bytes cannot become gigabytes, and nothing later needs to beware.
"""

import re
import stat
from pathlib import Path
from typing import Any

import yaml

from medllm.errors import ConfigError
from medllm.places import short_path

MOST_BYTES = 32 * 2**20
MOST_VALUES = 100_000
"""In a document, its aliases written out."""
MOST_DEPTH = 50
MOST_DIGITS = 40
SURROGATE = re.compile("[\ud800-\udfff]")
PREFIX = "tag:yaml.org,2002:"
CORE = {
    f"{PREFIX}{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")
}
CHECKED = {f"{PREFIX}{kind}" for kind in ("int", "float", "bool", "null")}
"""Tags whose values are not any text."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-4` is a number; only true and false are booleans (`yes` is text)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._read = 0
        self._open = 0
        self._sizes: dict[int, tuple[int, int]] = {}  # of each node: values in it, levels in it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """The next node, measured and of a tag that is read."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._read += 1
        self._open += 1
        _check_size(self._read, self._open, event.start_mark)
        node = super().compose_node(parent, index)
        assert node  # only an index out of range has none
        self._open -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._check_tag(node, is_written=event.tag not in {None, "!"})
            self._sizes[id(node)] = self._measure(node, event.start_mark)
        elif id(node) not in self._sizes:
            raise _mistake("an anchor that contains itself", event.start_mark)
        return node

    def _measure(self, node: yaml.Node, mark: Any) -> tuple[int, int]:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
            _check_colons(node)
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        sizes = [self._sizes[id(part)] for part in inner]
        values, levels = (
            1 + sum(size for size, _ in sizes),
            1 + max((n for _, n in sizes), default=0),
        )
        _check_size(values, levels, mark)
        return values, levels

    def _check_tag(self, node: yaml.Node, *, is_written: bool) -> None:
        kind = node.tag.removeprefix(PREFIX)
        if node.tag.startswith("!function"):
            raise _mistake("!function names code, and no code of a file is run", node.start_mark)
        if node.tag not in CORE:
            raise _mistake(f"the tag !!{kind} is not read: only plain values are", node.start_mark)
        if not isinstance(node, yaml.ScalarNode):
            return
        if SURROGATE.search(node.value):
            raise _mistake("half of a surrogate pair, which is no character", node.start_mark)
        if node.tag not in CHECKED:
            return
        if len(node.value) > MOST_DIGITS:
            raise _mistake(f"a number of more than {MOST_DIGITS} digits", node.start_mark)
        plain = self.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        is_whole = (kind, plain) == ("float", f"{PREFIX}int")
        if is_written and plain != node.tag and not is_whole:
            raise _mistake(f"not what its tag !!{kind} says", node.start_mark)


REPLACED = {f"{PREFIX}{kind}" for kind in ("bool", "int", "float", "timestamp", "value")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
SCALARS = (  # `010` is ten, and `12:30` is text, not 750
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$|^0o[0-7]+$|^0x[0-9a-fA-F]+$", "-+0123456789"),
    (
        "float",
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
        r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$",
        "-+.0123456789",
    ),
)
for kind, pattern, beginnings in SCALARS:
    tag = f"{PREFIX}{kind}"
    _Loader.add_implicit_resolver(tag, re.compile(pattern), list(beginnings))
_Loader.add_constructor(
    f"{PREFIX}int", lambda _, node: int(node.value, 0 if node.value[:2] in {"0o", "0x"} else 10)
)


def _check_colons(node: yaml.MappingNode) -> None:
    """Raise where a colon has no blank after it: `{a:1}` is a key `a:1` without a value."""
    for key, value in node.value:
        if ":" in key.value and (key.style, value.value) == (None, ""):
            raise _mistake(f"no blank after the colon of {key.value}", key.start_mark)


def _check_size(values: int, levels: int, mark: Any) -> None:
    if values > MOST_VALUES:
        raise _mistake(f"more than {MOST_VALUES:,} values, its aliases written out", mark)
    if levels > MOST_DEPTH:
        raise _mistake(f"nested more than {MOST_DEPTH} deep", mark)


def _mistake(what: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)


def parse_yaml(text: str, name: str) -> tuple[yaml.Node | None, Any]:
    """A document: its nodes, which know their lines, and the plain data in them.

    Raises:
        ConfigError: it is not YAML, or not of this dialect; names the line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return node, loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        message = f"{name}:{line}: not valid YAML: {problem.problem}"
        raise ConfigError(message, "correct the line") from None
    except yaml.YAMLError as problem:  # a character that YAML does not allow
        message = f"{name}: not valid YAML: {str(problem).splitlines()[0]}"
        raise ConfigError(message, "remove the character") from None
    except (ValueError, OverflowError):  # an escape such as \UFFFFFFFF
        message = f"{name}: not valid YAML: an escape that is no character"
        raise ConfigError(message, "remove the escape") from None


def read_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        ConfigError: there is none, or it is no UTF-8 text of a size that a person writes.
    """
    name = short_path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"{name} is a folder, not a YAML file", "name the file in it")
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{name} is no regular file", "name a YAML file")
        if status.st_size > MOST_BYTES:
            message = f"{name} is larger than {MOST_BYTES // 2**20} MiB"
            raise ConfigError(message, "name a YAML file")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        fix = "check the path, or see `medllm recipes list`"
        raise ConfigError(f"no such file: {name}", fix) from None
    except UnicodeDecodeError as problem:
        message = f"{name}: not UTF-8 text ({problem.reason})"
        raise ConfigError(message, "save the file as UTF-8") from None
    except OSError as problem:
        message = f"{name:.200} cannot be read: {problem.strerror}"
        raise ConfigError(message, "check the path and its permissions") from None
