"""`from medllm import prepare` gives the function, in whatever order things are imported."""

import importlib
import os
import pickle
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

import medllm
from medllm.config.loader import configure
from medllm.errors import ConfigError
from medllm.finetune.config import FinetuneConfig, LoraSettings
from medllm.prepare.config import PrepareConfig
from medllm.recipe import ROAD

IMPORTS = (
    "from medllm import merge",
    "import medllm.merge.verb",
    "from medllm.merge.config import MergeConfig",
    "from medllm.merge import verb",
)
"""Each sets or reads the attribute `merge` of the package in its own way."""
IS_FUNCTION = """
import medllm
from medllm import merge
from medllm.merge.verb import merge as made
assert medllm.merge is merge is made, medllm.merge
"""
FORGET = """
import sys
for name in [name for name in sys.modules if name == "medllm" or name.startswith("medllm.merge")]:
    del sys.modules[name]
"""


def test_the_eight_verbs_are_named() -> None:
    assert sorted(medllm.__all__) == sorted(ROAD)
    assert {*ROAD, "__version__"} <= {*dir(medllm)}


@pytest.mark.parametrize("verb", sorted({*ROAD} - {"finetune"}))  # which imports torch
def test_a_verb_is_its_function(verb: str) -> None:
    module = importlib.import_module(f"medllm.{verb}.verb")

    assert getattr(medllm, verb) is getattr(module, verb)
    assert pickle.loads(pickle.dumps(getattr(medllm, verb))) is getattr(medllm, verb)


def test_a_verb_stays_its_function_in_every_order_of_imports() -> None:
    orders = ("\n".join((FORGET, *order, IS_FUNCTION)) for order in permutations(IMPORTS))

    assert subprocess.run([sys.executable, "-c", "\n".join(orders)]).returncode == 0


def test_another_name_is_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'diagnose'"):
        medllm.diagnose  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'diagnose'"):
        exec("from medllm import diagnose", {})


def test_the_package_alone_loads_no_verb() -> None:
    code = "import sys, medllm; print(*(m for m in sys.modules if m.startswith('medllm')))"
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout

    assert {*shown.split()} == {"medllm", "medllm.errors", "medllm.places"}


def test_no_library_calls_home_from_a_notebook_either() -> None:
    environ = {name: value for name, value in os.environ.items() if name not in SILENT}
    code = "import medllm, huggingface_hub.constants as c; assert c.HF_HUB_DISABLE_TELEMETRY"

    assert subprocess.run([sys.executable, "-c", code], env=environ).returncode == 0


SILENT = ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")


def test_a_section_from_python_is_read_as_in_a_recipe(tmp_path: Path) -> None:
    lists = configure(PrepareConfig, datasets=["pubmedqa", "./rows.jsonl"], output="out")

    assert lists.datasets == ("pubmedqa", str(Path.cwd() / "rows.jsonl"))
    assert lists.output == Path.cwd() / "out"
    assert lists == configure(
        PrepareConfig, datasets=("pubmedqa", "./rows.jsonl"), output=Path.cwd() / "out"
    )
    as_mapping = configure(FinetuneConfig, model="medllm/tiny", lora={"r": 4})
    assert as_mapping == configure(FinetuneConfig, model="medllm/tiny", lora=LoraSettings(r=4))
    assert as_mapping.model_fields_set == {"model", "lora"}


def test_what_is_wrong_in_a_section_from_python_is_told_in_two_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        configure(PrepareConfig, dataset=["pubmedqa"], max_examples="3")
    assert caught.value.message.splitlines() == [
        "PrepareConfig: max_examples: input should be a valid integer, got '3'",
        "PrepareConfig: dataset: unknown key; did you mean 'datasets'?",
    ]
    shown = caught.value._render_traceback_()  # by a notebook
    assert shown == [f"error: {caught.value.message}", f"  fix: {caught.value.fix}"]
    with pytest.raises(ConfigError, match="PrepareConfig: .*object"):
        configure(PrepareConfig, output=object())
