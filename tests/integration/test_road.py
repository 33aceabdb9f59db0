"""The whole road on the tiny model, walked once; then every folder on it is looked at."""

import json
import math
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from documented import read_result
from typed import Ended, Typed, run_alone

from medllm.artifacts.manifest import NAME, Manifest, identify
from medllm.artifacts.verify import verify_artifact
from medllm.data.example import Example, read_examples, read_jsonl
from medllm.data.split import SplitConfig, split_of
from medllm.errors import SetupError
from medllm.models.load import resolve_model

RECIPE = """
name: road
model: medllm/tiny
calibrate: {mix: quickstart, samples: 16, holdout_samples: 8, min_tokens: 48, max_tokens: 512}
prepare: {datasets: [synthetic_radiology], max_examples: 64}
finetune:
  lora: {r: 8, lora_alpha: 16}
  training:
    max_steps: 8
    learning_rate: 2e-3
    per_device_train_batch_size: 8
    max_length: 512
    logging_steps: 1
merge: {}
quantize:
  formats:
    - {format: gptq, bits: 4, group_size: 128}
    #GGUF - {format: gguf, type: Q4_K_M}
evaluate: {tasks: [radiology, answers], limit: 8, apply_chat_template: true}
generate: {input: prompts.jsonl, max_tokens: 8}
"""
PROMPTS = [{"id": "a", "prompt": "Findings: Clear lungs."}, {"id": "b"}, {"text": "Heart size?"}]
VERBS = ("calibrate", "prepare", "finetune", "merge", "quantize", "evaluate", "generate")
GPTQ, GGUF = "quantize/gptq-4bit", "quantize/gguf-q4_k_m"
FOLDERS = ("calibrate", "prepare", "finetune", "merge", GPTQ, GGUF, "evaluate", "generate")

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore::DeprecationWarning:triton"
)


def gguf_missing() -> str:
    """Why there is no GGUF here, or nothing."""
    from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp

    try:
        require_llama_cpp()
        converter_script()
    except SetupError as problem:
        return f"{problem.message}: {problem.fix}"
    return ""


@dataclass(frozen=True)
class Walk:
    """The folder of a walked recipe."""

    home: Path
    result: Ended

    def __getitem__(self, name: str) -> Path:
        folder = self.home / "runs/road" / name
        if name == GGUF and not folder.is_dir():
            pytest.skip(gguf_missing())
        return folder

    def manifest(self, name: str) -> Manifest:
        return Manifest.read(self[name])


