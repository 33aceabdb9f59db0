"""A tiny model, built once, and `medllm` as it is typed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typed import Ended, Typed
from unchanged import unchanged

from medllm.cli.main import run_command

SMALL = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.05,
}


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]) -> Typed:
    """Runs `medllm` with some arguments in this process, where the libraries are imported once."""

    def run(*arguments: str | Path) -> Ended:
        capfd.readouterr()
        words = [str(each) for each in arguments]
        return Ended(words, run_command(words), *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The built-in tiny model."""
    from medllm.models.tiny.base import tiny_base

    return tiny_base()


@pytest.fixture(scope="session")
def tiny_f16(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny model as a GGUF file of 16-bit floats."""
    from medllm.models.load import resolve_model
    from medllm.quantize.gguf.files import convert_to_f16
    from medllm.quantize.work import title_of

    target = tmp_path_factory.mktemp("gguf") / "tiny-f16.gguf"
    convert_to_f16(tiny_model, target, title=title_of(resolve_model("medllm/tiny"), None))
    with unchanged(target):
        yield target


COPY = """
import shutil, sys
from pathlib import Path
assert Path(sys.argv[1]).samefile({model!r}), "another model than the one that was converted"
shutil.copyfile({converted!r}, sys.argv[sys.argv.index("--outfile") + 1])
"""


@pytest.fixture
def converter(
    tiny_model: Path, tiny_f16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout of llama.cpp whose converter copies what the real one made of the tiny model.

    The real one imports torch and transformers each time.
    """
    from medllm.engines.llama_cpp_setup import converter_script

    real, checkout = converter_script(), tmp_path / "llama.cpp"
    checkout.mkdir()
    for part in real.parent.iterdir():
        if part != real:
            (checkout / part.name).symlink_to(part)
    script = COPY.format(model=str(tiny_model), converted=str(tiny_f16))
    (checkout / real.name).write_text(script)
    monkeypatch.setenv("MEDLLM_LLAMA_CPP", str(checkout))


@pytest.fixture(scope="session")
def mixtral(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of eight experts in each of two layers, with random weights."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    from medllm.models.load import read_config, resolve_model, save_tokenizer

    folder = tmp_path_factory.mktemp("models") / "mixtral"
    config = MixtralConfig(vocab_size=read_config(tiny_model)["vocab_size"], **SMALL)
    torch.manual_seed(0)
    MixtralForCausalLM(config).save_pretrained(folder)
    save_tokenizer(resolve_model(str(tiny_model)), folder)
    return folder


@pytest.fixture(scope="session")
def gemma(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of text and images with random weights, as google/gemma-3-4b-it is laid out."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    from medllm.models.load import read_config, resolve_model, save_tokenizer

    folder = tmp_path_factory.mktemp("models") / "gemma"
    text = Gemma3TextConfig(
        vocab_size=read_config(tiny_model)["vocab_size"],
        **SMALL,
        head_dim=64,
        query_pre_attn_scalar=64,  # llama.cpp takes it to be the size of a head
    )
    vision = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
        vision_use_head=False,
    )
    config = Gemma3Config(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        mm_tokens_per_image=4,
        image_token_index=5,
        boi_token_index=6,
        eoi_token_index=7,
    )
    torch.manual_seed(0)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    renamed = {
        name.replace("vision_tower.", "vision_tower.vision_model."): weight
        for name, weight in weights.items()
    }
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(resolve_model(str(tiny_model)), folder)
    preprocessor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder
