"""Write `docs/api.md`: what the server takes, from the OpenAPI document that it tells.

Run `.venv/bin/python scripts/build_api_docs.py` after a change to a form of a request; a test
compares the two.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medllm.engines.fake import FakeEngine
from medllm.serve.app import build_app
from medllm.serve.callers.callers import Callers
from medllm.serve.routes.schema import build_schema

DOCUMENT = Path(__file__).parents[1] / "docs" / "api.md"
HEAD = """# What the server takes

The addresses of `medllm serve`, and the fields of the requests. What the answers mean, what an
engine can do and what is refused stands in [Serving](serve.md). The same for programs is at
`/openapi.json` of a running server (OpenAPI 3.1; it needs a key). Every refusal has OpenAI's form,
`{"error": {"message", "type", "param", "code"}}`: its [codes](serve.md#errors) say what to do.
A field without "(needed)" may be left out.

Written by `scripts/build_api_docs.py`: change the forms in `medllm/serve`, then run that script.
"""
BOUNDS = {
    "minimum": "{} or more", "exclusiveMinimum": "above {}", "maximum": "up to {}",
    "exclusiveMaximum": "below {}", "minItems": "at least {} of them", 
    "maxItems": "at most {} of them",
    "minLength": "of at least {} character", "maxLength": "up to {} characters",
    "maxProperties": "at most {} of them",
}  # fmt: skip
"""What JSON Schema calls a bound, and how it reads."""
WHO = {"callers": "", "admins": " It needs an admin's key.", "anyone": " It needs no key."}


def render() -> str:
    """The whole page."""
    engine = FakeEngine()
    schema = build_schema(build_app(engine, model_id="m", callers=Callers("key"), max_tokens=1))
    forms = schema["components"]["schemas"]
    shown: set[str] = set()
    sections = [
        _section(f"{method.upper()} {path}", operation, forms, shown)
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
    return "\n".join([HEAD, *sections])


def _section(
    address: str, operation: Mapping[str, Any], forms: Mapping[str, Any], shown: set[str]
) -> str:
    text = f"## {address}\n\n{operation['summary']}.{WHO[operation['x-for']]}\n"
    if "requestBody" not in operation:
        return text
    form = operation["requestBody"]["content"]["application/json"]["schema"]
    return text + "".join(_tables(_named(form), forms, shown))


def _tables(name: str, forms: Mapping[str, Any], shown: set[str]) -> Iterator[str]:
    """A form's table, and then those of the forms that it holds and that are not shown yet."""
    shown.add(name)
    form, held = forms[name], list[str]()
    yield "\n| field | what it is | what it means |\n|---|---|---|\n"
    for field, told in form["properties"].items():
        needed = " (needed)" if field in form.get("required", ()) else ""
        meaning = " ".join(told.get("description", "").split())
        yield f"| `{field}`{needed} | {_kind(told, held)} | {meaning} |\n"
    for inner in held:
        if inner not in shown:
            yield f"\n### {inner}\n\n{' '.join(forms[inner]['description'].split())}\n"
            yield from _tables(inner, forms, shown)


def _kind(told: Mapping[str, Any], held: list[str]) -> str:
    """What a value must be, in words; the forms in it are added to `held`."""
    if "$ref" in told:
        held.append(_named(told))
        return f"[`{_named(told)}`](#{_named(told).lower()})"
    if parts := told.get("anyOf") or told.get("allOf"):
        kinds = [_kind(part, held) for part in parts if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if values := told.get("enum") or ([told["const"]] if "const" in told else None):
        return ", ".join(f"`{value}`" for value in values)
    kind = {"array": "list", "string": "text", "boolean": "true or false"}.get(
        told.get("type", ""), told.get("type", "anything")
    )
    if inner := told.get("items"):
        kind += f" of {_kind(inner, held)}"
    bounds = [words.format(told[name]) for name, words in BOUNDS.items() if name in told]
    return ", ".join([kind, *bounds])


def _named(told: Mapping[str, Any]) -> str:
    return str(told["$ref"]).rpartition("/")[2]


def main() -> None:
    """Write the page."""
    DOCUMENT.write_text(render(), encoding="utf-8")
    print(f"wrote {DOCUMENT.name}")


if __name__ == "__main__":
    main()
