"""Which engine serves a model, and what is refused in a line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from medllm.artifacts.manifest import BaseModelRef, Parent
from medllm.artifacts.serving import ServerSettings
from medllm.errors import ConfigError, SetupError
from medllm.models.load import ModelRef
from medllm.serve.model.choice import choose_engine
from medllm.serve.model.vllm import why_not

NOTHING = ServerSettings()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the PATH names, and nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python" / "python3"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def put(command: Path) -> None:
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)


def model(folder: Path, file: str = "config.json", **content: Any) -> ModelRef:
    folder.mkdir(exist_ok=True)
    if file.endswith(".json"):
        (folder / file).write_text(json.dumps(content))
    path = folder / file if file.endswith(".gguf") else folder
    parent = Parent(kind="foreign", path=str(path), identity="0" * 64)
    return ModelRef(str(path), path, None, parent, BaseModelRef(id=str(path)))


def test_a_folder_goes_to_vllm_where_it_and_a_gpu_are_there(path: Path, tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    assert choose_engine(folder, "auto", NOTHING, lambda: 1).name == "transformers"
    with pytest.raises(SetupError, match="vLLM is not installed"):
        choose_engine(folder, "vllm", NOTHING, lambda: 1)
    put(path / "vllm")

    chosen = choose_engine(folder, "auto", NOTHING, lambda: 1)

    assert chosen.name == "vllm" and "untested" in chosen.why
    without = choose_engine(folder, "auto", NOTHING, lambda: 0)
    assert without.name == "transformers" and "needs a GPU" in without.why
    assert choose_engine(folder, "transformers", NOTHING, lambda: 1).name == "transformers"


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", {"vision_config": {}}, "reads images"),
        ("config.json", {"quantization_config": {"quant_method": "bitsandbytes"}}, "bitsandbytes"),
        ("adapter_config.json", {"peft_type": "LORA", "r": 8, "use_dora": True}, "use_dora"),
        ("adapter_config.json", {"peft_type": "LORA", "r": 8, "alpha_pattern": {"q": 2}}, "merge"),
        ("adapter_config.json", {"peft_type": "LORA", "r": 1024}, "rank 1024"),
        ("adapter_config.json", {"peft_type": "IA3"}, "another kind than plain LoRA"),
    ],
)
def test_what_vllm_would_answer_wrongly_goes_to_transformers(
    file: str, content: dict[str, Any], reason: str, path: Path, tmp_path: Path
) -> None:
    put(path / "vllm")
    named = model(tmp_path / "m", file, **content)

    chosen = choose_engine(named, "auto", NOTHING, lambda: 1)

    assert chosen.name == "transformers" and reason in chosen.why
    with pytest.raises(ConfigError, match=f"the engine vllm cannot run .*{reason}"):
        choose_engine(named, "vllm", NOTHING, lambda: 1)


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "compressed-tensors"])
def test_quantized_folders_and_plain_adapters_are_for_vllm(method: str, tmp_path: Path) -> None:
    assert why_not(model(tmp_path / "q", quantization_config={"quant_method": method})) is None
    lora = {"peft_type": "LORA", "r": 8, "bias": "none", "modules_to_save": None}
    assert why_not(model(tmp_path / "a", "adapter_config.json", **lora)) is None


def test_a_gguf_file_is_not_for_vllm(path: Path, tmp_path: Path) -> None:
    file = model(tmp_path, "m.gguf")
    for wrong in ("vllm", "transformers"):
        with pytest.raises(ConfigError, match=f"the engine {wrong} cannot run") as refused:
            choose_engine(file, wrong, NOTHING, lambda: 1)
        assert "llama_server or llama_cpp" in refused.value.fix
    for wrong in ("llama_server", "llama_cpp"):
        with pytest.raises(ConfigError, match=f"the engine {wrong} cannot run"):
            choose_engine(model(tmp_path / "m"), wrong, NOTHING, lambda: 1)


@pytest.mark.parametrize(
    ("settings", "gpus", "message"),
    [
        ({"tensor_parallel_size": 2}, 1, "takes 2 GPUs, and 1 can"),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, 3, "takes 4 GPUs, and 3 can"),
        ({"pipeline_parallel_size": 2}, 0, "takes 2 GPUs, and none can"),
        ({"n_threads": 2}, 1, "serve.n_threads is of the engine llama_server, and vllm is taken"),
    ],
)
def test_what_this_machine_or_engine_cannot_is_refused(
    settings: dict[str, Any], gpus: int, message: str, path: Path, tmp_path: Path
) -> None:
    put(path / "vllm")
    with pytest.raises(ConfigError, match=message):
        choose_engine(model(tmp_path / "m"), "vllm", ServerSettings(**settings), lambda: gpus)


def test_ray_joins_gpus_of_other_machines(path: Path, tmp_path: Path) -> None:
    put(path / "vllm")
    settings = ServerSettings(
        tensor_parallel_size=8, pipeline_parallel_size=2, distributed_executor_backend="ray"
    )
    assert choose_engine(model(tmp_path / "m"), "auto", settings, lambda: 8).name == "vllm"


def test_a_setting_that_nobody_would_heed_is_refused(path: Path, tmp_path: Path) -> None:
    sizes = {"tensor_parallel_size": 1, "gpu_memory_utilization": 1, "parallel": 1}
    for name, value in {**sizes, "tool_call_parser": "hermes"}.items():
        with pytest.raises(ConfigError, match=f"serve.{name} is of the engine") as refused:
            choose_engine(model(tmp_path / "m"), "auto", ServerSettings(**{name: value}), lambda: 1)
        assert refused.value.fix == f"leave {name} out, or use --engine vllm"
    with pytest.raises(ConfigError) as refused:  # llama-server heeds it, and cannot run a folder
        choose_engine(model(tmp_path / "m"), "auto", ServerSettings(n_threads=2), lambda: 1)
    assert refused.value.fix == "leave n_threads out"
    assert os.environ["PATH"] == str(path)
