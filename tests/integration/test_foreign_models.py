"""Model folders from elsewhere that are no model: what is wrong is said before anything is made."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from medllm.cli.main import run_command
from medllm.engines.open import open_model
from medllm.errors import ArtifactError, SetupError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.verb import finetune
from medllm.models.foreign import loading
from medllm.models.load import load_causal_lm, resolve_model
from medllm.quantize.config import GgufFormat, QuantizeConfig
from medllm.quantize.verb import quantize

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")

Change = Callable[[Path], object]
WEIGHTS = "model.safetensors"


def config(**keys: Any) -> Change:
    """Write keys of the configuration, or take them out."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        found = json.loads(path.read_text()) | keys
        path.write_text(json.dumps({key: found[key] for key in found if found[key] is not None}))

    return change


def put(name: str, content: str | bytes) -> Change:
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(raw)


def header(edit: Callable[[dict[str, Any]], object]) -> Change:
    """Edit the header of the weights."""

    def change(folder: Path) -> None:
        raw = (folder / WEIGHTS).read_bytes()
        end = 8 + struct.unpack("<Q", raw[:8])[0]
        found = json.loads(raw[8:end])
        edit(found)
        new = json.dumps(found).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(new)) + new + raw[end:])

    return change


def bytes_of(edit: Callable[[bytearray], object]) -> Change:
    """Edit the bytes of the weights."""

    def change(folder: Path) -> None:
        raw = bytearray((folder / WEIGHTS).read_bytes())
        edit(raw)
        (folder / WEIGHTS).write_bytes(raw)

    return change


def index(places: object) -> Change:
    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))

    return change


