"""Whether the trainers of others read what `medllm prepare` writes with `format: messages`.

Installs each from PyPI without its dependencies into a folder of its own, imports the modules that
read training files and nothing else, gives them a prepared folder, and compares what they would
train on with the answers in it. What a tool cannot show without its dependencies is said.

    python scripts/try_readers.py [mlx-lm axolotl llamafactory unsloth_zoo] [--packages DIR]
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

from datasets import Dataset, load_dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from medllm.data.example import read_examples
from medllm.models.tiny.base import tiny_base
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare

IGNORED = -100
NEEDS = {"axolotl": ("colorama", "addict")}
"""What the modules that are read import besides what medllm has."""
Trained = Iterator[str]
"""The text of each row that a tool trains on."""


def main() -> int:
    """Try the tools that are named, else all; 1 where one reads something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", nargs="*", default=list(READERS))
    parser.add_argument("--packages", type=Path, help="where they are installed, or will be")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = _prepare(Path(temporary))
        packages = arguments.packages or Path(temporary) / "packages"
        wrong = [name for name in arguments.tools if not _try(name, packages / name, folder)]
    return bool(wrong)


def _prepare(place: Path) -> Path:
    """A folder of questions, and of conversations of several turns."""
    rows = [
        {"id": n, "system": "Be brief.", "question": f"How much in bed {n}?", "answer": f"{n} mg."}
        for n in range(40)
    ]
    turns = [("user", "Bed {}?"), ("assistant", "Stable, {}."), ("user", "Why {}?"),
             ("assistant", "Because of {}.")]  # fmt: skip
    rows += [
        {"id": f"c{n}", "messages": [{"role": r, "content": c.format(n)} for r, c in turns]}
        for n in range(40)
    ]
    data = place / "ward.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepare(PrepareConfig(datasets=(str(data),), output=place / "prepared", format="messages"))
    return place / "prepared"


def _try(name: str, packages: Path, folder: Path) -> bool:
    """Whether a tool trains on the answers and nothing else; prints what was found."""
    _install(name, packages)
    sys.path.insert(0, str(packages))
    tokenizer = AutoTokenizer.from_pretrained(tiny_base())
    read, answers = READERS[name]
    trained = list(read(packages, folder, tokenizer))
    wanted = list(answers(folder))
    same = len(trained) == len(wanted) and all(map(_is_answer, trained, wanted))
    project = name.replace("-", "_")
    (made,) = packages.glob(f"{project}-*.dist-info")
    version = made.name.removeprefix(f"{project}-").removesuffix(".dist-info")
    print(f"{name} {version}: {len(trained)} rows, {'as written' if same else 'READ OTHERWISE'}")
    if not same:
        print("\n".join(f"  {t!r}\n  {w!r}" for t, w in zip(trained, wanted, strict=False))[:2000])
    return same


def _install(name: str, packages: Path) -> None:
    if not packages.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run(
            [*command, "--target", str(packages), name, *NEEDS.get(name, ())], check=True
        )


def _is_answer(trained: str, wanted: str) -> bool:
    """Whether a trained text is the answers; ends of turns and white space apart."""
    return trained.split() == wanted.split()


def _last_answers(folder: Path) -> Iterator[str]:
    return (example.completion for example in read_examples(folder / "train.jsonl"))


def _all_answers(folder: Path) -> Iterator[str]:
    for example in read_examples(folder / "train.jsonl"):
        said = [turn.content for turn in example.prompt if turn.role == "assistant"]
        yield " ".join([*said, example.completion])


def _rows(folder: Path) -> Dataset:
    return load_dataset("json", data_files=str(folder / "train.jsonl"), split="train")


def _text_of(tokenizer: PreTrainedTokenizerBase, ids: list[int], labels: list[int]) -> str:
    """What the labels train, a blank between stretches."""
    parts: list[list[int]] = [[]]
    for token, label in zip(ids, labels, strict=True):
        if label != IGNORED:
            parts[-1].append(token)
        elif parts[-1]:
            parts.append([])
    return " ".join(tokenizer.decode(part, skip_special_tokens=True) for part in parts)


