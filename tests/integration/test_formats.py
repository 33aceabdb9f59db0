"""Every format that transformers loads, made of the tiny model, and what lies in its folder."""

import copy
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import after_conversion
from typed import Typed, run_alone

from medllm.artifacts.manifest import Manifest
from medllm.artifacts.verify import verify_artifact
from medllm.data.example import write_jsonl
from medllm.data.generators.radiology import build_example
from medllm.engines.base import ScoreRequest
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.engines.open import open_model
from medllm.errors import ArtifactError, ConfigError, SetupError
from medllm.models.chat.template import encode_text
from medllm.models.hardware import let_gptqmodel_work
from medllm.models.load import load_causal_lm, load_tokenizer, resolve_model
from medllm.models.nf4 import load_on_nf4
from medllm.quantize.backends.gptqmodel import workers_raise
from medllm.quantize.config import (
    AwqFormat,
    BnbFormat,
    Format,
    Fp8Format,
    GgufFormat,
    GptqFormat,
    QuantizeConfig,
    W8a8Format,
)
from medllm.quantize.summary import show_serving, table_of
from medllm.quantize.verb import quantize

NEEDS = {"gptq": "gptqmodel", "awq": "gptqmodel", "bnb": "bitsandbytes"}
"""Format → the package that makes it; for the others llm-compressor."""
FORMATS: dict[str, Format] = {
    choice.folder: choice
    for choice in (
        GptqFormat(bits=3, group_size=32, desc_act=True, sym=False),
        GptqFormat(dynamic={r"+:.*\.down_proj": {"bits": 8}, r"-:.*\.layers\.0\..*": {}}),
        AwqFormat(group_size=32),
        BnbFormat(),
        BnbFormat(type="int8"),
        Fp8Format(),
        Fp8Format(scheme="static"),
        W8a8Format(),
    )
}
UNCALIBRATED = {"bnb-nf4", "bnb-int8", "fp8-dynamic"}
# What vLLM reads of `quantization_config`, from `from_config` of its quantization classes
COMPRESSED = {"quant_method", "config_groups", "format", "ignore", "kv_cache_scheme"}
VLLM_KEYS = {
    "gptq": {"quant_method", "bits", "group_size", "desc_act", "sym", "lm_head"},
    "awq": {"quant_method", "bits", "group_size", "zero_point", "lm_head"},
    "bnb": {"quant_method", "load_in_4bit", "load_in_8bit", "bnb_4bit_compute_dtype",
            "bnb_4bit_quant_storage", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant",
            "llm_int8_skip_modules", "llm_int8_threshold"},
    "fp8": COMPRESSED,
    "w8a8": COMPRESSED,
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)


def texts(numbers: range) -> list[str]:
    return [build_example(7, number).text for number in numbers]


@dataclass(frozen=True)
class Made:
    """The tiny model in the formats that can be made here."""

    model: Path
    calibration: Path
    output: Path

    def __getitem__(self, folder: str) -> Path:
        """The folder of a format; skips where its package is missing."""
        package = NEEDS.get(FORMATS[folder].format, "llmcompressor")
        if find_spec(package) is None:
            pytest.skip(f"{folder} needs {package}: pip install 'medllm[standard]'")
        return self.output / folder

    def config(self, choice: Format, output: Path) -> QuantizeConfig:
        return QuantizeConfig(
            model=str(self.model),
            calibration=self.calibration,
            formats=(choice,),
            output=output,
            quality=False,
        )

    def manifest(self, folder: str) -> Manifest:
        return Manifest.read(self[folder])


@pytest.fixture(scope="session")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    home = tmp_path_factory.mktemp("formats")
    (home / "set").mkdir()
    rows = [{"id": f"a/{n}", "text": text} for n, text in enumerate(texts(range(4)))]
    write_jsonl(home / "set/calibration.jsonl", rows)
    made = Made(tiny_model, home / "set", home / "made")
    stands_in = home / "stands-in"
    stands_in.mkdir()
    before = Path.cwd()
    os.chdir(stands_in)
    try:
        for choice in FORMATS.values():
            if find_spec(NEEDS.get(choice.format, "llmcompressor")):
                quantize(made.config(choice, made.output))
    finally:
        os.chdir(before)
    assert not list(stands_in.iterdir()), "nothing is left in the working folder"
    return made


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings_of(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = config["quantization_config"]
    return found


# Every folder


def test_each_folder_carries_all_that_its_readers_need(made: Made, name: str) -> None:
    folder = made[name]
    verify_artifact(folder)
    for file in (*made.model.glob("tokenizer*"), made.model / "generation_config.json"):
        assert (folder / file.name).read_bytes() == file.read_bytes(), file.name
    template = load_tokenizer(str(made.model)).chat_template
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == template
    assert not {*folder.glob("*.csv"), *folder.glob("*.log"), folder / "recipe.yaml"} & {
        path for path in folder.iterdir() if path.name != "run.log"
    }


def test_no_folder_names_this_machine(made: Made, name: str) -> None:
    for file in made[name].glob("*config.json"):
        assert "/tmp" not in file.read_text(encoding="utf-8")


def test_each_configuration_has_the_keys_that_vllm_reads(made: Made, name: str) -> None:
    settings = settings_of(made[name])

    assert settings.keys() >= VLLM_KEYS[FORMATS[name].format]
    if FORMATS[name].format in {"fp8", "w8a8"}:
        group = settings["config_groups"]["group_0"]
        assert settings["ignore"] == ["lm_head"]
        assert group["targets"] == ["Linear"]
        assert group["weights"]["num_bits"] == group["input_activations"]["num_bits"] == 8
        assert group["input_activations"]["dynamic"] == (name != "fp8-static")


def test_each_card_says_how_to_serve(made: Made, name: str) -> None:
    card = (made[name] / "README.md").read_text(encoding="utf-8")
    half = {"gptq-3bit-g32-desc_act-asym"}

    assert f"\nvllm serve .{' --dtype half' if name in half else ''}\n" in card


def test_only_what_calibrates_has_a_calibration_set_in_its_lineage(made: Made, name: str) -> None:
    manifest = made.manifest(name)

    assert len(manifest.parents) == (1 if name in UNCALIBRATED else 2)
    assert manifest.counts.examples == (0 if name in UNCALIBRATED else 4)


def test_each_loads_and_expects_about_what_its_parent_does(made: Made, name: str) -> None:
    parent, engine = (open_model(resolve_model(str(path))) for path in (made.model, made[name]))
    ids = encode_text(parent, texts(range(9, 10))[0])[:128]
    request = ScoreRequest(tuple(ids[:1]), tuple(ids[1:]))

    before, after = (np.concatenate(list(each.log_probs(ids))) for each in (parent, engine))

    divergence = (np.exp(before) * (before - after)).sum(axis=1).mean()
    assert 0 < divergence < 0.1
    (score,) = engine.score([request])
    expected = after[range(len(ids) - 1), ids[1:]].sum()
    assert score.logprob == pytest.approx(float(expected), rel=0.01)


def test_the_formats_stand_side_by_side(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [path for path in map(made.output.__truediv__, FORMATS) if path.is_dir()]

    manifests = [Manifest.read(folder) for folder in folders]

    _, rows = table_of(manifests)
    show_serving(manifests, folders)

    assert [row[0] for row in rows] == ["the model", *(folder.name for folder in folders)]
    sizes = {row[0]: float(row[1]) for row in rows}
    assert sizes["bnb-nf4"] < sizes["bnb-int8"]
    assert capsys.readouterr().out.count("vllm serve") == len(folders)


# What is special about some


def test_the_overrides_of_gptq_hold_when_it_is_loaded(made: Made) -> None:
    model = load_causal_lm(str(made["gptq-4bit-dynamic"]))
    bits = {name: getattr(part, "bits", None) for name, part in model.named_modules()}

    assert bits["model.layers.0.mlp.down_proj"] is None
    assert bits["model.layers.1.mlp.down_proj"] == 8
    assert bits["model.layers.1.mlp.up_proj"] == 4


def test_nf4_computes_with_exactly_the_weights_of_its_file(made: Made) -> None:
    """The reference dequantizes a fresh copy and computes as bitsandbytes says: in bfloat16."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    loaded, fresh = (load_causal_lm(str(made["bnb-nf4"]), device="cpu") for _ in range(2))
    reference = load_causal_lm(str(made.model), device="cpu").to(loaded.dtype)
    plain = {key: value for key, value in fresh.state_dict().items() if "proj" not in key}
    reference.load_state_dict(plain, strict=False)
    linears = [(key, part) for key, part in fresh.named_modules() if isinstance(part, Linear4bit)]
    assert linears

    class Rounded(torch.nn.Module):
        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x.bfloat16(), self.weight).to(x.dtype)

    for key, part in linears:
        weight = dequantize_4bit(part.weight.data, part.weight.quant_state).bfloat16()
        reference.set_submodule(key, Rounded(weight))
    ids = torch.arange(8, 72)[None]
    with torch.inference_mode():
        first, again, expected = (m(ids).logits for m in (loaded, loaded, reference))

    assert torch.equal(first, expected)
    assert torch.equal(again, expected), "a forward pass changes nothing"
    with torch.inference_mode():
        saved = copy.deepcopy(loaded.state_dict())
    assert all(torch.equal(saved[key], value) for key, value in fresh.state_dict().items())


def test_fp8_rounds_what_flows_through_too(made: Made) -> None:
    import torch

    model = load_causal_lm(str(made["fp8-dynamic"]), device="cpu")
    linear = model.model.layers[0].mlp.up_proj
    x = torch.randn(1, 8, linear.in_features, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x = x.to(linear.weight.dtype)
        exact = torch.nn.functional.linear(x, linear.weight)

        assert not torch.equal(linear(x), exact)
        assert torch.allclose(linear(x), exact, atol=0.1 * float(exact.abs().max()))


def test_the_same_again_is_the_same_artifact(made: Made, tmp_path: Path) -> None:
    name = "awq-4bit-g32"
    first = made.manifest(name)

    (again,) = quantize(made.config(FORMATS[name], tmp_path / "again"))

    assert again.identity == first.identity


def test_awq_computes_in_the_format_of_its_files(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is a GPU transformers takes float16 for it, in which some models overflow."""
    import torch

    quantizer = pytest.importorskip("transformers.quantizers.quantizer_awq").AwqQuantizer
    folder = str(made["awq-4bit-g32"])
    narrow = lambda _, dtype: torch.float16 if dtype == torch.bfloat16 else dtype  # noqa: E731
    stored = load_causal_lm(folder, device="cpu")
    assert stored.dtype == torch.bfloat16

    monkeypatch.setattr(quantizer, "update_dtype", narrow)
    found = load_causal_lm(folder, device="cpu")

    for weight, expected in zip(found.parameters(), stored.parameters(), strict=True):
        assert weight.dtype == expected.dtype
        assert torch.allclose(weight, expected, atol=6e-8)  # the smallest number of float16
    monkeypatch.setattr("medllm.models.foreign.lacks_bfloat16", lambda _: True)
    assert load_causal_lm(folder, device="cpu").dtype == torch.float16


# What goes wrong


def test_a_pattern_that_matches_nothing_is_an_error(made: Made, tmp_path: Path) -> None:
    if find_spec("gptqmodel") is None:
        pytest.skip("needs gptqmodel")
    choice = GptqFormat(dynamic={r"+:.*\.downproj": {"bits": 8}})

    with pytest.raises(ConfigError, match="matches no module") as caught:
        quantize(made.config(choice, tmp_path / "out"))

    assert "model.layers.0.self_attn" in caught.value.fix


def test_what_is_quantized_is_refused(made: Made, name: str, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    shutil.copyfile(made[name] / "config.json", foreign / "config.json")

    for model in (made[name], foreign):
        config = made.config(BnbFormat(), tmp_path / "out")
        with pytest.raises(ArtifactError, match="is quantized already"):
            quantize(config.model_copy(update={"model": str(model)}))


def test_an_architecture_that_gptqmodel_does_not_know(made: Made, tmp_path: Path) -> None:
    if find_spec("gptqmodel") is None:
        pytest.skip("needs gptqmodel")
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(made.model)
    shape = MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1)
    MambaForCausalLM(shape).save_pretrained(tmp_path / "mamba")
    tokenizer.save_pretrained(tmp_path / "mamba")
    config = made.config(GptqFormat(), tmp_path / "out")

    with pytest.raises(ArtifactError, match="does not know the architecture 'mamba'") as caught:
        quantize(config.model_copy(update={"model": str(tmp_path / "mamba")}))

    assert "llama, " in caught.value.fix
    with pytest.raises(ConfigError, match="a Mamba cannot be computed in bitsandbytes' form"):
        load_on_nf4(resolve_model(str(tmp_path / "mamba")))


def test_gptq_saves_a_model_with_a_rope_for_each_kind_of_layer(made: Made, tmp_path: Path) -> None:
    if find_spec("gptqmodel") is None:
        pytest.skip("needs gptqmodel")
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = AutoTokenizer.from_pretrained(made.model)
    shape = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=64, sliding_window=32,
        layer_types=["sliding_attention", "full_attention"], max_position_embeddings=512,
    )  # fmt: skip
    model = Gemma3ForCausalLM(shape)
    model.save_pretrained(tmp_path / "gemma")
    tokenizer.save_pretrained(tmp_path / "gemma")
    config = made.config(GptqFormat(), tmp_path / "out")

    quantize(config.model_copy(update={"model": str(tmp_path / "gemma")}))

    written = json.loads((tmp_path / "out/gptq-4bit/config.json").read_text())
    assert written["rope_parameters"] == model.config.rope_parameters


def formats_of(plan: str) -> Sequence[dict[str, Any]]:
    import yaml

    found: Sequence[dict[str, Any]] = yaml.safe_load(plan)["quantize"]["formats"]
    return found


def test_the_command_makes_formats_without_calibration(made: Made, tmp_path: Path) -> None:
    if find_spec("llmcompressor") is None:
        pytest.skip("needs llmcompressor")
    out = tmp_path / "out"
    ended = run_alone("quantize", "--model", made.model, "--format", "fp8", "--output", out)

    assert ended.returncode == 0, ended.stderr
    assert "quantize: FP8 dynamic, which uses no calibration text" in ended.stderr
    assert ended.stdout.splitlines()[-1].endswith("vllm serve " + str(out / "fp8-dynamic"))
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    assert all(line.startswith(("model:", "quantize:", "calibration:")) for line in lines), lines
    assert not list(Path.cwd().glob("*logs*"))


def test_the_flags_name_formats(typed: Typed) -> None:
    plan = typed("quantize", "--model", "medllm/tiny", "--format", "bnb", "--format", "gguf",
                 "--format", "fp8", "--type", "int8", "--type", "Q8_0", "--type", "static",
                 "--set", "calibrate.mix=quickstart", "--dry-run")  # fmt: skip

    found = formats_of(plan.stdout)
    chosen = [(each["format"], each.get("type") or each["scheme"]) for each in found]
    assert chosen == [("bnb", "int8"), ("gguf", "Q8_0"), ("fp8", "static")]


def test_a_gguf_has_what_ollama_and_others_ask_for(
    tiny_model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    try:
        require_llama_cpp()
        converter_script()
    except SetupError as problem:
        pytest.skip(f"{problem.message}: {problem.fix}")
    formats = (GgufFormat(type="F16"),)
    config = QuantizeConfig(model=str(tiny_model), formats=formats, output=tmp_path / "out")
    quantize(after_conversion(config, request.getfixturevalue("tiny_f16")))

    folder = tmp_path / "out/gguf-f16"
    lines = (folder / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "FROM ./model-F16.gguf",
        "PARAMETER num_ctx 1024",
        'PARAMETER stop "<|end|>"',
        'PARAMETER stop "</s>"',
    ]
    template = load_tokenizer(str(tiny_model)).chat_template
    assert (folder / "chat_template.jinja").read_text(encoding="utf-8") == template
    assert verify_artifact(folder).manifest.chat_template_sha256
    serving = "llama-server -m ./model-F16.gguf -c 1024\nollama create my-model -f ./Modelfile"
    assert serving in (folder / "README.md").read_text(encoding="utf-8")
    assert resolve_model(str(folder)).is_gguf


def test_a_worker_of_gptqmodel_that_fails_ends_the_call_and_not_the_process() -> None:
    """It printed why into silence and ended all, as a GPU without memory would have made it."""
    let_gptqmodel_work()
    threads = pytest.importorskip("gptqmodel.utils.threadx")
    pool = threads.DeviceThreadPool(devices=["cpu"], workers={"cpu": 1})

    def fail() -> None:
        raise KeyError("q_zeros")

    with pytest.raises(KeyError, match="q_zeros"), workers_raise():
        wait([pool.submit("cpu", fail)])
    pool.shutdown()
