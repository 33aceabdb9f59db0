"""Files that medllm prepares, in the hands of TRL and `datasets`, and in its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medllm.data.example import read_examples
from medllm.finetune.rows.build import IGNORED, Limit, RowCounts, build_rows
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.load import load_tokenizer
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare


def rows() -> Iterator[dict[str, Any]]:
    """Questions, one of them with odd values beside it, and conversations of two answers."""
    for n in range(24):
        more = {"system": "Be brief."} if n % 2 else {"ward": n if n % 3 else {"bed": [n]}}
        yield {"id": n, "question": f"How much in bed {n}?", "answer": f"Give {n} mg.", **more}
    turns = [("user", "Bed {}?"), ("assistant", "Stable, {}."), ("user", "Why {}?"),
             ("assistant", "Because of {}.")]  # fmt: skip
    for n in range(12):
        messages = [{"role": role, "content": text.format(n)} for role, text in turns]
        yield {"id": f"c{n}", "messages": messages}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows in both forms."""
    place = tmp_path_factory.mktemp("prepared")
    data = place / "ward.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    for form in ("jsonl", "messages"):
        prepare(
            PrepareConfig.model_validate(
                {"datasets": (str(data),), "output": place / form, "format": form}
            )
        )
    return {form: place / form for form in ("jsonl", "messages")}


@pytest.mark.parametrize("turns", ["all", "last"])
def test_finetune_reads_the_same_token_rows_from_either_form(
    prepared: dict[str, Path], tiny_model: Path, turns: Any
) -> None:
    template = TokenizerTemplate(load_tokenizer(str(tiny_model)))
    limit = Limit(64, turns=turns)
    found = {
        form: list(build_rows(folder / "train.jsonl", template, limit, RowCounts()))
        for form, folder in prepared.items()
    }

    assert found["messages"] == found["jsonl"]
    assert len(found["messages"]) > 20


@pytest.mark.filterwarnings("ignore")  # of other packages, about what TRL does
def test_plain_trl_trains_on_the_last_answer_of_messages(
    prepared: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    """As docs/prepare.md says it: prompt and completion are cut out of `messages`."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    train = prepared["messages"] / "train.jsonl"
    loaded = load_dataset(
        "json", data_files=str(train), split="train", cache_dir=str(tmp_path / "cache")
    )
    rows = loaded.map(
        lambda row: {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]},
        remove_columns=loaded.column_names,
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        SFTConfig(
            str(tmp_path / "trl"), max_steps=1, use_cpu=True, bf16=False, report_to="none",
            save_strategy="no", per_device_train_batch_size=2, disable_tqdm=True,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )  # fmt: skip
    done = trainer.train()

    assert done.global_step == 1
    examples = list(read_examples(train))
    assert len(trainer.train_dataset) == len(examples)
    template = TokenizerTemplate(tokenizer)
    ours = build_rows(train, template, Limit(1024, turns="last"), RowCounts())
    for trained, row, example in zip(trainer.train_dataset, ours, examples, strict=True):
        learned = [token for token in trained["labels"] if token != IGNORED]
        assert tokenizer.decode(learned) == f"{example.completion}<|end|>"
        assert trained["input_ids"] == row["input_ids"]
        assert trained["labels"] == row["labels"]


@pytest.mark.filterwarnings("ignore")
def test_plain_trl_learns_prompts_too_unless_it_is_told(
    prepared: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    """What docs/prepare.md warns of: `messages` alone, without a mask."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    train = str(prepared["messages"] / "train.jsonl")
    cache = str(tmp_path / "cache")
    options = SFTConfig(str(tmp_path / "trl"), use_cpu=True, bf16=False, report_to="none")
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        options,
        train_dataset=load_dataset("json", data_files=train, split="train", cache_dir=cache),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )

    assert all(IGNORED not in row["labels"] for row in trainer.train_dataset)


def test_datasets_takes_a_file_whose_choices_come_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the columns from the first 10 MB of a file and stops at others."""
    from datasets import load_dataset

    from medllm.data.example import Example, Message, to_messages, write_jsonl

    asked = (Message("user", "Which? " + "x" * 2000),)
    plain = (Example(f"t/{n}", "t", f"{n}", asked, f"{n}") for n in range(6000))
    late = Example("t/late", "t", "9", asked, "B", ("A", "B"), "B", metadata={"a": [{"b": None}]})
    write_jsonl(tmp_path / "train.jsonl", map(to_messages, (*plain, late)))

    loaded = load_dataset(
        "json", data_files=str(tmp_path / "train.jsonl"), split="train",
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip

    assert len(loaded) == 6001
    assert json.loads(loaded[-1]["choices"]) == ["A", "B"]