@pytest.fixture(scope="session")
def walk(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """In a process of its own, as a user walks it: offline, without any raw data."""
    home = tmp_path_factory.mktemp("road")
    recipe = RECIPE if gguf_missing() else RECIPE.replace("#GGUF ", "")
    (home / "road.yaml").write_text(recipe)
    (home / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    no_data = {"MEDLLM_DATA_DIR": str(home / "no-data")}
    result = run_alone("run", "--config", "road.yaml", cwd=home, **no_data)
    assert result.returncode == 0, result.stderr
    return Walk(home, result)


@pytest.fixture
def at_home(walk: Walk, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Runs a command in the folder of the recipe, without any raw data."""
    monkeypatch.chdir(walk.home)
    monkeypatch.setenv("MEDLLM_DATA_DIR", str(walk.home / "no-data"))
    return typed


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest, walk: Walk) -> Path:
    return walk[request.param]


def examples(walk: Walk, split: str) -> list[Example]:
    return list(read_examples(walk["prepare"] / f"{split}.jsonl"))


# Every folder


def test_the_walk_says_what_it_makes(walk: Walk) -> None:
    titles = re.findall(r"^(\d)/7 (\w+): .+$", walk.result.stdout, re.MULTILINE)

    assert [(int(number), verb) for number, verb in titles] == list(enumerate(VERBS, 1))
    assert walk.result.stdout.count("  took ") == len(VERBS)
    assert "logits within" in walk.result.stdout
    assert "everything lies in runs/road" in walk.result.stdout
    assert "Warning" not in walk.result.stderr
    assert "Traceback" not in walk.result.stderr


def test_the_walk_is_told_as_one_document(walk: Walk, at_home: Typed) -> None:
    ended = at_home("run", "--config", "road.yaml", "--json")  # all is there already

    result = read_result(ended.stdout, "What a verb made")
    assert Path(result["root"]) == walk["prepare"].parent
    made = [each["identity"] for each in result["outputs"]]
    assert made == [Manifest.read(Path(each["path"])).identity for each in result["outputs"]]
    assert tuple(dict.fromkeys(each["verb"] for each in result["outputs"])) == VERBS


def test_the_walk_ends_with_what_came_of_it(walk: Walk) -> None:
    outcome = walk.result.stdout.partition("what came of it")[2]
    scores = walk.manifest("evaluate").results["scores"]

    for score in scores:
        if score["task"] == "radiology":
            line = next(line for line in outcome.splitlines() if f" {score['model']}" in line)
            assert f"{score['accuracy']:.1%}" in line
            assert f"{score['bytes'] / 1e6:.1f}" in line
    assert "tiny, the base" in outcome
    assert "merged, tuned" in outcome
    assert "medllm serve --config road.yaml" in outcome


def test_the_walk_keeps_how_long_each_verb_took(walk: Walk) -> None:
    kept = json.loads((walk.home / "runs/road/walk.json").read_text())

    assert tuple(kept["seconds"]) == VERBS
    assert all(seconds >= 0 for seconds in kept["seconds"].values())
    assert kept["seconds"]["finetune"] > 0


def test_each_folder_is_whole_and_proven(folder: Path) -> None:
    manifest = verify_artifact(folder).manifest

    assert manifest.identity == identify(
        manifest.kind, manifest.settings, manifest.parents, manifest.files
    )
    assert not list(folder.rglob("*.partial"))
    assert not list(folder.parent.glob("*.unfinished"))
    assert (folder / "run.log").is_file()


def test_verify_agrees_on_the_command_line(walk: Walk, at_home: Typed) -> None:
    ended = at_home("verify", walk["merge"])

    assert ended.returncode == 0
    assert f"merge: model {walk.manifest('merge').identity[:16]}" in ended.stdout


def test_identities_chain_from_parent_to_child(walk: Walk) -> None:
    identity = {name: walk.manifest(name).identity for name in VERBS if name != "quantize"}

    def parents(name: str) -> list[str]:
        return [parent.identity for parent in walk.manifest(name).parents]

    base = parents("finetune")[0]
    assert parents("finetune") == [base, identity["prepare"]]
    assert parents("merge") == [base, identity["finetune"]]
    assert parents(GPTQ) == [identity["merge"], identity["calibrate"]]
    assert base in parents("calibrate")  # its tokenizer
    assert {base, identity["merge"], walk.manifest(GPTQ).identity, identity["prepare"]} <= set(
        parents("evaluate")
    )


def test_a_gguf_has_the_merged_model_and_what_it_was_judged_by_as_parents(walk: Walk) -> None:
    parents = [parent.identity for parent in walk.manifest(GGUF).parents]
    assert parents == [walk.manifest(name).identity for name in ("merge", "calibrate")]


@pytest.mark.parametrize("name", [GPTQ, GGUF])
def test_each_quantized_model_has_its_proof(walk: Walk, name: str) -> None:
    results = walk.manifest(name).results
    assert 0 < results["kl_median"] < results["kl_p99"]
    assert 0.5 < results["top1_agreement"] <= 1
    assert results["perplexity_medical"] == pytest.approx(
        results["perplexity_medical_parent"], rel=0.2
    )
    assert "KL mean" in (walk[name] / "quality.html").read_text(encoding="utf-8")


def test_data_terms_follow(walk: Walk) -> None:
    for name in ("calibrate", "prepare", "finetune", "merge", GPTQ, "evaluate"):
        terms = walk.manifest(name).data_terms
        assert [(term.dataset, term.access) for term in terms] == [("synthetic_radiology", "open")]
    assert walk.manifest("generate").access == "private"  # the prompts are the user's own


def test_the_base_is_named_all_the_way_down(walk: Walk) -> None:
    for name in ("finetune", "merge", GPTQ, "evaluate"):
        base = walk.manifest(name).base_model
        assert base is not None
        assert base.id == "medllm/tiny"


@pytest.mark.parametrize("name", ["finetune", "merge", GPTQ, GGUF])
def test_each_model_has_a_card(walk: Walk, name: str) -> None:
    card = (walk[name] / "README.md").read_text()

    assert "**May I share it?** As far as the data go, yes, under the licences above" in card
    assert "| synthetic_radiology | Apache-2.0 | open |" in card
    assert "- Base model: `medllm/tiny`" in card
    assert "base_model:" not in card  # the hub has none of that name


def test_no_path_of_this_machine_is_in_a_card(walk: Walk) -> None:
    for name in ("finetune", "merge", GPTQ):
        assert str(walk.home) not in (walk[name] / "README.md").read_text()


def test_what_holds_text_is_the_owners_alone(folder: Path) -> None:
    rows = [*folder.rglob("*.jsonl"), folder / "run.log", folder / NAME]

    assert {stat.S_IMODE(path.stat().st_mode) for path in rows} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_log_holds_text_of_data_or_models(walk: Walk, folder: Path) -> None:
    log = (folder / "run.log").read_text()
    texts = [row.completion for split in ("train", "test") for row in examples(walk, split)]
    texts += [row["text"] for row in read_jsonl(walk["calibrate"] / "calibration.jsonl")]
    texts += [row["answer"] for row in read_jsonl(walk["generate"] / "generations.jsonl")]

    assert not [text for text in texts if len(text) > 12 and text in log]


# Calibrate and prepare


def test_calibration_rows_have_text_and_tokens_within_bounds(walk: Walk) -> None:
    rows = list(read_jsonl(walk["calibrate"] / "calibration.jsonl"))
    results = walk.manifest("calibrate").results

    assert len(rows) == len({row["id"] for row in rows}) == 16
    assert all(set(row) == {"id", "text", "source", "type", "tokens"} for row in rows)
    assert all(48 <= row["tokens"] <= 512 for row in rows)
    assert results["tokens"] == sum(row["tokens"] for row in rows)
    assert results["sources"] == {"synthetic_radiology": 16}


def test_calibration_counts_the_tokens_that_the_model_will_see(walk: Walk) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(walk["merge"])
    for row in read_jsonl(walk["calibrate"] / "calibration.jsonl"):
        assert len(tokenizer(row["text"], add_special_tokens=False)["input_ids"]) == row["tokens"]


def test_calibration_and_holdout_and_test_split_are_apart(walk: Walk) -> None:
    def ids(name: str) -> set[str]:
        return {row["id"] for row in read_jsonl(walk["calibrate"] / name)}

    calibration, holdout = ids("calibration.jsonl"), ids("holdout_medical.jsonl")
    test = {row.id for row in examples(walk, "test")}
    validation = {row.id for row in examples(walk, "validation")}

    assert len(holdout) == 8
    assert not calibration & (holdout | test | validation)
    assert not holdout & test


def test_the_split_is_that_of_the_groups(walk: Walk) -> None:
    splits = {split: examples(walk, split) for split in ("train", "validation", "test")}

    assert {split: len(rows) for split, rows in splits.items()} == {
        split: walk.manifest("prepare").results[split] for split in splits
    }
    for split, rows in splits.items():
        assert {split_of(row, SplitConfig()) for row in rows} == {split}
    groups = [{row.group for row in rows} for rows in splits.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_every_row_left_out_has_a_reason(walk: Walk) -> None:
    files = (walk["prepare"] / "rejected").glob("*.jsonl")
    rejected = [row for file in files for row in read_jsonl(file)]

    assert all(set(row) == {"id", "reason"} for row in rejected)
    assert walk.manifest("prepare").counts.rejected == {
        reason: sum(row["reason"] == reason for row in rejected)
        for reason in {row["reason"] for row in rejected}
    }


# Finetune


def test_only_the_answer_is_learnt_and_its_end_too(walk: Walk) -> None:
    from medllm.finetune.rows.build import IGNORED, Limit, RowCounts, build_rows
    from medllm.models.chat.template import TokenizerTemplate
    from medllm.models.load import load_tokenizer

    tokenizer, counts = load_tokenizer(str(walk["merge"])), RowCounts()
    path = walk["prepare"] / "train.jsonl"
    ends = set(json.loads((walk["merge"] / "generation_config.json").read_text())["eos_token_id"])

    rows = list(build_rows(path, TokenizerTemplate(tokenizer), Limit(512), counts))

    for example, row in zip(read_examples(path), rows, strict=True):
        ids, labels = row["input_ids"], row["labels"]
        start = labels.count(IGNORED)
        assert labels[:start] == [IGNORED] * start
        assert labels[start:] == ids[start:]
        assert tokenizer.decode(labels[start:], skip_special_tokens=True).strip() == (
            example.completion
        )
        assert example.prompt[-1].content[-40:] in tokenizer.decode(ids[:start])
        assert ends & set(labels[-2:])  # the end of the turn, perhaps with a line break behind it
    assert counts.trained_tokens == sum(len(r["labels"]) - r["labels"].count(-100) for r in rows)


def test_a_prompt_that_is_too_long_loses_its_middle(walk: Walk) -> None:
    from medllm.finetune.rows.build import Limit, RowCounts, build_rows
    from medllm.models.chat.template import TokenizerTemplate
    from medllm.models.load import load_tokenizer

    template, path = TokenizerTemplate(load_tokenizer(str(walk["merge"]))), walk["prepare"]
    counts = RowCounts()
    whole = list(build_rows(path / "train.jsonl", template, Limit(512), RowCounts()))
    cut = list(build_rows(path / "train.jsonl", template, Limit(64), counts))

    assert counts.truncated > 0
    assert counts.examples + counts.too_long == len(whole)
    assert max(len(row["input_ids"]) for row in cut) == 64
    assert {tuple(row["input_ids"][:3]) for row in cut} == {
        tuple(row["input_ids"][:3]) for row in whole
    }


def test_an_example_that_is_too_long_can_be_left_out(walk: Walk) -> None:
    from medllm.finetune.rows.build import Limit, RowCounts, build_rows
    from medllm.models.chat.template import TokenizerTemplate
    from medllm.models.load import load_tokenizer

    template, path = TokenizerTemplate(load_tokenizer(str(walk["merge"]))), walk["prepare"]
    counts = RowCounts()
    whole = list(build_rows(path / "train.jsonl", template, Limit(512), RowCounts()))
    half = sorted(len(row["input_ids"]) for row in whole)[len(whole) // 2]
    kept = list(build_rows(path / "train.jsonl", template, Limit(half, "drop"), counts))

    assert kept == [row for row in whole if len(row["input_ids"]) <= half]
    assert 0 < counts.examples == len(kept)
    assert counts.truncated == 0
    assert sum(counts.rejected.values()) == len(whole) - len(kept)
    assert counts.rejected["longer than max_length"] == counts.dropped > 0


def test_the_loss_went_down(walk: Walk) -> None:
    results = walk.manifest("finetune").results

    assert results["steps"] == 8
    assert results["validation_loss"] < results["validation_loss_before"] - 0.3
    assert results["rows"]["examples"] == walk.manifest("prepare").results["train"]


def test_tensorboard_logs_lie_beside_the_adapter(walk: Walk) -> None:
    assert list((walk["finetune"] / "logs").rglob("events.out.tfevents.*"))


def test_plain_peft_loads_the_adapter(walk: Walk) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(base_of(walk), dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, walk["finetune"]).eval()

    assert tuned.peft_config["default"].r == 8
    config = json.loads((walk["finetune"] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None, "only medllm can build the base"
    assert AutoTokenizer.from_pretrained(walk["finetune"]).chat_template


def base_of(walk: Walk) -> str:
    return resolve_model("medllm/tiny").location


# Merge and quantize


def logits_of(model: Any, tokenizer: Any, text: str) -> Any:
    import torch

    with torch.inference_mode():
        ids = tokenizer(text, return_tensors="pt")["input_ids"].to(model.device)
        return model(input_ids=ids).logits.float().cpu()


def test_the_merged_model_computes_what_base_and_adapter_do(walk: Walk) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = "Findings: The lungs are clear. There is a small left pleural effusion."
    tokenizer = AutoTokenizer.from_pretrained(walk["merge"])
    merged = AutoModelForCausalLM.from_pretrained(walk["merge"], dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(base_of(walk), dtype=torch.float32)
    plain = logits_of(base, tokenizer, text)
    tuned = PeftModel.from_pretrained(base, walk["finetune"]).eval()

    expected, found = logits_of(tuned, tokenizer, text), logits_of(merged.eval(), tokenizer, text)

    assert float((found - expected).abs().max()) < 1e-4
    assert float((found - plain).abs().mean()) > 1e-2
    results = walk.manifest("merge").results
    assert results["max_difference"] < 1e-4
    assert results["mean_difference_from_base"] > 1e-2
    assert results["top1_agreement"] > 0.99


@pytest.mark.parametrize("name", ["finetune", "merge", GPTQ])
def test_every_model_has_the_bases_tokenizer_byte_for_byte(walk: Walk, name: str) -> None:
    base = Path(base_of(walk))

    for file in base.glob("tokenizer*"):
        assert (walk[name] / file.name).read_bytes() == file.read_bytes()


CLEAR = "Findings: The lungs are clear."
PLAIN = f"""
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = tokenizer("{CLEAR}", return_tensors="pt")["input_ids"]
with torch.inference_mode():
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
    print("PROBABILITIES", json.dumps(model(input_ids=ids).logits[0].float().softmax(-1).tolist()))
"""


def test_plain_transformers_loads_the_gptq_model(walk: Walk) -> None:
    """In a process of its own, without medllm: gptqmodel prints, and leaves temporary folders."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    command = [sys.executable, "-c", PLAIN, str(walk[GPTQ])]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    quantized = torch.tensor(json.loads(out.rpartition("PROBABILITIES ")[2].splitlines()[0]))
    merged, tokenizer = (
        kind.from_pretrained(walk["merge"]) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )

    expected = logits_of(merged.eval(), tokenizer, CLEAR)[0].softmax(-1)

    distance = (quantized - expected).abs().sum(-1) / 2
    assert float(distance.mean()) < 0.25  # total variation, over the tokens
    config = json.loads((walk[GPTQ] / "config.json").read_text())["quantization_config"]
    assert (config["bits"], config["group_size"]) == (4, 128)


def test_a_quantized_model_is_smaller_and_says_what_calibrated_it(walk: Walk) -> None:
    manifest = walk.manifest(GPTQ)

    assert manifest.results["bytes"] < manifest.results["parent_bytes"]
    assert manifest.results["calibration"]["texts"] == "16 synthetic_radiology"
    assert manifest.counts.examples == 16
    assert "16 synthetic_radiology" in (walk[GPTQ] / "README.md").read_text()


def test_a_gguf_file_is_of_its_type(walk: Walk) -> None:
    from medllm.quantize.gguf.files import read_tensors

    tensors = read_tensors(walk[GGUF] / "model-Q4_K_M.gguf")

    assert sum(tensor.type == "q4_K" for tensor in tensors) >= 4
    assert {path.name for path in walk[GGUF].glob("*.gguf")} == {
        "imatrix.gguf",
        "model-Q4_K_M.gguf",
    }


# Evaluate and generate


def test_every_model_is_scored_on_every_task(walk: Walk) -> None:
    scores = walk.manifest("evaluate").results["scores"]
    models = [row["model"] for row in scores if row["task"] == "answers"]
    quantized = [name.partition("/")[2] for name in (GPTQ, GGUF) if walk_has(walk, name)]

    assert models == ["tiny", "merged", *quantized]
    assert all(row["items"] == 8 for row in scores)
    for row in scores:
        records = list(read_jsonl(walk["evaluate"] / row["model"] / f"{row['task']}.jsonl"))
        assert len({record["id"] for record in records}) == 8
        if row["kind"] == "answers":
            loss = -sum(r["logprob"] for r in records) / sum(r["tokens"] for r in records)
            assert row["perplexity"] == pytest.approx(math.exp(loss))
        else:
            hits = sum(record["answer"] == record["target"] for record in records)
            assert row["accuracy"] == hits / 8
            assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]


def walk_has(walk: Walk, name: str) -> bool:
    return (walk.home / "runs/road" / name).is_dir()


def test_scores_name_their_models_by_identity(walk: Walk) -> None:
    scores = walk.manifest("evaluate").results["scores"]

    found = {row["model"]: row["identity"] for row in scores}
    assert found["merged"] == walk.manifest("merge").identity
    assert found["gptq-4bit"] == walk.manifest(GPTQ).identity


def test_training_helped_and_quantizing_cost_little(walk: Walk) -> None:
    scores = walk.manifest("evaluate").results["scores"]
    loss = {row["model"]: row["loss"] for row in scores if row["kind"] == "answers"}

    assert loss["merged"] < loss["tiny"] - 0.1
    assert abs(loss["gptq-4bit"] - loss["merged"]) < 0.3
    assert abs(loss.get("gguf-q4_k_m", loss["merged"]) - loss["merged"]) < 0.3


def test_items_are_of_the_test_split(walk: Walk) -> None:
    test = {row.id for row in examples(walk, "test")}

    assert {row["id"] for row in read_jsonl(walk["evaluate"] / "tiny/answers.jsonl")} <= test


def test_each_prompt_has_an_answer_or_is_counted(walk: Walk) -> None:
    rows = list(read_jsonl(walk["generate"] / "generations.jsonl"))

    assert [row["id"] for row in rows] == ["a", "3"]
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    assert walk.manifest("generate").counts.rejected == {"no prompt": 1}


def test_one_prompt_is_answered_on_the_screen(walk: Walk, at_home: Typed) -> None:
    ended = at_home(
        "generate", "--model", walk["merge"], "--prompt", "Findings: Clear.", "--max-tokens", "5"
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()


def test_a_prompt_of_the_recipe_is_answered_too(walk: Walk, at_home: Typed) -> None:
    settings = ("model=medllm/tiny", "generate.prompt=Clear lungs.", "generate.max_tokens=3")

    ended = at_home("generate", *(part for text in settings for part in ("--set", text)))

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
    assert not (walk.home / "runs/default/generate").exists()


# A second walk


def snapshot(home: Path) -> Iterator[tuple[str, int, int]]:
    for path in sorted(home.rglob("*")):
        stat_ = path.stat()
        yield str(path), stat_.st_mtime_ns, stat_.st_size


def test_a_second_walk_returns_at_once_and_touches_nothing(walk: Walk, at_home: Typed) -> None:
    before = list(snapshot(walk.home))

    again = at_home("run", "--config", "road.yaml")

    assert again.returncode == 0, again.stderr
    assert list(snapshot(walk.home)) == before
    done = [line for line in again.stderr.splitlines() if line.endswith(" is up to date")]
    assert len(done) == len([name for name in FOLDERS if walk_has(walk, name)])
    took, unit = again.stdout.rpartition(" steps in ")[2].split()[:2]
    assert unit == "s" and float(took) < 20


def test_the_plan_says_that_all_is_finished(walk: Walk, at_home: Typed) -> None:
    plan = at_home("run", "--config", "road.yaml", "--dry-run")

    lines = plan.stdout.splitlines()
    states = [line for line in lines if line.startswith(tuple(f"# {verb}: " for verb in VERBS))]
    assert len(states) == len(VERBS)
    assert not [line for line in states if "to do" in line]


def test_another_setting_is_refused_without_overwrite(walk: Walk, at_home: Typed) -> None:
    ended = at_home("merge", "--config", "road.yaml", "--set", "merge.max_difference=1e-3")

    assert ended.returncode == 4
    assert "holds another model" in ended.stderr


def test_an_adapter_does_not_merge_into_another_base(walk: Walk, at_home: Typed) -> None:
    ended = at_home(
        "merge", "--adapter", walk["finetune"], "--model", walk["merge"], "--output", "wrong"
    )

    assert ended.returncode == 4
    assert "is not the base that" in ended.stderr
    assert "fix: use --model medllm/tiny" in ended.stderr
    assert not (walk.home / "wrong").exists()


def test_what_is_quantized_is_not_quantized_again(walk: Walk, at_home: Typed) -> None:
    ended = at_home(
        "quantize", "--model", walk[GPTQ], "--calibration", walk["calibrate"], "--output", "twice"
    )

    assert ended.returncode == 4
    assert "error: " in ended.stderr


@pytest.mark.parametrize("edited", ["", "[]", '{"seconds": 3}', "{}"])
def test_times_that_somebody_edited_stop_no_walk(edited: str, typed: Typed) -> None:
    Path("short.yaml").write_text(
        "name: short\nprepare: {datasets: [synthetic_radiology], max_examples: 40}\n"
    )
    times = Path("runs/short/walk.json")
    times.parent.mkdir(parents=True)
    times.write_text(edited)

    ended = typed("run", "--config", "short.yaml")

    assert ended.returncode == 0, ended.stderr
    assert "walk.json cannot be read: it is written anew" in ended.stderr
    assert json.loads(times.read_text())["seconds"].keys() == {"prepare"}
