"""The tiny model's tokenizer: SentencePiece BPE with byte fallback, as Llama's.

transformers reads `tokenizer.model` together with `tokenizer_config.json`; llama.cpp's converter
reads the same two files, so that both give the same ids.
"""

import io
import json
from collections.abc import Iterable
from pathlib import Path

VOCAB_SIZE = 2048
UNK, BOS, EOS, END = 0, 1, 2, 6  # padding is <unk>, as in Llama
TURNS = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", *TURNS)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str]) -> bytes:
    """The content of `tokenizer.model`, trained on the lines of `texts`."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=(line for text in texts for line in text.splitlines() if line),
        model_writer=written,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        character_coverage=0.9999,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        max_sentence_length=8000,
        user_defined_symbols=list(TURNS),
        unk_id=UNK,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=-1,
        num_threads=2,
        minloglevel=2,
    )
    return written.getvalue()


def write_tokenizer(folder: Path, model: bytes, max_length: int) -> None:
    """Write `tokenizer.model` and `tokenizer_config.json` into `folder`."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "chat_template": CHAT_TEMPLATE,
        "add_prefix_space": False,
        "added_tokens_decoder": {  # GGUF splits special tokens that are not declared here
            str(number): {"content": token, **flags, "special": True}
            for number, token in enumerate(SPECIAL_TOKENS)
        },
    }
    (folder / "tokenizer.model").write_bytes(model)
    text = json.dumps(config, indent=1) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