def _bare(packages: Path, *names: str) -> None:
    """Packages whose `__init__`, which imports what is not installed, is not run."""
    for name in names:
        module = ModuleType(name)
        module.__path__ = [str(packages.joinpath(*name.split(".")))]
        sys.modules[name] = module


def read_mlx(packages: Path, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Trained:
    """Those of `mlx_lm.lora --mask-prompt`."""
    _bare(packages, "mlx_lm", "mlx_lm.tuner", "mlx_lm.cli_ui")
    vars(sys.modules["mlx_lm.cli_ui"])["rprint"] = print  # the real one imports Apple's library
    datasets = importlib.import_module("mlx_lm.tuner.datasets")
    (folder / "valid.jsonl").write_bytes((folder / "validation.jsonl").read_bytes())
    options = SimpleNamespace(mask_prompt=True)
    train, valid, _ = datasets.load_local_dataset(folder, tokenizer, options)
    assert len(valid), "no validation rows"
    for row in range(len(train)):
        ids, offset = train.process(train[row])
        yield tokenizer.decode(ids[offset:], skip_special_tokens=True)


def read_axolotl(packages: Path, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Trained:
    """Those of a dataset of `type: chat_template` with its defaults."""
    _bare(
        packages, "axolotl", "axolotl.prompt_strategies", "axolotl.utils", "axolotl.utils.schemas"
    )
    module = importlib.import_module("axolotl.prompt_strategies.chat_template")
    prompter = module.ChatTemplatePrompter(tokenizer, tokenizer.chat_template)
    strategy = module.ChatTemplateStrategy(
        prompter,
        tokenizer,
        train_on_inputs=False,
        sequence_len=2048,
        roles_to_train=["assistant"],
        train_on_eos="turn",
    )
    for row in _rows(folder):
        made = strategy.tokenize_prompt(row)
        yield _text_of(tokenizer, made["input_ids"], made["labels"])


def read_llamafactory(packages: Path, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Trained:
    """The responses of its `sharegpt` form; it masks all other turns while it tokenizes."""
    _bare(packages, "llamafactory", "llamafactory.data", "llamafactory.extras")
    converter = importlib.import_module("llamafactory.data.converter")
    parser = importlib.import_module("llamafactory.data.parser")
    (attributes,) = parser.get_dataset_list(["ward"], {"ward": DATASET_INFO})
    convert = converter.get_dataset_converter(attributes.formatting, attributes, None)
    for row in _rows(folder):
        made = convert(row)
        assert made["_system"] == ("Be brief." if row["messages"][0]["role"] == "system" else "")
        turns = [*made["_prompt"], *made["_response"]]
        yield " ".join(turn["content"] for turn in turns if turn["role"] == "assistant")


DATASET_INFO = {
    "file_name": "train.jsonl",
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user",
             "assistant_tag": "assistant", "system_tag": "system"},
}  # fmt: skip
"""The entry of LLaMA-Factory's `dataset_info.json` in docs/prepare.md."""


def read_unsloth(packages: Path, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Trained:
    """Those of `train_on_responses_only`, on rows that TRL's `SFTTrainer` tokenizes as here."""
    _bare(packages, "unsloth_zoo")
    module = importlib.import_module("unsloth_zoo.dataset_utils")
    mask = module.train_on_responses_only(
        None,
        instruction_part="<|user|>",
        response_part="<|assistant|>",
        tokenizer=tokenizer,
        return_function=True,
    )
    for row in _rows(folder):
        ids = tokenizer.apply_chat_template(row["messages"], return_dict=True)["input_ids"]
        labels = mask({"input_ids": [ids]})["labels"][0]
        yield _text_of(tokenizer, ids, [int(label) for label in labels])


READERS: dict[str, tuple[Callable[..., Trained], Callable[[Path], Iterator[str]]]] = {
    "mlx-lm": (read_mlx, _last_answers),
    "axolotl": (read_axolotl, _all_answers),
    "llamafactory": (read_llamafactory, _all_answers),
    "unsloth_zoo": (read_unsloth, _all_answers),
}
"""How each reads the folder, and which answers it trains on."""


if __name__ == "__main__":
    sys.exit(main())
