"""Merging, for every kind of adapter, beside PEFT's own base + adapter."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from medllm.errors import ArtifactError
from medllm.merge import fold
from medllm.merge.config import MergeConfig
from medllm.merge.verb import merge
from medllm.models import weights
from medllm.models.adapter import base_of, load_adapter
from medllm.models.load import resolve_model
from medllm.models.weights import read_weights

SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting `save_embedding_layers`:UserWarning",
    "ignore:Model has `tie_word_embeddings=True`:UserWarning",
)
ATTENTION = ["q_proj", "v_proj"]
IDS = torch.arange(3, 43)[None]
PICKLE = "cos\nsystem\n(S'touch {}'\ntR."
"""Whoever loads it runs a command."""


@dataclass(frozen=True)
class Case:
    """A base and an adapter."""

    lora: dict[str, Any]
    tied: bool = False
    dtype: torch.dtype = torch.float32
    grown: int = 0
    """Tokens added before training."""
    shards: str = "50GB"
    says: str = ""
    """What is announced."""
    base: dict[str, Any] = field(default_factory=dict)


CASES = {
    "lora": Case({"target_modules": ATTENTION}),
    "all linear, shards": Case({"target_modules": "all-linear"}, shards="100KB"),
    "rslora": Case({"target_modules": ATTENTION, "use_rslora": True}),
    "dora": Case({"target_modules": "all-linear", "use_dora": True}),
    "patterns": Case(
        {
            "target_modules": "all-linear",
            "rank_pattern": {"down_proj": 2, "layers.0.self_attn.q_proj": 16},
            "alpha_pattern": {"o_proj": 64},
        }
    ),
    "bfloat16": Case({"target_modules": "all-linear"}, dtype=torch.bfloat16),
    "float16, dora": Case({"target_modules": "all-linear", "use_dora": True}, dtype=torch.float16),
    "tied": Case({"target_modules": ATTENTION}, tied=True),
    "embedding": Case({"target_modules": [*ATTENTION, "embed_tokens"]}),
    "embedding, tied": Case(
        {"target_modules": [*ATTENTION, "embed_tokens"]}, tied=True, says="merged model holds two"
    ),
    "head": Case({"target_modules": [*ATTENTION, "lm_head"]}),
    "head saved": Case({"target_modules": ATTENTION, "modules_to_save": ["lm_head"]}),
    "norm saved": Case({"target_modules": ATTENTION, "modules_to_save": ["norm"]}),
    "embedding saved, tied": Case(
        {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]},
        tied=True,
        says="merged model holds two",
    ),
    "tokens added": Case({"target_modules": ATTENTION}, grown=8),
    "tokens added, tied": Case({"target_modules": ATTENTION}, grown=8, tied=True),
    "biases": Case(
        {"target_modules": ATTENTION, "bias": "lora_only"},
        says="through PEFT, with the whole model in memory: it uses bias",
        base={"attention_bias": True},
    ),
    "pissa": Case(
        {"target_modules": ATTENTION, "init_lora_weights": "pissa"}, says="started with pissa"
    ),
    "rows of tokens": Case(
        {"target_modules": ATTENTION, "trainable_token_indices": [5, 6]},
        says="it uses trainable_token_indices",
    ),
    "rows of added tokens": Case(
        {"target_modules": ATTENTION, "trainable_token_indices": [4097, 4099]},
        says="it uses trainable_token_indices",
        grown=4,
    ),
    "rows of added tokens, tied": Case(
        {"target_modules": ATTENTION, "trainable_token_indices": {"embed_tokens": [4097, 4099]}},
        says="it uses trainable_token_indices",
        grown=4,
        tied=True,
    ),
}


def write_base(case: Case, folder: Path, tokenizer: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(**{**SHAPE, **case.base}, tie_word_embeddings=case.tied)
    model = LlamaForCausalLM(config).to(case.dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # the usual start is so small that nothing shows
            if parameter.dim() == 2:
                parameter.normal_(std=0.2)
    model.save_pretrained(folder, max_shard_size=case.shards)
    copy_tokenizer(tokenizer, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    for file in (*source.glob("tokenizer*"), *source.glob("chat_template*")):
        (folder / file.name).write_bytes(file.read_bytes())


def write_adapter(case: Case, base: Path, folder: Path) -> None:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=case.dtype)
    if case.grown:
        model.resize_token_embeddings(SHAPE["vocab_size"] + case.grown, mean_resizing=False)
    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **case.lora))
    learn(tuned)
    tuned.save_pretrained(folder)
    copy_tokenizer(base, folder)


def learn(tuned: PeftModel) -> None:
    """Move whatever is trained a little."""
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                grows = "magnitude" in name  # lengths of rows stay positive
                parameter.add_(torch.randn_like(parameter).abs_() * 0.05 if grows
                               else torch.randn_like(parameter) * 0.05)  # fmt: skip


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits.float()


def of_base_and_adapter(case: Case, base: Path, adapter: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if case.grown:
        model.resize_token_embeddings(SHAPE["vocab_size"] + case.grown, mean_resizing=False)
    return logits_of(PeftModel.from_pretrained(model, adapter))


@pytest.mark.parametrize("name", CASES)
def test_the_merged_model_computes_what_base_and_adapter_do(
    name: str, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case, base, adapter, out = CASES[name], tmp_path / "b", tmp_path / "a", tmp_path / "m"
    write_base(case, base, tiny_model)
    write_adapter(case, base, adapter)

    manifest = merge(MergeConfig(adapter=adapter, model=str(base), output=out))

    said = capfd.readouterr().err
    assert case.says in said
    assert ("through PEFT" in said) == (
        "through PEFT" in case.says or name == "pissa" or "rows of" in name
    )
    merged, loading = AutoModelForCausalLM.from_pretrained(
        out, dtype=torch.float32, output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    expected, found = of_base_and_adapter(case, base, adapter), logits_of(merged)
    plain = logits_of(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    learnt = (found[..., : plain.shape[-1]] - plain).abs().mean()
    difference = (found - expected).abs()
    assert learnt > 1e-2
    if case.dtype == torch.float32:
        assert difference.max() < 1e-4
        assert manifest.results["max_difference"] < 1e-4
    assert difference.mean() < 0.05 * learnt
    stored = {tensor.format for tensor in read_weights(out).values()}
    names = {torch.float32: {"F32"}, torch.bfloat16: {"BF16"}, torch.float16: {"F16"}}
    assert stored == names[case.dtype]
    assert manifest.results["compared_in"] == "float32"
    files = {path.name for path in base.glob("*.safetensors")}
    assert {path.name for path in out.glob("*.safetensors")} == files or "PEFT" in said


def test_another_number_format_can_be_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    case = CASES["dora"]
    write_base(case, tmp_path / "b", tiny_model)
    write_adapter(case, tmp_path / "b", tmp_path / "a")
    config = MergeConfig(
        adapter=tmp_path / "a", model=str(tmp_path / "b"), output=tmp_path / "m", dtype="bfloat16"
    )

    manifest = merge(config)

    assert manifest.results["dtype"] == "bfloat16"
    assert {tensor.format for tensor in read_weights(tmp_path / "m").values()} == {"BF16"}
    assert json.loads((tmp_path / "m/config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "m").dtype == torch.bfloat16


def test_a_tensor_in_pieces_is_the_same(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["dora"]
    write_base(case, tmp_path / "b", tiny_model)
    write_adapter(case, tmp_path / "b", tmp_path / "a")
    config = MergeConfig(adapter=tmp_path / "a", model=str(tmp_path / "b"), output=tmp_path / "m")
    whole = merge(config)

    for module in (fold, weights):
        monkeypatch.setattr(module, "PIECE_BYTES", 1000)
    small = merge(config.model_copy(update={"output": tmp_path / "pieces"}))

    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("m", "pieces"))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, other[name], atol=1e-6), name
    assert whole.results["max_difference"] < 1e-4 > small.results["max_difference"]


def test_onto_nf4_it_computes_what_training_saw(tiny_model: Path, tmp_path: Path) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    case = CASES["bfloat16"]
    write_base(case, tmp_path / "b", tiny_model)
    write_adapter(case, tmp_path / "b", tmp_path / "a")
    config = MergeConfig(adapter=tmp_path / "a", model=str(tmp_path / "b"), output=tmp_path / "m")

    merge(config.model_copy(update={"onto": "nf4"}))

    base = AutoModelForCausalLM.from_pretrained(tmp_path / "b", dtype=torch.bfloat16)
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            packed = functional.quantize_4bit(
                module.weight.data, quant_type="nf4", compress_statistics=True
            )
            module.weight.data = functional.dequantize_4bit(*packed)
    expected = logits_of(PeftModel.from_pretrained(base.float(), tmp_path / "a"))
    found = logits_of(AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32))
    merge(config.model_copy(update={"output": tmp_path / "plain"}))
    plain = logits_of(AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32))
    assert (found - expected).abs().mean() < 0.1 * (plain - expected).abs().mean()


def test_a_mixture_of_experts_is_folded_where_its_tensors_are_its_own(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    config = MixtralConfig(**SHAPE, num_local_experts=4)
    MixtralForCausalLM(config).save_pretrained(tmp_path / "b")
    copy_tokenizer(tiny_model, tmp_path / "b")
    fused = {"target_modules": ATTENTION, "target_parameters": ["experts.down_proj"]}
    for name, lora in (("attention", {"target_modules": ATTENTION}), ("experts", fused)):
        case = Case(lora)
        write_adapter(case, tmp_path / "b", tmp_path / name)

        merge(
            MergeConfig(
                adapter=tmp_path / name, model=str(tmp_path / "b"), output=tmp_path / f"m-{name}"
            )
        )

        said = capfd.readouterr().err
        assert ("through PEFT" in said) == (name == "experts")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / f"m-{name}", dtype=torch.float32)
        expected = of_base_and_adapter(case, tmp_path / "b", tmp_path / name)
        assert (logits_of(merged) - expected).abs().max() < 1e-4


def test_a_vision_language_model_keeps_its_tower(tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
              "num_attention_heads": 2, "image_size": 28, "patch_size": 14}  # fmt: skip
    text = {**SHAPE, "head_dim": 16, "sliding_window": 64}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "b")
    copy_tokenizer(tiny_model, tmp_path / "b")
    model = Gemma3ForConditionalGeneration.from_pretrained(tmp_path / "b", dtype=torch.float32)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=r".*language_model.*\.(q|v)_proj"))
    learn(tuned)
    tuned.save_pretrained(tmp_path / "a")
    expected = logits_of(tuned)
    config_ = MergeConfig(adapter=tmp_path / "a", model=str(tmp_path / "b"), output=tmp_path / "m")

    merge(config_)

    merged = Gemma3ForConditionalGeneration.from_pretrained(tmp_path / "m", dtype=torch.float32)
    assert (logits_of(merged) - expected).abs().max() < 1e-4
    assert read_weights(tmp_path / "m").keys() == read_weights(tmp_path / "b").keys()


# What is wrong


def made(tmp_path: Path, tiny_model: Path, shards: str = "50GB", **lora: bool) -> MergeConfig:
    case = Case({"target_modules": ATTENTION, **lora}, shards=shards)
    write_base(case, tmp_path / "b", tiny_model)
    write_adapter(case, tmp_path / "b", tmp_path / "a")
    return MergeConfig(adapter=tmp_path / "a", model=str(tmp_path / "b"), output=tmp_path / "m")


def test_a_base_of_another_shape_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model)
    other = Case({}, base={"head_dim": 32})
    write_base(other, tmp_path / "other", tiny_model)

    with pytest.raises(ArtifactError, match=r"q_proj.weight is 128 × 64 .* 64 × 64") as caught:
        merge(config.model_copy(update={"model": str(tmp_path / "other")}))
    assert "--model" in caught.value.fix


def test_a_missing_shard_is_named(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model, shards="100KB")
    sorted((tmp_path / "b").glob("*.safetensors"))[1].unlink()

    with pytest.raises(ArtifactError, match="not whole: model-00002-of-.* is missing"):
        merge(config)


def test_a_cut_file_is_named(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model)
    path = tmp_path / "b/model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ArtifactError, match="model.safetensors is cut off or broken"):
        merge(config)


def test_a_lost_matrix_is_named(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model)
    path = tmp_path / "a/adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, path)

    with pytest.raises(ArtifactError, match=r"lora_B.weight is missing"):
        merge(config)


def alter(adapter: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, Any]]) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def without(part: str) -> Callable[[dict[str, torch.Tensor]], dict[str, Any]]:
    return lambda tensors: {name: each for name, each in tensors.items() if part not in name}


LAYER = "base_model.model.model.layers.0.self_attn"
NOT_WHOLE = {
    "a layer": (without("layers.1."), "lacks 4 of the 8 tensors .*layers.1.self_attn.q_proj"),
    "half of a pair": (without("1.self_attn.q_proj.lora_B"), "lora_B.weight is missing|lacks 1"),
    "everything": (lambda tensors: {}, "lacks 8 of the 8 tensors"),
    "emptied": (
        lambda tensors: {n: torch.zeros(0) if "rs.1" in n else t for n, t in tensors.items()},
        "layers.1.self_attn.q_proj.lora_A.weight of size 0, where 4 × 64 is described",
    ),
    "foreign prefix": (
        lambda tensors: {n.replace("model.model.", "model._orig_mod.model."): t
                         for n, t in tensors.items()},
        "lacks 8 of the 8",
    ),
    "name of the adapter": (
        lambda tensors: {n.replace(".weight", ".default.weight"): t for n, t in tensors.items()},
        "lacks 8 of the 8",
    ),
    "more than described": (
        lambda tensors: {**tensors, f"{LAYER}.k_proj.lora_A.weight": torch.ones(4, 64)},
        "(k_proj.lora_B.weight is missing|holds 1 tensors .*k_proj)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_WHOLE)
def test_an_adapter_that_is_not_the_described_one_is_used_by_nothing(
    what: str, tiny_model: Path, tmp_path: Path
) -> None:
    change, message = NOT_WHOLE[what]
    config = made(tmp_path, tiny_model)
    alter(tmp_path / "a", change)

    with pytest.raises(ArtifactError, match=message):
        merge(config.model_copy(update={"verify": False}))
    adapter, base = resolve_model(str(tmp_path / "a")), resolve_model(str(tmp_path / "b"))
    with pytest.raises(ArtifactError, match=r"lacks|holds|of size") as caught:
        load_adapter(adapter, base)
    assert "download the adapter again" in caught.value.fix


def test_another_rank_than_described_is_named(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model)
    path = tmp_path / "a/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 3}))

    with pytest.raises(ArtifactError, match="of size 4 × 64, where 3 × 64 is described"):
        merge(config)


@pytest.mark.filterwarnings("ignore::peft.utils.warning.PeftWarning")
def test_what_peft_cannot_merge_is_said(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model, lora_bias=True)

    with pytest.raises(ArtifactError, match="PEFT cannot merge it: Impossible to merge LoRA"):
        merge(config)

    assert not (tmp_path / "m").exists()


def test_a_pickle_is_read_by_nothing(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model)
    (tmp_path / "a/adapter_model.safetensors").unlink()
    (tmp_path / "a/adapter_model.bin").write_bytes(PICKLE.format(tmp_path / "ran").encode())

    for use in (lambda: merge(config), lambda: load_adapter(resolve_model(str(tmp_path / "a")))):
        with pytest.raises(ArtifactError, match=r"has no adapter_model.safetensors"):
            use()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is broken"),
        ("[]", "holds no mapping"),
        ("{}", "describes no adapter"),
        ('{"peft_type": "LORA"}', "names no base model"),
        ('{"peft_type": "LORA", "base_model_name_or_path": 7}', "names no base model"),
        (
            '{"peft_type": "LORA", "base_model_name_or_path": "."}',
            "is an adapter, and a whole model",
        ),
        ('{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}', "is a learned prompt"),
        ('{"peft_type": "LORA", "lora_alpha": NaN}', "it holds NaN"),
        ('{"peft_type": "LORA", "lora_alpha": 1e999}', "lora_alpha cannot be inf"),
        ('{"peft_type": "LORA", "lora_alpha": "x"}', "lora_alpha cannot be 'x'"),
        ('{"peft_type": "LORA", "lora_dropout": null}', "lora_dropout cannot be None"),
        ('{"peft_type": "LORA", "r": 4.0}', "r cannot be 4.0"),
        ('{"peft_type": "LORA", "r": true}', "r cannot be True"),
        ('{"peft_type": "LORA", "rank_pattern": {"q_proj": 0}}', "rank_pattern.q_proj cannot be 0"),
        ('{"peft_type": "LORA", "alpha_pattern": [1]}', r"alpha_pattern cannot be \[1\]"),
    ],
)
def test_a_broken_configuration_of_an_adapter_is_an_error(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ArtifactError, match=message):
        base_of(resolve_model(str(tmp_path)))


def test_where_the_base_lies_now_is_named_to_merge(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model)
    path = tmp_path / "a/adapter_config.json"
    there = {"base_model_name_or_path": "/home/alice/base"}
    path.write_text(json.dumps(json.loads(path.read_text()) | there))

    with pytest.raises(ArtifactError, match="no such file or folder: /home/alice/base") as caught:
        base_of(resolve_model(str(tmp_path / "a")))
    assert f"medllm merge --adapter {tmp_path / 'a'} --model BASE" in caught.value.fix
    assert merge(config)


def test_a_tokenizer_that_the_model_cannot_follow_is_refused_and_an_unused_token_is_none(
    tiny_model: Path, tmp_path: Path
) -> None:
    for name, rows in (("few", 64), ("one", None)):
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.add_tokens(["<image_soft_token>"])
        case = Case({"target_modules": ATTENTION}, base={"vocab_size": rows or len(tokenizer) - 1})
        write_base(case, tmp_path / name, tiny_model)
        tokenizer.save_pretrained(tmp_path / name)
        write_adapter(case, tmp_path / name, tmp_path / f"a-{name}")

    def merged(name: str) -> None:
        merge(MergeConfig(adapter=tmp_path / f"a-{name}", model=str(tmp_path / name),
                          output=tmp_path / f"m-{name}"))  # fmt: skip

    merged("one")
    with pytest.raises(ArtifactError, match="and the model has 64"):
        merged("few")


def test_an_adapter_that_learnt_nothing_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    config = made(tmp_path, tiny_model)
    path = tmp_path / "a/adapter_model.safetensors"
    save_file({name: torch.zeros_like(t) for name, t in load_file(path).items()}, path)

    with pytest.raises(ArtifactError, match="the adapter changes nothing"):
        merge(config)


def test_a_wrong_fold_is_noticed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medllm.merge.adapter import Delta

    config = made(tmp_path, tiny_model)
    right = Delta.add_to
    monkeypatch.setattr(Delta, "add_to", lambda self, rows, first: 1.001 * right(self, rows, first))

    with pytest.raises(ArtifactError, match="differs from base"):
        merge(config)


def test_where_memory_is_small_it_is_compared_in_16_bits_and_that_is_said(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("medllm.models.offload.COMFORTABLE", 0.0)

    manifest = merge(made(tmp_path, tiny_model))

    said = capfd.readouterr().err
    assert "memory is too small to compare in float32; comparing in bfloat16" in said
    assert manifest.results["compared_in"] == "bfloat16"
    assert manifest.results["dtype"] == "float32"
    assert manifest.results["max_difference"] > 1e-4, "the noise of computing"


def test_in_16_bits_a_large_mistake_is_noticed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medllm.merge.adapter import Delta

    config = made(tmp_path, tiny_model)
    monkeypatch.setattr("medllm.models.offload.COMFORTABLE", 0.0)
    right = Delta.add_to
    monkeypatch.setattr(Delta, "add_to", lambda self, rows, first: 2 * right(self, rows, first))

    with pytest.raises(ArtifactError, match=r"differs from base .*, compared in bfloat16"):
        merge(config)


def test_checking_can_be_left_out_and_it_is_said(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = made(tmp_path, tiny_model)

    manifest = merge(config.model_copy(update={"verify": False}))

    assert "not verified, as asked" in capfd.readouterr().err
    assert manifest.results["verified"] is False
    assert "max_difference" not in manifest.results
