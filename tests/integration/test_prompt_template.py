"""Prompt templates and padding tokens, from the tokenizer to the merged model and its GGUF file."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GenerationConfig

from medllm.data.example import Example, Message, to_json, write_jsonl
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.engines.open import open_model
from medllm.errors import ArtifactError, SetupError
from medllm.finetune.config import FinetuneConfig, LoraSettings, TrainingSettings
from medllm.finetune.rows.tokenizer import Tokenizer
from medllm.finetune.verb import finetune
from medllm.merge.config import MergeConfig
from medllm.merge.verb import merge
from medllm.models.chat.answer_end import answer_end
from medllm.models.chat.prompt_template import reserve_padding, set_template
from medllm.models.chat.template import TokenizerTemplate, encode_rendered, render_example
from medllm.models.load import load_causal_lm, load_tokenizer, resolve_model, save_tokenizer

EXAMPLE = Example(
    id="t/1",
    dataset="t",
    group="1",
    prompt=(Message("system", "You read reports."), Message("user", "Is there an effusion?")),
    completion="No.",
)
RENDERED = {
    "alpaca": (
        "<s>You read reports.\n\n### Instruction:\nIs there an effusion?\n\n### Response:\n",
        "No.</s>",
    ),
    "plain": ("<s>You read reports.\nIs there an effusion?", " No.</s>"),
}


@pytest.mark.parametrize("name", RENDERED)
def test_a_template_renders_as_its_authors_do(name: str, tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert set_template(tokenizer, name) is None
    template = TokenizerTemplate(tokenizer)

    rendered = render_example(template, EXAMPLE)

    assert (rendered.prompt, rendered.completion) == RENDERED[name]
    prompt, completion = encode_rendered(template, rendered)
    assert prompt.count(tokenizer.bos_token_id) == 1
    assert completion[-1] == tokenizer.eos_token_id


def test_alpaca_without_a_system_message_begins_as_published(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    set_template(tokenizer, "alpaca")

    text = TokenizerTemplate(tokenizer).render([Message("user", "Why?")])

    assert text == (
        "<s>Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nWhy?\n\n### Response:\n"
    )


def test_gemma_needs_its_own_tokens(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    with pytest.raises(ArtifactError, match="no token <end_of_turn>"):
        set_template(tokenizer, "gemma")

    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]}
    )
    set_template(tokenizer, "gemma")

    rendered = render_example(TokenizerTemplate(tokenizer), EXAMPLE)
    assert answer_end(TokenizerTemplate(tokenizer)) == "<end_of_turn>"
    assert rendered.text == (
        "<s><start_of_turn>user\nYou read reports.\n\nIs there an effusion?<end_of_turn>\n"
        "<start_of_turn>model\nNo.<end_of_turn>\n"
    )


def test_a_padding_token_is_reserved_and_never_eos(
    tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert reserve_padding(tokenizer) is False, "it has one"

    tokenizer.pad_token = tokenizer.eos_token
    assert reserve_padding(tokenizer) is True
    assert tokenizer.pad_token == tokenizer.unk_token

    tokenizer.add_special_tokens({"additional_special_tokens": ["<|reserved_special_token_0|>"]})
    tokenizer.pad_token = None
    assert reserve_padding(tokenizer) is True
    assert tokenizer.pad_token == "<|reserved_special_token_0|>"
    assert "serves as one" in capfd.readouterr().err


MARKED = (
    "{{ bos_token }}{% for m in messages %}"
    "{%- if m.role == 'assistant' %}[{%- generation %} {{ m.content }}{{ eos_token }} "
    "{%- endgeneration -%} \n"
    "{% else %}<{{ m.role }}>{{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[{% endif %}"
)


def test_the_last_answer_alone_is_learnt_with_and_without_generation_markers(
    tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "marked")
    (tmp_path / "marked/chat_template.jinja").write_text(MARKED)
    marked = resolve_model(str(tmp_path / "marked"))
    save_tokenizer(marked, tmp_path / "saved")
    turns = (Message("user", "a?"), Message("assistant", "yes"), Message("user", "b?"))
    example = Example("t/1", "t", "1", turns, "no")

    (before, ids), (after, again) = (
        (TokenizerTemplate(tokenizer).tokenizer.chat_template,
         encode_rendered(TokenizerTemplate(tokenizer),
                         render_example(TokenizerTemplate(tokenizer), example)))
        for tokenizer in map(load_tokenizer, (marked.location, str(tmp_path / "saved")))
    )  # fmt: skip

    assert "generation %}" in before
    assert "generation %}" not in after.replace("add_generation_prompt", "")
    assert ids == again
    tokenizer = load_tokenizer(marked.location)
    assert tokenizer.decode(ids[0]).count("yes") == 1
    assert tokenizer.decode(ids[1], skip_special_tokens=True).strip() == "no"
    assert tokenizer.eos_token_id in ids[1]


def test_a_token_that_the_model_never_had_does_not_make_it_grow(
    tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    plain = AutoTokenizer.from_pretrained(tiny_model)
    plain.add_tokens(["<image_soft_token>"])
    plain.save_pretrained(tmp_path / "base")
    model = load_causal_lm(str(tiny_model))

    tokenizer = Tokenizer.open(FinetuneConfig(), resolve_model(str(tmp_path / "base")))
    tokenizer.fit(model)

    assert len(tokenizer.own) == model.get_input_embeddings().weight.shape[0] + 1


def test_that_a_model_has_no_chat_template_is_said_where_it_is_trained(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    settings = tmp_path / "base/tokenizer_config.json"
    kept = {k: v for k, v in json.loads(settings.read_text()).items() if k != "chat_template"}
    settings.write_text(json.dumps(kept))
    base = resolve_model(str(tmp_path / "base"))

    Tokenizer.open(FinetuneConfig(), base)
    assert "has no chat template: it is trained on plain text" in capfd.readouterr().err

    Tokenizer.open(FinetuneConfig(prompt_template="plain"), base)
    assert "no chat template" not in capfd.readouterr().err


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template")
    (home / "data").mkdir()
    rows = [
        Example(
            f"t/{n}",
            "t",
            str(n),
            (Message("user", f"Is {n} even?"),),
            "yes" if n % 2 == 0 else "no",
        )
        for n in range(16)
    ]
    write_jsonl(home / "data/train.jsonl", map(to_json, rows))
    finetune(
        FinetuneConfig(
            model=str(tiny_model),
            data=home / "data",
            output=home / "adapter",
            prompt_template="alpaca",
            lora=LoraSettings(r=4, use_rslora=True, use_dora=True, target_modules=("q_proj",)),
            training=TrainingSettings(max_steps=2, warmup_steps=0, learning_rate=1e-2),
        )
    )
    merge(MergeConfig(adapter=home / "adapter", model=str(tiny_model), output=home / "merged"))
    return home


def test_peft_finds_the_base_by_what_the_adapter_says(trained: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(trained / "adapter")

    assert model.peft_config["default"].use_dora


def test_what_is_made_of_it_renders_the_same_prompts(trained: Path) -> None:
    settings = json.loads((trained / "adapter/adapter_config.json").read_text())
    assert settings["use_dora"]
    assert settings["use_rslora"]
    texts = []
    for name in ("adapter", "merged"):
        engine = open_model(resolve_model(str(trained / name)))
        texts.append(engine.render([Message("user", "Is 7 even?")]))
    assert texts[0] == texts[1]
    assert "### Instruction:\nIs 7 even?" in texts[0]
    assert GenerationConfig.from_pretrained(trained / "merged").eos_token_id is not None


def test_its_gguf_renders_the_same_prompts_and_ends_alike(trained: Path, tmp_path: Path) -> None:
    try:
        require_llama_cpp()
        converter_script()
    except SetupError as problem:
        pytest.skip(f"{problem.message}: {problem.fix}")
    from medllm.quantize.gguf import files

    files.convert_to_f16(trained / "merged", tmp_path / "model.gguf")
    ours = open_model(resolve_model(str(trained / "merged")))
    theirs = open_model(resolve_model(str(tmp_path / "model.gguf")))

    for engine in (ours, theirs):
        rendered = render_example(engine, EXAMPLE)
        assert (rendered.prompt, rendered.completion) == RENDERED["alpaca"]
    rendered = render_example(ours, EXAMPLE)
    assert encode_rendered(ours, rendered) == encode_rendered(theirs, rendered)
