"""The forms of `docs/json.md`, and whether a value has one."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
WORDS: dict[str, Any] = {
    "text": str, "number": (int, float), "object": dict, "true or false": bool, "null": type(None),
}  # fmt: skip


@cache
def forms() -> dict[str, Any]:
    """The forms of the page by heading; the second one of `lineage` is `node`."""
    found = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.S)]
        found |= dict(zip((heading, "node"), blocks, strict=False))
    return found


def check(value: Any, form: Any, place: str = "result") -> None:
    """Assert that a value has a form: these keys, all of them but those with `?`, and no other."""
    if isinstance(form, list):
        assert isinstance(value, list), place
        for number, item in enumerate(value):
            check(item, form[0], f"{place}[{number}]")
    elif isinstance(form, dict):
        assert isinstance(value, dict), place
        known = {key.removesuffix("?"): inner for key, inner in form.items()}
        must = {key for key in form if not key.endswith("?")}
        assert must <= value.keys() <= known.keys(), (place, value.keys() ^ known.keys())
        for key, inner in value.items():
            check(inner, known[key], f"{place}.{key}")
    elif form == "node":
        check(value, forms()["node"], place)
    else:
        kinds = [WORDS[form]] if form in WORDS else [WORDS[word] for word in form.split(" or ")]
        is_kind = any(isinstance(value, kind) for kind in kinds)
        assert is_kind and (form == "true or false" or not isinstance(value, bool)), (place, value)


def read_result(stdout: str, heading: str) -> Any:
    """The result in the one document of an output, which has the form under a heading."""
    document = json.loads(stdout)
    check(document, forms()["The document"], "document")
    assert document["error"] is None
    check(document["result"], forms()[heading])
    return document["result"]


def read_error(stdout: str) -> Any:
    """The error in the one document of an output."""
    document = json.loads(stdout)
    check(document, forms()["The document"], "document")
    check(document["error"], forms()["An error"], "error")
    return document["error"]
