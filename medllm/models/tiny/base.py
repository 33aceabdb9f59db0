"""The built-in tiny base model: trained here in about a minute, so that nothing is downloaded.

It writes prose that looks like imaging reports and knows nothing. It exists because random weights
make perplexity, divergence, merging and calibration meaningless. It has seen no chats, so that
fine-tuning has something to teach it.
"""

import hashlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.data.generators import grammar, radiology
from medllm.models.tiny import tokenizer as tiny_tokenizer
from medllm.models.tiny.tokenizer import BOS, END, EOS, UNK
from medllm.places import cache_dir

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

CORPUS = radiology.VOCABULARY.with_name("corpus.txt")

ARCHITECTURE: dict[str, Any] = {  # multiples of 256, so that every K-quant of llama.cpp applies
    "vocab_size": tiny_tokenizer.VOCAB_SIZE,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,  # near 1/sqrt(hidden_size); the usual 0.02 learns far slower here
}
REPORT_SEED = "tiny"  # not a number, so that no user's seed draws the same reports
REPORTS = 1100
CORPUS_REPEATS = 2
SEED = 0
STEPS = 320
BATCH_SIZE = 2  # small, because updates count for more than tokens in so short a training
WINDOW = 256
LEARNING_RATE = 2e-3
WARMUP_STEPS = 30
WEIGHT_DECAY = 0.05


def tiny_base() -> Path:
    """The folder of the tiny base model, in the cache; built on first use."""
    folder = tiny_place()
    if not folder.is_dir():
        _build(folder)
    return folder


def tiny_place() -> Path:
    """Where the tiny base model lies once it is built."""
    return cache_dir() / "tiny" / _key()


def _key() -> str:
    """What the model depends on, in short: these settings, the texts and what makes them."""
    sources = (__file__, tiny_tokenizer.__file__, radiology.__file__, grammar.__file__)
    paths = (*map(Path, sources), CORPUS, radiology.VOCABULARY)
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _build(folder: Path) -> None:
    """Train, then write beside `folder` and rename, so that it is whole or not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as room:
        # Plain reports: the texts that fine-tuning and evaluation use, but in no chat form.
        seeds = (Random(f"{REPORT_SEED}-{number}") for number in range(REPORTS))
        reports = [radiology.build_report(seed).text for seed in seeds]
        paragraphs = CORPUS.read_text(encoding="utf-8").strip().split("\n\n")
        tokenizer = tiny_tokenizer.train_tokenizer([*paragraphs, *reports])
        model = _train(_pack(tokenizer, paragraphs * CORPUS_REPEATS + reports))
        made = Path(room) / "model"
        with console.quiet():  # transformers draws a progress bar of its own
            model.save_pretrained(made)
        tiny_tokenizer.write_tokenizer(made, tokenizer, ARCHITECTURE["max_position_embeddings"])
        if not folder.is_dir():  # else another process was first, with the same model
            made.rename(folder)


def _pack(tokenizer: bytes, texts: list[str]) -> "Tensor":
    """All texts in a random order, each in <s> … </s>, cut into windows (n, WINDOW)."""
    import torch
    from sentencepiece import SentencePieceProcessor

    encoder = SentencePieceProcessor(model_proto=tokenizer)
    shuffled = Random(SEED).sample(texts, len(texts))
    ids = [token for text in shuffled for token in (BOS, *encoder.encode(text), EOS)]
    count = len(ids) // WINDOW
    return torch.tensor(ids[: count * WINDOW]).view(count, WINDOW)


def _train(windows: "Tensor") -> "LlamaForCausalLM":
    """A model trained on the windows, from random weights that depend on SEED only."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = _new_model()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _share_of_learning_rate)
        with console.progress("building the tiny model, once: training steps", STEPS) as advance:
            for batch in _batches(windows):
                loss = model(input_ids=batch, labels=batch, use_cache=False).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                advance(1)
    return model


def _new_model() -> "LlamaForCausalLM":
    import torch

    with console.quiet():  # torchao, which gptqmodel brings, complains at import
        from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    special = {"bos_token_id": BOS, "eos_token_id": [EOS, END], "pad_token_id": UNK}
    config = LlamaConfig(**ARCHITECTURE, **special, dtype=torch.float32)
    model: LlamaForCausalLM = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**special)
    return model


def _batches(windows: "Tensor") -> Iterator["Tensor"]:
    """STEPS batches; the windows come again once all of them were seen."""
    for step in range(STEPS):
        rows = [(step * BATCH_SIZE + row) % len(windows) for row in range(BATCH_SIZE)]
        yield windows[rows]


def _share_of_learning_rate(step: int) -> float:
    """A linear warm-up, then a cosine down to a twentieth."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(STEPS - WARMUP_STEPS, 1)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2
