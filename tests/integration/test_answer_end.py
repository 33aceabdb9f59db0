"""What ends an answer is known from the chat template, and goes with whatever is made."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from trainings import SHORT, small, write_examples

from medllm.data.example import Example, Message
from medllm.engines.base import GenerateRequest, Sampling
from medllm.engines.llama_cpp import LlamaCppEngine
from medllm.engines.open import open_model
from medllm.finetune.verb import finetune
from medllm.merge.config import MergeConfig
from medllm.merge.verb import merge
from medllm.models.chat.answer_end import answer_end, end_ids, reserve_end, write_end
from medllm.models.chat.template import TokenizerTemplate, encode_rendered, render_example
from medllm.models.load import load_tokenizer, resolve_model
from medllm.models.tiny.tokenizer import CHAT_TEMPLATE, EOS
from medllm.quantize.config import GgufFormat, QuantizeConfig
from medllm.quantize.verb import quantize

EXAMPLE = Example("d/1", "d", "1", (Message("user", "Is it?"),), "yes")
PLAIN_END = CHAT_TEMPLATE.replace("<|end|>", "\\n### End\\n")


def copy_base(tiny_model: Path, folder: Path, template: str | None = None) -> Path:
    """A base whose settings name the end of text alone, as those of Qwen 2.5 do."""
    shutil.copytree(tiny_model, folder)
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(content | {"eos_token_id": EOS}))
    if template is not None:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    return folder


def quantize_to(kinds: Sequence[str], model: Path, output: Path) -> None:
    formats = tuple(GgufFormat(format="gguf", type=kind) for kind in kinds)
    quantize(QuantizeConfig(model=str(model), output=output, formats=formats))


def template_of(base: Path) -> Any:
    return TokenizerTemplate(load_tokenizer(str(base)))


@pytest.fixture(scope="module")
def road(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an adapter of it, and the merged model."""
    folder = tmp_path_factory.mktemp("road")
    base = copy_base(tiny_model, folder / "base")
    data = write_examples(folder / "data", 16, 4, SHORT)
    finetune(small(base, data, folder / "adapter", max_steps=2))
    merge(MergeConfig(adapter=folder / "adapter", output=folder / "merged"))
    return folder


def test_adapter_and_merged_model_end_where_the_template_does(road: Path) -> None:
    end = load_tokenizer(str(road / "base")).convert_tokens_to_ids("<|end|>")

    assert end_ids(road / "base") == [EOS]
    for made in ("adapter", "merged"):
        assert end_ids(road / made) == [EOS, end]
        card = (road / made / "README.md").read_text()
        assert "answer_end: <|end|>" in card
        loaded = open_model(resolve_model(str(road / made)))
        assert sorted(loaded.model.generation_config.eos_token_id) == [EOS, end]


def test_so_does_its_gguf_and_whoever_serves_it(road: Path, tmp_path: Path) -> None:
    quantize_to(["Q8_0"], road / "merged", tmp_path / "q")
    (made,) = (path.parent for path in (tmp_path / "q").rglob("Modelfile"))

    assert 'PARAMETER stop "<|end|>"' in (made / "Modelfile").read_text()
    assert end_ids(made) == end_ids(road / "merged")


def test_a_base_that_does_not_name_the_end_stops_there_and_it_is_said(
    road: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = open_model(resolve_model(str(road / "base")))

    assert "an answer ends with <|end|>" in capfd.readouterr().err
    end = engine.tokenizer.convert_tokens_to_ids("<|end|>")
    assert end in engine.model.generation_config.eos_token_id


def test_llama_cpp_is_told_of_an_end_that_it_does_not_know(
    tiny_model: Path, tmp_path: Path
) -> None:
    base = copy_base(tiny_model, tmp_path / "base", CHAT_TEMPLATE.replace("<|end|>", "<|system|>"))
    quantize_to(["F16", "Q8_0"], base, tmp_path / "q")
    for kind in ("F16", "Q8_0"):
        (file,) = (tmp_path / "q").rglob(f"model-{kind}.gguf")
        engine = LlamaCppEngine(file)
        (end,) = engine.encode("<|system|>", add_special_tokens=False)
        vocab = engine._model.vocab
        assert engine._llama.llama_vocab_is_eog(vocab, end)
        assert engine._ends == [end]
        asked = engine.encode(engine.render(EXAMPLE.prompt), add_special_tokens=False)
        *_, last = engine.generate(GenerateRequest(asked, Sampling(max_tokens=2)))
        assert last.finish_reason in {"stop", "length"}
        engine.close()


@pytest.mark.parametrize(
    ("template", "end", "completion"),
    [
        (CHAT_TEMPLATE, "<|end|>", "yes<|end|>"),
        (CHAT_TEMPLATE.replace("<|end|>", "<|end|>\\n"), "<|end|>", "yes<|end|>\n"),
        (CHAT_TEMPLATE.replace("<|end|>", " </s>"), "</s>", "yes </s>"),
        (CHAT_TEMPLATE.replace("<|end|>", "\\n"), "</s>", "yes</s>"),
        (CHAT_TEMPLATE.replace("<|end|>", ""), "</s>", "yes</s>"),
        (PLAIN_END, "</s>", "yes</s>"),
        (CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim"), "<|end|>",
         "yes<|end|>"),
        ("", "</s>", " yes</s>"),
    ],
)  # fmt: skip
def test_every_answer_has_an_end_at_which_engines_stop(
    template: str, end: str, completion: str, tiny_model: Path, tmp_path: Path
) -> None:
    base = copy_base(tiny_model, tmp_path / "base", template)
    found = template_of(base)

    rendered = render_example(found, EXAMPLE)
    assert rendered.completion == completion
    assert answer_end(found) == end
    token = found.tokenizer.convert_tokens_to_ids(end)
    assert token in encode_rendered(found, rendered)[1]
    write_end(found.tokenizer, base, base)
    assert token in end_ids(base)


def test_an_answer_from_which_a_template_strips_space_has_its_end(
    tiny_model: Path, tmp_path: Path
) -> None:
    stripping = CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
    base = copy_base(tiny_model, tmp_path / "base", stripping.replace("<|end|>", ""))
    answer = Example("d/1", "d", "1", EXAMPLE.prompt, " yes \n")

    assert render_example(template_of(base), answer).completion == "yes</s>"


def test_a_tokenizer_without_an_end_is_given_one_and_it_is_said(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base = copy_base(tiny_model, tmp_path / "base")
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"eos_token": None}))
    tokenizer = load_tokenizer(str(base))
    assert tokenizer.eos_token is None

    assert reserve_end(tokenizer, base)

    assert tokenizer.eos_token == "</s>"
    assert "no end-of-text token; </s> serves as one" in capfd.readouterr().err
    assert not reserve_end(tokenizer, base)


def test_an_end_in_plain_text_is_said(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base = copy_base(tiny_model, tmp_path / "base", PLAIN_END)
    data = write_examples(tmp_path / "data", 16, 4, SHORT)

    finetune(small(base, data, tmp_path / "adapter", max_steps=1))

    said = capfd.readouterr().err
    assert "ends an answer with text, and no special token" in said
    assert "trained to end with </s>" in said
