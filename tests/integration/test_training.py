"""Training that goes wrong, ends early or is ended."""

import json
import shutil
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from pydantic import ValidationError
from safetensors.torch import load_file
from trainings import SHORT, losses_of, write_examples
from trl import SFTTrainer

from medllm.artifacts.manifest import Manifest
from medllm.data.example import Message, read_examples, to_json, write_jsonl
from medllm.engines.open import open_model
from medllm.errors import ArtifactError, ConfigError, MedllmError, SetupError
from medllm.finetune.config import FinetuneConfig, LoraSettings, TrainingSettings
from medllm.finetune.rows.build import IGNORED, Splits, lengths_of
from medllm.finetune.rows.material import Material
from medllm.finetune.train import base as base_module
from medllm.finetune.train.adapter import why_refused
from medllm.finetune.train.base import check_attention, load_base
from medllm.finetune.train.trainer import open_trainer
from medllm.finetune.verb import finetune, open_inputs
from medllm.measures.likelihood import score_answers
from medllm.merge.config import MergeConfig
from medllm.merge.verb import merge
from medllm.models.hardware import count_parameters
from medllm.models.load import load_causal_lm, resolve_model
from medllm.recipe import Recipe, wire

FLEX = pytest.param(
    "flex_attention",
    marks=[
        pytest.mark.skipif(not shutil.which("g++"), reason="it is compiled, by a C++ compiler"),
        pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    ],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("data") / "prepared", 64, 16, SHORT)


def settings(**own: object) -> TrainingSettings:
    short = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "logging_steps": 1}
    return TrainingSettings.model_validate({**short, "max_length": 64, **own})


def config(model: Path, data: Path, output: Path, **own: object) -> FinetuneConfig:
    lora = LoraSettings(r=4, target_modules=("q_proj", "v_proj"))
    return FinetuneConfig(
        model=str(model), data=data, output=output, dtype="float32", lora=lora,
        training=settings(**own),
    )  # fmt: skip


