"""Without an extra its commands end with what to install, and all the others work."""

import json
import subprocess
import sys
from typing import Any

import pytest

PACKAGES = ("gptqmodel", "optimum", "llama_cpp", "aiohttp", "fastapi", "starlette", "uvicorn",
            "h11", "bitsandbytes", "llmcompressor", "compressed_tensors", "optuna")  # fmt: skip
"""What only extras bring, by the names that they are imported under."""
LOADING = """
import sys
sys.modules.update(dict.fromkeys(%r))  # None: nobody finds them
"""
ASKING = """
import json
from pathlib import Path
import medllm
from medllm.cli import main
from medllm import checkup, smoke
from medllm.study import walk
from medllm.config.loader import configure
from medllm.engines.open import open_model
from medllm.errors import MedllmError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.verb import check_ahead
from medllm.models.load import resolve_model
from medllm.quantize.config import QuantizeConfig
from medllm.serve.config import ServeConfig

for verb in medllm.__all__:
    getattr(medllm, verb)
Path("a.gguf").write_bytes(b"GGUF")
SEARCH = {"trials": 2, "parameters": {"lora.r": [4, 8]}}
calls = {
    form: (medllm.quantize, configure(QuantizeConfig, model="m", formats=[{"format": form}]))
    for form in ("gptq", "awq", "bnb", "fp8", "w8a8", "gguf")
}
calls["serve"] = medllm.serve, configure(ServeConfig, model="m")
calls["search"] = check_ahead, configure(FinetuneConfig, model="m", search=SEARCH)
calls["open"] = open_model, resolve_model("a.gguf")
said = {}
for name, (call, argument) in calls.items():
    try:
        call(argument)
    except MedllmError as problem:
        said[name] = [problem.exit_code, problem.fix]
print(json.dumps(said))
"""
FIXES = {
    **dict.fromkeys(("gptq", "awq"), "pip install 'medllm[gptq]'"),
    "bnb": "pip install 'medllm[bnb]'",
    **dict.fromkeys(("fp8", "w8a8"), "pip install 'medllm[fp8]'"),
    **dict.fromkeys(("gguf", "open"), "run `medllm doctor --set-up-llama-cpp`"),
    "serve": "pip install 'medllm[serve]'",
    "search": "pip install 'medllm[search]'",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each call that needs an extra says, in a process that has none."""
    result = subprocess.run(
        [sys.executable, "-c", LOADING % (PACKAGES,) + ASKING],
        cwd=tmp_path_factory.mktemp("lean"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("call", "fix"), FIXES.items())
def test_what_needs_an_extra_names_it(said: Any, call: str, fix: str) -> None:
    assert said[call] == [5, fix]
