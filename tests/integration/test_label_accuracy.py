"""Label accuracy: the share of validation rows whose label the model would write."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from medllm.data.example import Example, Message, read_examples, to_json, write_jsonl
from medllm.finetune.config import FinetuneConfig, TrainingSettings
from medllm.finetune.rows.labels import label_of
from medllm.finetune.rows.material import Material
from medllm.finetune.train.label_accuracy import watch_labels
from medllm.finetune.train.trainer import open_trainer
from medllm.finetune.verb import finetune, open_inputs
from medllm.models.chat.template import TokenizerTemplate, encode_rendered, render_example

LABELS = ("yes", "no", "maybe")


def write(folder: Path, *, explained: bool) -> Path:
    """Rows whose labels follow from the question for two thirds of them."""
    folder.mkdir()
    for name, numbers in (("train", range(96)), ("validation", range(96, 126))):
        rows = []
        for n in numbers:
            label = LABELS[n % 3] if n % 3 < 2 else LABELS[n * n % 7 % 3]
            asked = (Message("user", f"{'xyz'[n % 3] * 12} {n}?"),)
            answer = f"{label}. Case {n} is so." if explained else label
            target = label if explained else None
            rows.append(Example(f"t/{n}", "t", str(n), asked, answer, target=target))
        write_jsonl(folder / f"{name}.jsonl", map(to_json, rows))
    return folder


def config(model: Path, data: Path, output: Path, **own: object) -> FinetuneConfig:
    training = {"num_train_epochs": 4, "per_device_train_batch_size": 8, "max_length": 64,
                "learning_rate": 1e-2, "report_to": ()}  # fmt: skip
    settings = TrainingSettings.model_validate({**training, **own})
    return FinetuneConfig(
        model=str(model), data=data, output=output, dtype="float32", training=settings
    )


def written_labels(model: Path, adapter: Path, rows: Path) -> float:
    """The share of rows where greedy decoding writes the label and ends it."""
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, adapter)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    template = TokenizerTemplate(tokenizer)
    right = []
    for example in read_examples(rows):
        prompt, _ = encode_rendered(template, render_example(template, example))
        ids = torch.tensor([prompt])
        with torch.no_grad():
            written = loaded.generate(input_ids=ids, max_new_tokens=8, do_sample=False)[
                0, len(prompt) :
            ]
        text = tokenizer.decode(written, skip_special_tokens=False).strip()
        ends = ("</s>", "<", ".") if example.target else ("</s>", "<")
        right.append(any(text.startswith(label_of(example) + end) for end in ends))
    return sum(right) / len(right)


@pytest.mark.parametrize("explained", [False, True])
def test_it_is_the_share_that_greedy_decoding_gets_right(
    explained: bool, tiny_model: Path, tmp_path: Path
) -> None:
    data, out = write(tmp_path / "data", explained=explained), tmp_path / "out"

    manifest = finetune(config(tiny_model, data, out))

    found = manifest.results["validation_label_accuracy"]
    assert 0 < found < 1
    assert found == pytest.approx(written_labels(tiny_model, out, data / "validation.jsonl"))
    flat = config(tiny_model, data, tmp_path, packing=True)  # rows side by side, without padding
    assert measure(flat, out) == pytest.approx(found)
    assert "validation label accuracy" in (out / "report.html").read_text()


def test_answers_that_are_no_labels_have_none(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train", "validation"):
        asked = (Message("user", "Tell me."),)
        rows = [Example(f"t/{n}", "t", str(n), asked, f"That is {n}.") for n in range(16)]
        write_jsonl(folder / f"{name}.jsonl", map(to_json, rows))

    manifest = finetune(config(tiny_model, folder, tmp_path / "out", max_steps=1))

    assert manifest.results["validation_label_accuracy"] is None


def measure(config: FinetuneConfig, adapter: Path) -> float | None:
    """The label accuracy of an adapter, without training."""
    assert config.data
    assert config.output
    material = Material.read(open_inputs(config), config, "cpu")
    trainer = open_trainer(config, material, config.output, "cpu")
    set_peft_model_state_dict(trainer.model, load_file(adapter / "adapter_model.safetensors"))
    labels = watch_labels(trainer, config.data, material.template)
    assert trainer.args.packing
    assert labels
    return labels.measure()