def several_templates(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    named = [{"name": name, "template": "{{ messages }}"} for name in ("tool_use", "rag")]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": named}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)


def set_last(value: bytes) -> Change:
    """The last float32 of the weights."""

    def edit(raw: bytearray) -> None:
        raw[-4:] = value

    return bytes_of(edit)


NORM = "model.norm.weight"
BROKEN: dict[str, tuple[Change, str]] = {
    "config is a list": (put("config.json", "[]"), "it holds no mapping"),
    "config is deep": (put("config.json", "[" * 100_000), "is broken"),
    "config of bytes": (put("config.json", b"\xff\x00"), "is broken"),
    "no model type": (config(model_type=None), "cannot be loaded"),
    "unknown model type": (config(model_type="gpt-17"), "cannot be loaded"),
    "a size that is a word": (config(hidden_size="big"), "cannot be loaded"),
    "a negative size": (config(hidden_size=-1), "cannot be loaded"),
    "no size": (config(hidden_size=0), "cannot be loaded|another size"),
    "a huge size": (config(hidden_size=2**31), "cannot be loaded|another size"),
    "a large size": (config(hidden_size=2**17), "another size"),
    "no heads": (config(num_attention_heads=0), "cannot be loaded"),
    "other heads": (config(num_key_value_heads=1), "another size"),
    "a million layers": (config(num_hidden_layers=10**6), "1,000,000 layers"),
    "more layers": (config(num_hidden_layers=6), "has no weights for model.layers"),
    "fewer layers": (config(num_hidden_layers=1), "no place for the weights model.layers.1"),
    "a small vocabulary": (config(vocab_size=10), "another size"),
    "a quantization that is a word": (config(quantization_config="gptq"), "loaded|mapping"),
    "a tensor is missing": (header(lambda h: h.update({"x": h.pop(NORM)})), "has no weights for"),
    "a tensor is left over": (
        header(lambda h: h.update({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})),
        "no place for the weights a"),
    "tensors overlap": (
        header(lambda h: h[NORM].update({"data_offsets": [0, 1024]})), "cut off or broken"),
    "a shape that lies": (header(lambda h: h[NORM].update({"shape": [9, 9]})), "cut off or broken"),
    "a negative shape": (
        header(lambda h: h[NORM].update({"shape": [-16, -16]})), "cut off or broken"),
    "an unknown format": (header(lambda h: h[NORM].update({"dtype": "F99"})), "loaded|broken"),
    "a header without end": (put(WEIGHTS, struct.pack("<Q", 2**62) + b"{}"), "cut off or broken"),
    "a deep header": (
        put(WEIGHTS, struct.pack("<Q", 200_000) + b"[" * 200_000 + b"x" * 9), "cut off or broken"),
    "bytes at the end": (bytes_of(lambda raw: raw.extend(b"x" * 100)), "cut off or broken"),
    "half of the weights": (bytes_of(lambda raw: raw.__delitem__(slice(-5000, None))), "cut off"),
    "a pickle": (put(WEIGHTS, b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."), "cut off"),
    "a shard of pickles": (
        lambda f: (f / WEIGHTS).rename(f / "pytorch_model-00001-of-00002.bin"),
        r"pickles \(.bin\), which are not read"),
    "a shard is missing": (index({"a": "model-00001-of-00002.safetensors"}), "is missing"),
    "a shard is elsewhere": (index({"a": "../../../etc/passwd"}), "which is elsewhere"),
    "a shard has a full path": (index({"a": "/etc/passwd"}), "which is elsewhere"),
    "an index of nonsense": (index([1, 2]), "is broken"),
    "weights that link to themselves": (
        lambda f: [(f / WEIGHTS).unlink(), (f / WEIGHTS).symlink_to(WEIGHTS)], "missing|be read"),
    "a weight that is NaN": (set_last(struct.pack("<f", float("nan"))), "NaN or infinite"),
    "a weight that is infinite": (set_last(struct.pack("<f", float("-inf"))), "NaN or infinite"),
    "generation settings as a list": (put("generation_config.json", "[1]"), "holds no mapping"),
    "broken generation settings": (put("generation_config.json", "{"), "is broken"),
    "an end that is a word": (
        put("generation_config.json", '{"eos_token_id": "x"}'), "no token id"),
    "an end that is a mapping": (
        put("generation_config.json", '{"eos_token_id": [1, {}]}'), "no token id"),
    "a setting that is NaN": (config(rms_norm_eps=float("nan")), "it holds NaN"),
    "norms that divide by infinity": (
        config(rms_norm_eps=float("inf")), "expects every token alike|is no number"),
    "rope without a base": (
        config(rope_parameters={"rope_theta": 0, "rope_type": "default"}), "or infinite angles"),
    "a decoder that calls itself two": (
        config(is_encoder_decoder=True), "an encoder with a decoder"),
    "an encoder": (config(architectures=["BertForMaskedLM"]), "BertForMaskedLM is an encoder"),
    "a tokenizer as a list": (put("tokenizer_config.json", "[]"), "it holds no mapping"),
    "a tokenizer of nothing": (put("tokenizer.json", "{}"), "tokenizer of .* cannot be loaded"),
    "a choice of templates": (several_templates, "none is its default: rag, tool_use"),
    "a template of bytes": (put("chat_template.jinja", b"\xff\xfe\x00"), "cannot be loaded"),
}  # fmt: skip
FILES = ("config", "a size", "fewer", "more", "a tensor", "a shard", "a weight", "a tokenizer",
         "a choice", "a template")  # fmt: skip
"""Beginnings of those that a conversion without calibration must notice as well."""


@pytest.fixture
def foreign(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_model_is_refused(name: str, foreign: Path) -> None:
    change, said = BROKEN[name]
    change(foreign)

    with pytest.raises(ArtifactError, match=said):
        open_model(resolve_model(str(foreign)))


@pytest.mark.parametrize("name", [name for name in BROKEN if name.startswith(FILES)])
def test_nothing_is_quantized_of_it(name: str, foreign: Path, tmp_path: Path) -> None:
    change, said = BROKEN[name]
    change(foreign)

    with pytest.raises(ArtifactError, match=said):
        formats = (GgufFormat(type="Q8_0"),)
        quantize(QuantizeConfig(model=str(foreign), formats=formats, output=tmp_path / "out"))

    assert not (tmp_path / "out").exists()


def test_a_whole_model_with_files_that_say_nothing_is_loaded(foreign: Path) -> None:
    (foreign / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    target = foreign.with_name("weights")
    (foreign / WEIGHTS).rename(target)
    (foreign / WEIGHTS).symlink_to(target)  # as in the hub's cache

    assert open_model(resolve_model(str(foreign))).context_length


@pytest.mark.parametrize("tied", [True, False])
def test_what_older_releases_saved_beside_the_weights_is_no_fault(
    tied: bool, tmp_path: Path
) -> None:
    shape = {"n_embd": 32, "n_layer": 1, "n_head": 4, "vocab_size": 64}
    model = GPT2LMHeadModel(GPT2Config(**shape, tie_word_embeddings=tied))
    model.save_pretrained(tmp_path / "gpt2")
    weights = load_file(tmp_path / "gpt2" / WEIGHTS)
    weights |= {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
        "lm_head.weight": model.lm_head.weight.detach().clone(),
    }
    save_file(weights, tmp_path / "gpt2" / WEIGHTS, metadata={"format": "pt"})

    loaded = load_causal_lm(str(tmp_path / "gpt2"))

    assert torch.equal(loaded.lm_head.weight.cpu(), weights["lm_head.weight"])


def test_a_path_that_is_mistyped_is_not_asked_of_the_hub(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(foreign.parent.parent)

    with pytest.raises(ArtifactError, match="holds no modle") as caught:
        resolve_model(f"{foreign.parent.name}/modle")

    assert caught.value.fix.startswith("did you mean 'model'? ")


def test_a_quantized_model_is_refused_before_it_is_calibrated_for(
    foreign: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (foreign / "config.json").unlink()
    (foreign / "model-Q8_0.gguf").write_bytes(b"GGUF")

    arguments = ["--model", str(foreign), "--format", "gguf", "--type", "Q4_K_M", "--output", "out"]
    assert run_command(["quantize", *arguments]) == 4

    assert "model-Q8_0.gguf is quantized already" in capfd.readouterr().err


def test_nothing_is_trained_on_a_quantized_model(foreign: Path, tmp_path: Path) -> None:
    config(quantization_config={"quant_method": "gptq", "bits": 4})(foreign)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text("")

    with pytest.raises(ArtifactError, match="is quantized already") as caught:
        finetune(FinetuneConfig(model=str(foreign), data=tmp_path / "data"))

    assert "quantization: nf4" in caught.value.fix


def test_a_model_in_a_folder_of_the_named_one_is_pointed_out(foreign: Path) -> None:
    for role, missing in (("model", "config.json"), ("adapter", "adapter_config.json")):
        with pytest.raises(ArtifactError, match=rf"no {missing}\)") as caught:
            resolve_model(str(foreign.parent), role=role)

        assert caught.value.fix == "name one of the folders in it: model"


def test_a_package_that_does_not_fit_torch_is_told_from_one_that_is_missing() -> None:
    """As transformers tells of PyPI's torchvision beside a torch for the processor."""
    missing = ModuleNotFoundError("Could not import module 'LlamaConfig'. Are its requirements …")
    for cause, fix in (
        (
            RuntimeError("operator torchvision::nms does not exist"),
            "the index that torch came from",
        ),
        (ModuleNotFoundError("No module named 'x'"), "pip install 'medllm[standard]'"),
    ):
        with pytest.raises(SetupError) as caught, loading("tokenizer of m"):
            raise missing from cause
        assert caught.value.message == f"tokenizer of m: {cause}"
        assert fix in caught.value.fix
