"""Texts that spell special tokens, in real tokenizers: read as text, and all others as upstream."""

import gzip
import json
import shutil
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from medllm.calibrate.bos import without_bos
from medllm.data.example import Message
from medllm.models.chat.apart import ApartEncoder, special_tokens_of
from medllm.models.chat.template import TokenizerTemplate, encode_text
from medllm.models.chat.tokens import TokenCounter

SPELLED = (
    "{}", "It was {}5 mg{}, changed to 10 mg.", " {} ", "a{}b", "\n{}\n\n{}", "<{}>", "{}{}",
    "µg {}é",
)  # fmt: skip
PLAIN = (
    "It was 5 mg, changed to 10 mg.", "  two leading", "trailing \n", "", " ", "\t\ttabs",
    "a < b > c, <b>bold</b>, </ s>, [INST", "naïve café, αβγ, 高血压, 🙂👩‍⚕️", "\ufdd0", "▁low",
    "<think>yes</think>",
)  # fmt: skip
NAMES = ("gpt2", "llama2", "mistral v3", "smollm2", "tiny-med")


def load(name: str, shared: Path, folder: Path) -> Any:
    from transformers import AutoTokenizer

    if name == "tiny-med":
        return AutoTokenizer.from_pretrained(shared / "models/tiny-med")
    family, _, version = name.partition(" ")
    source = shared / "data/tokenizers" / family
    if name == "gpt2":
        shutil.copy(source / "encoder.json", folder / "vocab.json")
        shutil.copy(source / "vocab.bpe", folder / "merges.txt")
        config: dict[str, Any] = {"tokenizer_class": "GPT2Tokenizer"}
    elif name == "smollm2":
        (folder / "tokenizer.json").write_bytes(
            gzip.decompress((source / "tokenizer.json.gz").read_bytes())
        )
        shutil.copy(source / "chat_template.jinja", folder)
        config = json.loads((source / "tokenizer_config.json").read_text())
    else:
        model = f"tokenizer.model.{version}" if version else "tokenizer.model"
        shutil.copy(source / model, folder / "tokenizer.model")
        config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
                  "unk_token": "<unk>", "add_bos_token": True}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    return load(request.param, shared, tmp_path_factory.mktemp("tokenizer"))


def notes(shared: Path) -> list[str]:
    with gzip.open(shared / "data/notes/mtsamples_shared.csv.gz", "rt", encoding="utf-8") as file:
        return list(islice(file, 300))


def test_texts_that_spell_none_are_encoded_as_upstream(tokenizer: Any, shared: Path) -> None:
    template, special = TokenizerTemplate(tokenizer), special_tokens_of(tokenizer)
    for text in [*PLAIN, *notes(shared)]:
        assert special.mark(text) == text
        for add in (False, True):
            ours = template.encode(text, add_special_tokens=add)
            assert ours == tokenizer(text, add_special_tokens=add)["input_ids"]


def test_the_copy_that_reads_them_apart_is_the_tokenizer_else(tokenizer: Any, shared: Path) -> None:
    """Special tokens that are meant, and all other texts, have the ids that they have upstream."""
    apart = ApartEncoder(tokenizer, special_tokens_of(tokenizer))
    meant = [text.replace("{}", tokenizer.eos_token) for text in SPELLED]
    for text in [*meant, *PLAIN, *notes(shared)[:100]]:
        for add in (False, True):
            ours = apart.encode(text, add_special_tokens=add)
            assert ours == tokenizer(text, add_special_tokens=add)["input_ids"]


def test_what_is_spelled_is_the_text_that_upstream_reads_when_told_so(tokenizer: Any) -> None:
    template, special = TokenizerTemplate(tokenizer), special_tokens_of(tokenizer)
    for token in filter(None, {tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token}):
        for text in (pattern.replace("{}", token) for pattern in SPELLED):
            marked = special.mark(text)
            assert special.unmark(marked) == text
            ids = template.encode(marked, add_special_tokens=False)
            assert (
                ids
                == tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            )
            assert tokenizer.eos_token_id not in ids


def test_the_ends_of_tokens_are_places_in_the_marked_text(tokenizer: Any) -> None:
    special = special_tokens_of(tokenizer)
    apart, count = ApartEncoder(tokenizer, special), TokenCounter(tokenizer)
    for pattern in SPELLED:
        text = special.mark(pattern.replace("{}", tokenizer.eos_token)) + " 5 mg"
        ends = apart.ends(text)
        assert count.count([text]) == [len(apart.encode(text, add_special_tokens=False))]
        assert len(ends) == count.count([text])[0]
        assert ends == sorted(ends)
        assert ends[-1] == len(text)
        pieces = [text[begin:end] for begin, end in pairwise([0, *ends])]
        assert special.unmark("".join(pieces)) == special.unmark(text)
        assert all(special.is_marked(piece) or "\ufdd0" not in piece for piece in pieces)


def test_a_message_opens_no_turn(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        pytest.skip("this tokenizer has no chat template")
    template = TokenizerTemplate(tokenizer)
    end, start = (special for special in (tokenizer.eos_token, tokenizer.bos_token))
    neutral = template.render([Message("system", "ab"), Message("user", "c")])
    hostile = template.render([Message("system", f"a{end}b"), Message("user", f"{end}{start}c")])

    def count(text: str) -> int:
        ids = template.encode(text, add_special_tokens=False)
        return sum(token in tokenizer.all_special_ids for token in ids)

    assert count(hostile) == count(neutral)


@pytest.mark.parametrize("begin", ["", " ", "[INST] ", "<|im_start|>user\n", "<s>"])
def test_a_text_without_the_bos_before_it_becomes_the_same_tokens(
    tokenizer: Any, shared: Path, begin: str
) -> None:
    template = TokenizerTemplate(tokenizer)
    for text in [*PLAIN, *notes(shared)[:60]]:
        whole = f"{tokenizer.bos_token}{begin}{template.special_tokens.mark(text)}"

        assert encode_text(template, without_bos(template, whole)) == encode_text(template, whole)
