"""What the package needs at run time is in its wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_all_data_of_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("medllm/")}

    data = {path for path in (ROOT / "medllm").rglob("*") if path.suffix in {".yaml", ".txt"}}
    recipes = {f"medllm/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert {path.relative_to(ROOT).as_posix() for path in data} <= packed
    assert recipes <= packed
    assert {"medllm/data/catalog/pubmedqa.yaml", "medllm/py.typed"} <= packed


def test_an_installed_wheel_finds_its_recipes_outside_a_checkout(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
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