def test_what_was_learnt_is_told(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    manifest = finetune(config(tiny_model, data, tmp_path / "out", learning_rate=1e-3))

    results = manifest.results
    course = json.loads((tmp_path / "out/course.json").read_text())
    assert [step for step, _ in course["training"]] == list(range(1, 17))
    assert [step for step, _ in course["validation"]] == [0, 4, 8, 12, 16]
    assert course["validation"][0][1] == results["validation_loss_before"]
    assert course["validation"][-1][1] == results["validation_loss"]
    assert results["validation_loss"] < results["validation_loss_before"]
    assert 0 < results["validation_token_accuracy"] <= 1
    assert results["tokens_per_second"] > 0
    assert results["total_flos"] > 0
    assert results["peak_memory_gib"] > 0.1
    assert {"plots", "report.html"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_training_runs_in_a_thread_of_a_notebook(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    made: list[Manifest] = []
    asked = config(tiny_model, data, tmp_path / "out", max_steps=1)
    thread = threading.Thread(target=lambda: made.append(finetune(asked)))
    thread.start()
    thread.join()

    assert [manifest.kind for manifest in made] == ["adapter"]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_a_training_that_diverges_is_stopped(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    wild = config(tiny_model, data, tmp_path / "out", learning_rate=10.0, warmup_steps=0)
    # nothing bounds what follows the last norm
    wild = wild.model_copy(update={"lora": LoraSettings(r=4, modules_to_save=("lm_head",))})

    with pytest.raises(ArtifactError, match="diverged|the loss is nan") as caught:
        finetune(wild)

    assert "lower training.learning_rate" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_trained_is_refused_before_the_model_loads(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    rows = (data / "train.jsonl").read_text().splitlines(keepends=True)
    for name, kept in (("empty", rows[:0]), ("one", rows[:1]), ("alone", rows)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text("".join(kept))
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_model, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    short = tmp_path / "short"
    shutil.copytree(tiny_model, short)
    few = json.loads((short / "config.json").read_text()) | {"max_position_embeddings": 4}
    (short / "config.json").write_text(json.dumps(few))
    (tmp_path / "file").touch()

    def said(model: Path, rows: Path, output: str = "out", **own: object) -> str:
        with pytest.raises(MedllmError) as caught:
            finetune(config(model, rows, tmp_path / output, **own))
        assert caught.value.fix
        return str(caught.value)

    assert "0 training examples" in said(tiny_model, tmp_path / "empty")
    assert "1 training examples" in said(tiny_model, tmp_path / "one")
    assert "no validation rows" in said(tiny_model, tmp_path / "alone", early_stopping_patience=2)
    assert "the model 4 positions" in said(short, data)
    assert "its weights are pickles (.bin), which are not read" in said(pickled, data)
    assert "no option 'learning_rte'" in said(tiny_model, data, extra={"learning_rte": 1})
    assert "cannot be written" in said(tiny_model, data, "file/out")
    with pytest.raises(ValidationError):
        LoraSettings(r=0)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_an_adapter_on_the_head_is_refused_with_the_remedy(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    one = config(tiny_model, data, tmp_path / "out")
    one = one.model_copy(update={"lora": LoraSettings(target_modules=("lm_head",))})

    with pytest.raises(ConfigError, match="lm_head would never be trained") as caught:
        finetune(one)
    assert "modules_to_save" in caught.value.fix


@pytest.mark.parametrize(
    "option", ["target_modules", "modules_to_save", "exclude_modules", "target_parameters"]
)
def test_a_layer_that_the_model_lacks_is_named_before_the_model_is_loaded(
    option: str, tiny_model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(base_module, "load_causal_lm")
    there = "q_proj.weight" if option == "target_parameters" else "q_proj"
    lora = LoraSettings(**{option: (there, "lmhead")})
    one = config(tiny_model, data, tmp_path / "out").model_copy(update={"lora": lora})

    with pytest.raises(ConfigError, match=f"lora.{option}: nothing in this model is called lmhead"):
        finetune(one)


def test_stopping_early_keeps_the_best_weights(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    manifest = finetune(
        config(tiny_model, data, tmp_path / "out", learning_rate=3e-2, num_train_epochs=8,
               eval_steps=2, early_stopping_patience=1, lr_scheduler_type="constant")
    )  # fmt: skip

    course = json.loads((tmp_path / "out/course.json").read_text())
    losses = [loss for _, loss in course["validation"]]
    assert manifest.results["steps"] < 64
    assert manifest.results["validation_loss"] == pytest.approx(min(losses[1:]), rel=1e-4)


def test_qlora_trains_on_rounded_weights_exactly_and_merges_onto_them(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    rounded = config(tiny_model, data, tmp_path / "out", learning_rate=1e-3)
    manifest = finetune(rounded.model_copy(update={"quantization": "nf4"}))

    merged = merge(
        MergeConfig(adapter=tmp_path / "out", model=str(tiny_model), output=tmp_path / "m",
                    onto="nf4")
    )  # fmt: skip

    assert manifest.results["validation_loss"] < manifest.results["validation_loss_before"]
    assert merged.results["verified"]
    # what training saw: the loss of the merged model is the one that training reports
    losses = answer_losses(tmp_path / "m", data / "validation.jsonl")
    assert losses == pytest.approx(manifest.results["validation_loss"], rel=0.01)
    # and of the adapter, not merged, on the base that it saw
    unmerged = answer_losses(tmp_path / "out", data / "validation.jsonl", "nf4")
    assert unmerged == pytest.approx(manifest.results["validation_loss"], rel=0.01)


def test_what_is_not_rounded_is_float32_on_a_cpu(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    halved = load_causal_lm(str(tiny_model), dtype="float16", device="cpu")
    halved.save_pretrained(tmp_path)

    model = load_base(FinetuneConfig(quantization="nf4"), resolve_model(str(tmp_path)), "cpu")

    assert {weight.dtype for weight in model.parameters()} == {torch.uint8, torch.float32}


def test_an_evaluation_does_not_change_the_gradients_of_qlora(tiny_model: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = load_base(FinetuneConfig(quantization="nf4"), resolve_model(str(tiny_model)), "cpu")
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.01)
    ids = torch.arange(3, 35)[None]

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    with torch.no_grad():
        model.eval()(input_ids=ids)
    after = gradients()

    assert len(before) == len(after) == 56
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_all_weights_are_trained_where_there_is_no_adapter(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    whole = config(tiny_model, data, tmp_path / "out", learning_rate=1e-3)
    manifest = finetune(whole.model_copy(update={"lora": None}))

    assert manifest.kind == "model"
    assert manifest.results["trainable_parameters"] == count_parameters(tiny_model)
    assert manifest.results["validation_loss"] < manifest.results["validation_loss_before"]
    before, after = (load_file(f / "model.safetensors") for f in (tiny_model, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert {after[n].dtype for n in after} == {before[n].dtype for n in before}
    assert not any(torch.equal(before[name], after[name]) for name in before)
    losses = answer_losses(tmp_path / "out", data / "validation.jsonl")
    assert losses == pytest.approx(manifest.results["validation_loss"], rel=0.01)


def test_a_recipe_without_an_adapter_goes_on_with_the_trained_model() -> None:
    document = {"model": "base", "finetune": {"lora": None}, "quantize": {}, "evaluate": {}}
    recipe = Recipe.model_validate_json(json.dumps(document))

    trained = str(recipe.root / "finetune")
    assert wire(recipe, "quantize").model == trained
    assert wire(recipe, "evaluate").models[:2] == ("base", trained)
    assert wire(recipe, "merge").adapter is None


def test_without_targets_the_layers_are_those_of_the_architecture(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    asked = config(tiny_model, data, tmp_path / "out")
    asked = asked.model_copy(update={"lora": LoraSettings(target_modules=None)})
    model, _ = opened(asked, tmp_path)

    trained = {name.split(".")[-4] for name, w in model.named_parameters() if w.requires_grad}
    assert trained == set(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING["llama"])


def test_an_architecture_without_targets_of_its_own_is_told() -> None:
    lora = LoraSettings(target_modules=None)
    unknown = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with pytest.raises(ValueError, match="target_modules") as caught:
        get_peft_model(unknown, LoraConfig(target_modules=lora.target_modules))

    assert "no defaults for this architecture" in str(why_refused(lora, str(caught.value)))


@pytest.mark.parametrize("attention", ["sdpa", "eager", FLEX])
def test_packed_examples_do_not_see_each_other(
    attention: str, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    packed = config(tiny_model, data, tmp_path / "out", packing=True, max_length=128)
    model, trainer = opened(packed, tmp_path)
    model.set_attn_implementation(attention)
    batch = next(iter(trainer.get_train_dataloader()))
    starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), None]

    with torch.no_grad():
        found = model(**batch, use_cache=False).logits[0]
        ids = batch["input_ids"]
        alone = [model(input_ids=ids[:, a:b]).logits[0] for a, b in pairwise(starts)]

    assert len(alone) > len(trainer.train_dataset[0]["seq_lengths"]) > 1
    assert (found - torch.cat(alone)).abs().max() < 1e-4
    learnt = batch["labels"][0] != IGNORED
    assert 0 < learnt.sum() < len(learnt)


def test_long_examples_are_left_out_where_asked(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    def splits(**own: object) -> Splits:
        asked = config(tiny_model, data, tmp_path / "out", **own)
        return Material.read(open_inputs(asked), asked, "cpu").splits

    lengths = lengths_of(splits(max_length=1024).train)
    limit = max(lengths) - 1
    kept = splits(max_length=limit, over_length="drop")

    assert lengths_of(kept.train) == [length for length in lengths if length <= limit]
    assert kept.counts.rejected == {"longer than max_length": len(lengths) - len(kept.train)}


def test_an_adapter_of_a_base_in_16_bits_stays_in_32(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    asked = config(tiny_model, data, tmp_path / "out").model_copy(update={"dtype": "bfloat16"})
    model, _ = opened(asked, tmp_path)

    found = {(weights.requires_grad, weights.dtype) for weights in model.parameters()}
    assert found == {(True, torch.float32), (False, torch.float32), (False, torch.bfloat16)}


@pytest.mark.parametrize("wanted", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention_that_is_not_installed_is_told(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_module, "find_spec", lambda _: None)

    with pytest.raises(SetupError, match=f"{wanted} is not installed"):
        check_attention(wanted, "cuda")


@pytest.mark.parametrize("attention", ["flex_attention", "flash_attention_2"])
def test_attention_without_a_backward_pass_here_is_refused(
    attention: str, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    asked = config(tiny_model, data, tmp_path / "out")
    asked = asked.model_copy(update={"attn_implementation": attention})

    with pytest.raises(ConfigError, match=f"{attention} trains on CUDA GPUs alone"):
        opened(asked, tmp_path)


def test_packed_and_separate_rows_have_the_same_loss(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    losses = {}
    for packing in (False, True):
        own = {"packing": packing, "max_length": 1024, "per_device_train_batch_size": 64}
        model, trainer = opened(config(tiny_model, data, tmp_path, **own), tmp_path)
        (batch,) = trainer.get_train_dataloader()
        with torch.no_grad():
            losses[packing] = float(model(**batch, use_cache=False).loss)

    assert losses[True] == pytest.approx(losses[False], rel=1e-5)


def opened(config: FinetuneConfig, folder: Path) -> "tuple[torch.nn.Module, SFTTrainer]":
    """The model and the trainer as finetune sets them up."""
    material = Material.read(open_inputs(config), config, "cpu")
    trainer = open_trainer(config, material, folder, "cpu")
    return trainer.model.eval(), trainer


def answer_losses(model: Path, rows: Path, quantization: str | None = None) -> float:
    """The mean loss of the tokens of answers, as evaluation scores them."""
    engine = open_model(replace(resolve_model(str(model)), quantization=quantization))
    results = score_answers(engine, list(read_examples(rows)), what="answers")
    return -sum(each.logprob for each in results) / sum(each.tokens for each in results)


def test_the_validation_loss_is_the_mean_over_trained_tokens(
    tiny_model: Path, tmp_path: Path
) -> None:
    data = write_examples(tmp_path / "data", 16, 7)  # answers of unlike length, the last batch odd
    base = open_model(resolve_model(str(tiny_model)))
    scored = score_answers(base, list(read_examples(data / "validation.jsonl")), what="answers")
    wanted = -sum(each.logprob for each in scored) / sum(each.tokens for each in scored)

    for name, own in {"8": {}, "1": {"gradient_accumulation_steps": 8}, "3": {}}.items():
        size = {"per_device_train_batch_size": int(name), "max_steps": 1, **own}
        manifest = finetune(config(tiny_model, data, tmp_path / name, **size))
        assert manifest.results["validation_loss_before"] == pytest.approx(wanted, rel=1e-5)
        assert dict(losses_of(tmp_path / name, "validation"))[0] == pytest.approx(wanted, rel=1e-5)


def test_validation_rows_that_are_cut_or_left_out_are_counted(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_examples(tmp_path / "data", 16, 6)
    whole = list(read_examples(data / "validation.jsonl"))
    whole[0] = replace(whole[0], completion="no " * 100)
    whole[1] = replace(whole[1], prompt=(Message("user", "Is it? " * 50),))
    write_jsonl(data / "validation.jsonl", map(to_json, whole))

    manifest = finetune(config(tiny_model, data, tmp_path / "out", max_steps=1))

    counted = manifest.results["validation_rows"]
    assert (counted["examples"], counted["truncated"], counted["too_long"]) == (5, 1, 1)
    said = capfd.readouterr().err
    assert "1 prompt of the validation file cut in the middle" in said
    assert "1 example of the validation file left out: answer longer than max_length" in said


def test_a_training_that_ends_in_no_number_is_not_kept(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """The last log is long before the last step."""
    wild = config(
        tiny_model, data, tmp_path / "out", learning_rate=100.0, warmup_steps=0, logging_steps=100,
        max_steps=3, extra={"weight_decay": 1e30},
    )  # fmt: skip

    with pytest.raises(ArtifactError, match=r"is (nan|inf)|no numbers") as caught:
        finetune(wild)

    assert "lower training.learning_rate" in caught.value.fix
    assert not (tmp_path / "out").exists()
