"""Packed rows on a CUDA GPU: PyTorch's own kernel computes what each text gets alone."""

import pytest

LENGTHS = (37, 200, 1, 64)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 16])
def test_packed_texts_compute_and_teach_what_they_do_alone(window: int | None) -> None:
    """In bfloat16: of two layers rounding is below 5 % of what is compared."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA GPU")
    from medllm.finetune.train.base import VARLEN
    from medllm.finetune.train.varlen import register, why_not

    register(VARLEN)
    config = MistralConfig(vocab_size=99, hidden_size=256, intermediate_size=512,
                           num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                           sliding_window=window, head_dim=64)  # fmt: skip
    if reason := why_not(MistralForCausalLM, config, "bfloat16"):
        pytest.skip(reason)
    torch.manual_seed(0)
    model = MistralForCausalLM(config).to("cuda", torch.bfloat16)
    weight = model.model.embed_tokens.weight
    ids = torch.randint(1, 99, (1, sum(LENGTHS)), device="cuda")
    places = torch.cat([torch.arange(length) for length in LENGTHS])[None].cuda()
    bounds = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32, device="cuda")

    model.set_attn_implementation(VARLEN)
    packed = model(input_ids=ids, position_ids=places, use_cache=False, cu_seq_lens_q=bounds,
                   cu_seq_lens_k=bounds, max_length_q=200, max_length_k=200).logits[0]  # fmt: skip
    (gradient,) = torch.autograd.grad(packed.float().square().sum(), weight)
    model.set_attn_implementation("eager")
    alone = torch.cat([model(part, use_cache=False).logits[0] for part in ids.split(LENGTHS, 1)])
    (expected,) = torch.autograd.grad(alone.float().square().sum(), weight)

    for found, wanted in ((packed, alone), (gradient, expected)):
        assert (found.float() - wanted.float()).norm() < 0.05 * wanted.float().norm()
