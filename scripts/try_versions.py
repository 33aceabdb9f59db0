"""Try the lowest and the newest versions that pyproject.toml allows, each in a fresh environment.

    python scripts/try_versions.py lowest
    python scripts/try_versions.py newest --extras standard

makes a virtual environment below --room, installs medllm from this checkout into it, shows what
`medllm doctor` says, and runs the unit tests and the examples of docs/python.md, which walk all
verbs; --tests names others. The lowest versions are those that the requirements name, all together:
pip refuses them where they do not fit together, and then a bound is too low. One version of PyTorch
is used for both ends (its builds are gigabytes), so its own bounds are not tried.
"""

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
TORCH = "2.13.0"
EXTRAS = "serve,search,bnb"
"""Those whose lowest versions fit together with the core's; gptq and fp8 pin others' versions, and
their own ranges are a single minor version."""
TESTS = ["tests/unit", "tests/integration/test_python_page.py"]
TEST_TOOLS = ("pytest", "hypothesis", "openai", "hatchling")


def main() -> None:
    """Install one end of the ranges, and test it."""
    asked = parse()
    room = asked.room / asked.end
    python = room / "venv" / "bin" / "python"
    if not python.is_file():
        run(sys.executable, "-m", "venv", room / "venv")
    constraints = room / "constraints.txt"
    constraints.write_text("\n".join(bounds(asked.end, asked.extras.split(","))) + "\n")
    package = f"{ROOT}[{asked.extras}]"
    run(python, "-m", "pip", "install", "-q", "-c", constraints, "-e", package, *TEST_TOOLS)
    run(python, "-m", "pip", "check")
    run(python, "-m", "pip", "freeze", "--exclude-editable")
    run(python, "-m", "medllm", "doctor")
    run(python, "-m", "pytest", *asked.tests)


def parse() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("end", choices=("lowest", "newest"))
    parser.add_argument("--extras", default=EXTRAS)
    parser.add_argument("--room", type=Path, default=Path("/tmp/medllm-versions"))
    parser.add_argument("--tests", nargs="*", default=TESTS)
    return parser.parse_args()


def bounds(end: str, extras: list[str]) -> Iterator[str]:
    """The lines of a constraints file: PyTorch alone, or the lowest version of each requirement."""
    yield f"torch=={TORCH}"
    if end == "newest":
        return
    for requirement in requirements(extras):
        lowest = [each.version for each in requirement.specifier if each.operator == ">="]
        if lowest and requirement.name not in {"torch", "medllm"}:
            yield f"{requirement.name}=={lowest[0]}"


def requirements(extras: list[str]) -> Iterator[Requirement]:
    """The requirements of pyproject.toml, those of some extras among them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    for line in [*project["dependencies"], *(each for name in extras for each in optional[name])]:
        yield Requirement(line)


def run(*command: str | Path) -> None:
    """Run a command in the checkout, and end with its exit code where it fails."""
    print("$", *command, flush=True)
    if code := subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode:
        sys.exit(code)


if __name__ == "__main__":
    main()
