"""What the package needs at run time is in its wheel."""

import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


def build_wheel(source: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_all_data_of_the_package(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("medllm/")}

    data = {path for path in (ROOT / "medllm").rglob("*") if path.suffix in {".yaml", ".txt"}}
    recipes = {f"medllm/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert {path.relative_to(ROOT).as_posix() for path in data} <= packed
    assert recipes <= packed
    assert {"medllm/data/catalog/pubmedqa.yaml", "medllm/py.typed"} <= packed
    described = metadata_of(wheel)
    assert "Typing :: Typed" in described.get_all("Classifier", [])
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Project-URL"] is None  # it has no public place yet
    assert "datasets (`docs/datasets.md`)" in described.get_payload().lower()
    assert "](docs/" not in described.get_payload()


def metadata_of(wheel: Path) -> Message:
    """What a package index reads of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (each for each in opened.namelist() if each.endswith(".dist-info/METADATA"))
        return message_from_bytes(opened.read(name))


def test_the_source_distribution_holds_what_its_wheel_is_built_with(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")

    built = build_wheel(archive.with_suffix("").with_suffix(""), tmp_path)
    assert metadata_of(built)["Name"] == "medllm"


def test_an_installed_wheel_finds_its_recipes_outside_a_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")

    shown = subprocess.run(
        [sys.executable, "-m", "medllm", "recipes", "show", "quickstart"],
        cwd=tmp_path / "site",
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "", "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )

    assert shown.stdout == (ROOT / "configs/recipes/quickstart.yaml").read_text(encoding="utf-8")
