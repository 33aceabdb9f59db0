"""A wrong word is answered with what was most likely meant."""

import shlex
from pathlib import Path

import pytest

from medllm.cli.main import run_command
from medllm.data.groups import squeeze
from medllm.data.near_misses import words_of_others
from medllm.quantize.config import QuantizeConfig
from medllm.recipe import ROAD

MEANT = {
    # formats
    "quantize --format Q4_K_M": "`--format gguf --type Q4_K_M`",
    "quantize --format q8_0": "`--format gguf --type Q8_0`",
    "quantize --format gguf-iq4_xs": "`--format gguf --type IQ4_XS`",
    "quantize --format int4": "`--format gptq --bits 4` or `--format gguf --type Q4_K_M` or",
    "quantize --format 4bit": "`--format bnb --type nf4`",
    "quantize --format nf4": "mean `--format bnb --type nf4`",
    "quantize --format bitsandbytes": "`--format bnb --type nf4`",
    "quantize --format int8": "`--format w8a8`",
    "quantize --format gptq-int4": "`--format gptq --bits 4`",
    "quantize --format gptq-8bit": "`--format gptq --bits 8`",
    "quantize --format AutoAWQ": "`--format awq`",
    "quantize --format fp8_e4m3": "`--format fp8`",
    "quantize --format gtpq": "did you mean 'gptq'?",
    # names
    "finetune --model pubmedqa": "`medllm prepare --dataset pubmedqa`",
    "evaluate --model radiology": "`medllm calibrate --mix radiology`",
    "calibrate --mix radiolgy": "did you mean 'radiology'?",
    "prepare --dataset pubmed_qa": "did you mean 'pubmedqa'?",
    "evaluate --tasks pubmedQA": "did you mean 'pubmedqa'?",
    "evaluate --tasks PubMedQA": "did you mean 'pubmedqa'?",
    "prepare --dataset PubMedQA": "did you mean 'pubmedqa'?",
    "evaluate --tasks ner": "did you mean 'ner_bc5cdr' or 'ner_ncbi_disease'?",
    "run --config quick-start": "did you mean 'quickstart'?",
    # commands
    "train --model x": "`medllm finetune`",
    "fine-tune": "did you mean 'finetune'?",
    "quantise": "`medllm quantize`",
    "eval": "`medllm evaluate`",
    "inference": "`medllm generate`",
    "datasets download medqa": "`medllm datasets fetch`",
    "help": "`medllm --help`",
    "evalaute": "did you mean 'evaluate'?",
    # arguments without an option
    "finetune lora.yaml": "`--config lora.yaml`",
    "finetune lora": "`--config lora`",
    "run quickstart": "`--config quickstart`",
    "prepare notes.csv": "`--dataset notes.csv`",
    "prepare pubmedqa": "`--dataset pubmedqa`",
    "calibrate radiology": "`--mix radiology`",
    "evaluate pubmedqa": "`--tasks pubmedqa`",
    "quantize ./model.gguf": "`--model ./model.gguf`",
    "serve org/model": "`--model org/model`",
    "finetune prepared": "`--data prepared`",
    "merge adapter": "`--adapter adapter`",
    # options of other tools
    "finetune --learning_rate 1e-4": "`--set finetune.training.learning_rate=1e-4`",
    "finetune --lr=1e-4": "`--set finetune.training.learning_rate=1e-4`",
    "finetune --epochs 3": "`--set finetune.training.num_train_epochs=3`",
    "finetune --lora_r 16": "`--set finetune.lora.r=16`",
    "finetune --output-dir out": "`--output out`",
    "finetune --output_dir 'my out'": "`--output 'my out'`",
    "finetune --model_name_or_path m": "`--model m`",
    "generate --max_new_tokens 5": "`--max-tokens 5`",
    "calibrate --nsamples 64": "`--samples 64`",
    "quantize --group_size 64": "the key `quantize.formats[].group_size`",
    "run --config quickstart --lr 1": "`--set finetune.training.learning_rate=1`",
    "prepare --datset x": "did you mean '--dataset'?",
}


@pytest.mark.parametrize("line", MEANT)
def test_what_was_meant_is_said(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    for name, file in {"prepared": "train.jsonl", "adapter": "adapter_config.json"}.items():
        Path(name).mkdir()
        (Path(name) / file).write_text("{}")

    assert run_command(shlex.split(line)) == 2

    out, err = capfd.readouterr()
    assert out == ""
    *_, error, fix = err.splitlines()
    assert error.startswith("error: ")
    assert fix.startswith("  fix: ")
    assert MEANT[line] in fix


WORDS = {
    "prepare --dataset pubmedqa --format CSV": "csv",
    "quantize --model medllm/tiny --format bnb --type NF4": "nf4",
    "quantize --set 'quantize.formats=[{format: GPTQ}]'": "gptq",
    "serve --model medllm/tiny --engine VLLM": "vllm",
    "datasets add ward notes.csv --access Open": "open",
    "datasets add ward notes.csv --language de-DE": "de",
}


@pytest.mark.parametrize("line", WORDS)
def test_a_fixed_word_in_another_case_is_told(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("notes.csv").write_text("question,answer\nSo?,Yes.\n")

    assert run_command(shlex.split(line)) == 2
    assert f"did you mean '{WORDS[line]}'?" in capfd.readouterr().err


@pytest.mark.parametrize("line", ["doctor foo", "xyzzy", "prepare --xyzzy 3", "verify a b"])
def test_nothing_is_guessed_where_nothing_is_near(
    line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(shlex.split(line)) == 2

    assert "did you mean" not in capfd.readouterr().err


def test_a_model_that_is_there_may_have_any_name(capfd: pytest.CaptureFixture[str]) -> None:
    Path("pubmedqa").mkdir()

    run_command(["serve", "--model", "pubmedqa", "--dry-run"])

    assert "is the name of no model" not in capfd.readouterr().err


def test_the_words_of_other_tools_are_squeezed_and_lead_somewhere() -> None:
    words = words_of_others()
    lists = [*words["commands"].values(), *words["options"].values()]

    assert {word for each in lists for word in each if squeeze(word) != word} == set()
    assert {*ROAD} <= words["commands"].keys()
    assert "formats" in QuantizeConfig.model_fields
