"""What pyproject.toml says holds, and so do the remedies that name parts of it."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from script_files import script

from medllm.engines.llama_cpp_setup import VERSION

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "Dockerfile",
    ROOT / "constraints.txt",
]
CODE = sorted((ROOT / "medllm").rglob("*.py"))
INTERNALS_USED = ("typer", "transformers", "trl", "peft", "gptqmodel", "bitsandbytes",
                  "llmcompressor", "uvicorn")  # fmt: skip
NAMED = re.compile(r"(?:medllm|['/ ]\.|source)\[([a-z0-9, ]+)\]")
"""Extras in a command: `'medllm[serve]'`, `'.[standard,dev]'`."""


def test_extras_that_code_and_pages_name_exist() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (*CODE, *PAGES)}
    named = {
        (path.name, extra.strip())
        for path, text in texts.items()
        if path.name != "CHANGELOG.md"  # which also tells of what was
        for found in NAMED.findall(text)
        for extra in found.split(",")
    }

    assert {extra for _, extra in named} >= {"gptq", "serve", "bnb", "fp8", "search", "standard"}
    assert {each for each in named if each[1] not in EXTRAS} == set()


def test_a_remedy_of_the_code_needs_no_checkout() -> None:
    remedies = [
        line.strip()
        for path in CODE
        for line in path.read_text(encoding="utf-8").splitlines()
        if "pip install" in line and re.search(r"-e |constraints\.txt|'\.\[", line)
    ]

    assert remedies == []


def test_a_module_that_imports_an_extra_is_one_of_the_server() -> None:
    """All others import it inside of functions: what needs no extra runs without any."""
    optional = {
        canonicalize_name(requirement.name)
        for extra in EXTRAS.keys() - {"standard", "bench", "dev"}
        for requirement in map(Requirement, EXTRAS[extra])
    }
    found = {
        (path.relative_to(ROOT / "medllm").parts[0], package)
        for path in CODE
        for package in map(canonicalize_name, imported_at_once(path))
        if package.replace("llama-cpp", "llama-cpp-python") in optional
    }

    assert found == {("serve", package) for package in ("h11", "starlette", "uvicorn", "fastapi")}


def imported_at_once(path: Path) -> Iterator[str]:
    """The packages that a module imports when it is imported itself."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_standard_is_every_extra_that_users_want_but_llama_cpp() -> None:
    (standard,) = map(Requirement, EXTRAS["standard"])

    assert standard.extras == EXTRAS.keys() - {"gguf", "standard", "bench", "dev"}
    assert EXTRAS["gguf"] == [f"llama-cpp-python=={VERSION}"]


def test_the_versions_that_were_tested_are_within_the_ranges() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {
        canonicalize_name(name): Version(version)
        for name, _, version in (line.partition("==") for line in lines if "==" in line)
        if not name.startswith("#")
    }
    allowed = [Requirement(line) for line in sum(EXTRAS.values(), PROJECT["dependencies"])]
    outside = [
        f"{tested[name]} is not {requirement}"
        for requirement in allowed
        if (name := canonicalize_name(requirement.name)) in tested
        and tested[name] not in requirement.specifier
    ]

    assert len(tested) > 30
    assert outside == []


@pytest.mark.parametrize("name", INTERNALS_USED)
def test_whose_undocumented_parts_are_used_may_not_be_newer_than_tested(name: str) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (tested,) = (line.partition("==")[2] for line in lines if line.lower().startswith(f"{name}=="))
    major, minor = Version(tested).release[:2]
    (bound,) = (
        requirement
        for requirement in map(Requirement, sum(EXTRAS.values(), PROJECT["dependencies"]))
        if requirement.name == name
    )

    assert f"{major}.{minor + 1}" not in bound.specifier


def test_the_page_of_a_package_index_has_no_link_to_a_file() -> None:
    name_files = script("readme_for_pypi").name_files

    assert name_files("# medllm\n\nSee [data](docs/data.md#own) and [`x.py`](x.py), [a](#b).") == (
        "# medllm\n\nThe files that this page names are in the source distribution.\n\n"
        "See data (`docs/data.md`) and `x.py`, [a](#b)."
    )
    page = name_files((ROOT / "README.md").read_text(encoding="utf-8"))
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", page) == []


def test_the_lowest_versions_are_those_of_the_requirements() -> None:
    lowest = set(script("try_versions").bounds("lowest", ["serve"]))

    assert {"torch==2.13.0", "pyyaml==6.0.1", "starlette==1.6"} <= lowest
    assert len(lowest) == len(PROJECT["dependencies"]) + len(EXTRAS["serve"])
    assert set(script("try_versions").bounds("newest", ["serve"])) == {"torch==2.13.0"}
