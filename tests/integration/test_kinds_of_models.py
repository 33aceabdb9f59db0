"""Kinds of models that a team may bring: each layer is trained, to the losses of plain TRL."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hub
from test_lean import gradients, opened
from torch import nn
from trainings import small, write_examples

from medllm.finetune.config import LoraSettings
from medllm.finetune.train import trainer as trainer_module
from medllm.models.load import load_causal_lm, read_config, resolve_model, save_tokenizer
from medllm.quantize.gguf.imatrix import _measure
from medllm.quantize.gguf.window import read_model_window

pytestmark = [
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    # PEFT looks for patterns among modules, not parameters
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern:RuntimeWarning"),
]

SIZE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 128}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {"num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16,
          "qk_nope_head_dim": 16, "v_head_dim": 16, "moe_intermediate_size": 48, "n_group": 1,
          "n_routed_experts": 4, "num_experts_per_tok": 2, "topk_group": 1}  # fmt: skip
KINDS: dict[str, tuple[type, type, dict[str, Any], set[str]]] = {
    # its class, its settings, and the linear layers that take no adapter
    "deepseek_v3": (hub.DeepseekV3ForCausalLM, hub.DeepseekV3Config,
                    {**SIZE, **LATENT, "first_k_dense_replace": 1}, set()),
    "falcon": (hub.FalconForCausalLM, hub.FalconConfig,
               {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}, set()),
    "gpt2": (hub.GPT2LMHeadModel, hub.GPT2Config,
             {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "attn_pdrop": 0,
              "embd_pdrop": 0, "resid_pdrop": 0}, set()),
    "gpt_oss": (hub.GptOssForCausalLM, hub.GptOssConfig,
                {**SIZE, **EXPERTS, "head_dim": 16, "sliding_window": 16}, set()),
    "granitemoe": (hub.GraniteMoeForCausalLM, hub.GraniteMoeConfig, {**SIZE, **EXPERTS}, set()),
    "mamba": (hub.MambaForCausalLM, hub.MambaConfig,
              {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 4},
              {"out_proj", "dt_proj"}),
    "phimoe": (hub.PhimoeForCausalLM, hub.PhimoeConfig,
               {**SIZE, **EXPERTS, "router_jitter_noise": 0.0, "input_jitter_noise": 0.0},
               {"router"}),
    "qwen3_next": (hub.Qwen3NextForCausalLM, hub.Qwen3NextConfig,
                   {**SIZE, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2,
                    "moe_intermediate_size": 48, "shared_expert_intermediate_size": 48,
                    "linear_num_key_heads": 2, "linear_num_value_heads": 4,
                    "linear_key_head_dim": 16, "linear_value_head_dim": 16,
                    "layer_types": ["linear_attention", "full_attention"]}, set()),
}  # fmt: skip


def built(name: str, tokens_of: Path, folder: Path) -> Path:
    """A model of a kind, with random weights."""
    kind, settings, sizes, _ = KINDS[name]
    size = read_config(tokens_of)["vocab_size"]
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    torch.manual_seed(0)
    kind(settings(vocab_size=size, **ends, **sizes)).save_pretrained(folder)
    save_tokenizer(resolve_model(str(tokens_of)), folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_every_linear_layer_learns_as_with_trl(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model = write_examples(tmp_path / "data"), built(name, tiny_model, tmp_path / "model")
    config = small(model, data, tmp_path / "out", per_device_train_batch_size=4)
    config = config.model_copy(update={"lora": LoraSettings(r=4)})
    ours = opened(config, tmp_path)
    monkeypatch.setattr(trainer_module, "make_lean", lambda *_, **__: None)
    theirs = opened(config, tmp_path)
    batch = next(b for b in theirs.get_train_dataloader() if not b["attention_mask"].all())

    losses = [trainer.compute_loss(trainer.model, dict(batch)) for trainer in (ours, theirs)]
    for loss in losses:
        loss.backward()

    found, expected = gradients(ours), gradients(theirs)
    trained = {key for key, weight in ours.model.named_parameters() if weight.requires_grad}
    ours_loss, their_loss = (float(loss.detach()) for loss in losses)
    assert ours_loss == pytest.approx(their_loss, rel=1e-5)
    assert found.keys() == expected.keys() == trained
    for key, gradient in expected.items():
        assert (found[key] - gradient).norm() < 1e-3 * gradient.norm() + 1e-6, key
    assert without_adapter(ours.model) == KINDS[name][3]


def without_adapter(model: Any) -> set[str]:
    """The last names of linear layers that nothing is trained of; the head has none anywhere."""
    lonely = set()
    for name, module in model.named_modules():
        own = any(each in name for each in ("lora_", "lm_head"))
        if isinstance(module, nn.Linear | hub.pytorch_utils.Conv1D) and not own:
            lonely.add(name.removesuffix(".base_layer"))
    parts = [name for name, module in model.named_modules() if "lora_A" in name]
    with_one = {name.partition(".lora_A")[0] for name in parts}
    bare = (name for name in lonely if not any(name.startswith(each) for each in with_one))
    return {name.rpartition(".")[2] for name in bare}


def test_an_adapter_on_the_weight_of_a_layer_learns_in_bfloat16(
    tiny_model: Path, tmp_path: Path
) -> None:
    asked = small(tiny_model, write_examples(tmp_path / "data"), tmp_path / "out")
    weights = LoraSettings(r=4, target_modules=("q_proj",), target_parameters=("up_proj.weight",))
    asked = asked.model_copy(update={"dtype": "bfloat16", "lora": weights})
    trainer = opened(asked, tmp_path)

    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    loss.backward()

    learnt = [key for key in gradients(trainer) if ".mlp.up_proj." in key]
    assert len(learnt) == 2 * read_config(tiny_model)["num_hidden_layers"]


def test_each_linear_layer_of_a_gpt2_has_importance(tiny_model: Path, tmp_path: Path) -> None:
    model = load_causal_lm(str(built("gpt2", tiny_model, tmp_path / "gpt2")), device="cpu")

    layers = _measure(model, np.full((2, 16), 7))

    parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert layers.keys() == {f"transformer.h.{n}.{part}" for n in range(2) for part in parts}


def test_a_model_without_attention_has_no_window(tiny_model: Path, tmp_path: Path) -> None:
    assert read_model_window(built("mamba", tiny_model, tmp_path / "mamba")) is None
