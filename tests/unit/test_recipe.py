"""Recipes: what ships parses, and each section finds what an earlier one made."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import NAME, Manifest
from medllm.clinical.rules.knowledge import Knowledge, shipped_knowledge
from medllm.config.loader import read_yaml, validate
from medllm.data.mix import find_mix
from medllm.data.readers.reviewed import load_knowledge
from medllm.errors import ArtifactError, ConfigError, SetupError
from medllm.measures.gates import GateFile, find_gate
from medllm.plan import build_plan, render_plan, show_plan
from medllm.quantize.config import GgufFormat, GptqFormat
from medllm.recipe import (
    DEPLOY,
    ROAD,
    SHIPPED,
    Recipe,
    find_recipe,
    list_recipes,
    load_recipe,
    outputs_of,
    wire,
)
from medllm.run import lacks, run_recipe, run_verb
from medllm.tasks.spec import TaskSpec, find_task

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in SHIPPED.glob("*/*.yaml") if path.parent != DEPLOY)
FENCED = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)

WHOLE = """
name: whole
model: org/base
seed: 3
data_use: [mimic-iv-note]
split: {test: 0.2}
calibrate: {mix: quickstart, seed: 9}
prepare: {datasets: [synthetic_radiology]}
finetune: {}
merge: {}
quantize:
  formats: [{format: gptq, bits: 8}, {format: gguf, type: Q8_0}, {format: gguf, type: Q4_K_M}]
evaluate: {}
generate: {input: prompts.jsonl}
serve: {}
"""


def gate_of(text: str) -> GateFile:
    Path("gate.yaml").write_text(text)
    return find_gate("gate.yaml")


def rules_of(snippet: str) -> Knowledge:
    """What a hospital's own clinical rules add to those that ship."""
    folder = Path("rules")
    folder.mkdir()
    (folder / "ward.yaml").write_text(snippet, encoding="utf-8")
    joined = load_knowledge(folder)
    assert joined.tables != shipped_knowledge().tables
    return joined


def task_of(text: str) -> TaskSpec:
    Path("task.yaml").write_text(text, encoding="utf-8")
    return validate(TaskSpec, read_yaml(Path("task.yaml")))


def recipe_of(text: str, *assignments: str) -> Recipe:
    Path("recipe.yaml").write_text(text, encoding="utf-8")
    return load_recipe("recipe.yaml", assignments)


@pytest.fixture
def whole() -> Recipe:
    return recipe_of(WHOLE)


@pytest.fixture
def runs() -> Path:
    return Path.cwd() / "runs" / "whole"


def finish(folder: Path) -> None:
    """Leave what a finished verb leaves, as far as wiring looks."""
    folder.mkdir(parents=True)
    (folder / NAME).write_text("{}")


# What ships


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_parses_and_shows_its_plan(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLLM_MODEL", "org/model")

    recipe = load_recipe(str(path))
    plan = render_plan(recipe, build_plan(recipe, recipe.verbs))

    assert recipe.verbs
    assert recipe.description
    headings = [line.split(":")[0] for line in plan.splitlines() if line.startswith("# ")]
    model = [f"# {recipe.model}"] if recipe.model else []
    assert headings == model + [f"# {verb}" for verb in recipe.verbs]
    assert set(yaml.safe_load(plan)) == set(recipe.verbs)


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_every_yaml_snippet_of_the_documents_parses(
    document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLLM_MODEL", "org/model")
    path = ROOT / document

    snippets = FENCED.findall(path.read_text(encoding="utf-8")) if path.is_file() else []

    for snippet in snippets:
        read = task_of if snippet.startswith("description:") else recipe_of
        read = rules_of if snippet.startswith("sources:") else read
        assert (gate_of if "\nthresholds:" in snippet else read)(snippet)


def test_the_names_of_shipped_recipes_are_unlike() -> None:
    assert len(list_recipes()) == len(RECIPES)


def test_a_recipe_is_found_by_name_and_by_path() -> None:
    assert find_recipe("quickstart") == find_recipe("quickstart.yaml")
    Path("mine.yaml").write_text("name: mine")
    assert find_recipe("mine.yaml") == Path("mine.yaml")


def test_a_file_here_goes_before_a_shipped_name() -> None:
    Path("quickstart.yaml").write_text("name: mine")

    assert load_recipe("quickstart.yaml").name == "mine"


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("quikstart", "did you mean 'quickstart'? `medllm recipes list` shows"),
        ("zzz", "`medllm recipes list` shows"),
        ("nowhere/quickstart.yaml", "did you mean 'quickstart'? "),
    ],
)
def test_an_unknown_recipe_gets_a_hint(name: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_recipe(name)

    assert caught.value.message == f"no such recipe: {name}"
    assert caught.value.fix.startswith(fix)


# Wiring


def test_verbs_come_in_walking_order(whole: Recipe) -> None:
    assert whole.verbs == ROAD
    assert recipe_of("merge: {}\ncalibrate: {}").verbs == ("calibrate", "merge")


def test_each_section_takes_what_the_one_before_makes(whole: Recipe, runs: Path) -> None:
    finetune, merge, quantize = (wire(whole, verb) for verb in ("finetune", "merge", "quantize"))

    assert finetune.data == runs / "prepare"
    assert finetune.model == "org/base"
    assert merge.adapter == runs / "finetune"
    assert merge.model is None  # the one that the adapter names
    assert quantize.model == str(runs / "merge")
    assert quantize.calibration == runs / "calibrate"
    assert wire(whole, "calibrate").tokenizer == "org/base"


def test_the_nearest_section_wins(whole: Recipe, runs: Path) -> None:
    without = recipe_of(WHOLE.replace("quantize:", "x_quantize:").split("x_quantize")[0])

    assert wire(whole, "serve").model == str(runs / "quantize/gguf-q8_0")
    assert wire(whole, "generate").model == str(runs / "quantize/gguf-q8_0")
    assert wire(without, "serve").model == str(runs / "merge")


TRAINED = "name: whole\nmodel: org/base\nfinetune: {}\n"


def test_without_a_merge_the_adapter_answers(runs: Path) -> None:
    recipe = recipe_of(TRAINED + "evaluate: {}\ngenerate: {input: p.jsonl}\nserve: {}")
    adapter = str(runs / "finetune")

    assert wire(recipe, "serve").model == adapter
    assert wire(recipe, "generate").model == adapter
    assert wire(recipe, "evaluate").models == ("org/base", adapter)


def test_an_adapter_that_an_earlier_command_left_answers_too(runs: Path) -> None:
    finish(runs / "finetune")
    (runs / "finetune/adapter_config.json").write_text("{}")
    recipe = recipe_of("name: whole\nmodel: org/base")

    assert wire(recipe, "serve").model == str(runs / "finetune")
    assert wire(recipe, "evaluate").models == ("org/base", str(runs / "finetune"))


@pytest.mark.parametrize("walk", [run_recipe, show_plan])
def test_quantizing_the_untrained_base_of_an_adapter_is_refused(walk: Any) -> None:
    recipe = recipe_of(TRAINED + "quantize: {formats: [{format: bnb}]}")

    with pytest.raises(ConfigError, match="the adapter of runs/whole/finetune would be") as caught:
        walk(recipe)

    assert "`merge: {}`" in caught.value.fix
    assert "quantize.model" in caught.value.fix
    assert not Path("runs").exists()


def test_an_adapter_left_by_an_earlier_command_is_not_passed_over_either(runs: Path) -> None:
    finish(runs / "finetune")
    (runs / "finetune/adapter_config.json").write_text("{}")
    recipe = recipe_of("name: whole\nmodel: org/base\nquantize: {}")

    with pytest.raises(ConfigError, match="would be ignored"):
        wire(recipe, "quantize")

    finish(runs / "merge")
    assert wire(recipe, "quantize").model == str(runs / "merge")


def test_a_model_that_quantize_names_is_no_passing_over() -> None:
    recipe = recipe_of(TRAINED + "quantize: {model: org/base}")

    assert wire(recipe, "quantize").model == "org/base"


def test_merging_where_all_weights_are_trained_is_refused_ahead() -> None:
    recipe = recipe_of("model: org/base\nfinetune: {lora: null}\nmerge: {}")

    with pytest.raises(ConfigError, match="there is no adapter to merge"):
        wire(recipe, "merge")


def test_a_section_goes_before_what_an_earlier_command_left(runs: Path) -> None:
    finish(runs / "quantize/gptq-4bit")
    recipe = recipe_of(TRAINED + "merge: {}\nserve: {}")

    assert wire(recipe, "serve").model == str(runs / "merge")


@pytest.mark.parametrize(
    ("formats", "served"),
    [
        ("{format: gguf, type: Q8_0}, {format: gguf, type: Q4_K_M}", "gguf-q8_0"),
        ("{format: gguf, type: Q4_K_M}, {format: gguf, type: Q8_0}", "gguf-q8_0"),
        ("{format: gguf, type: IQ4_XS}, {format: gguf, type: Q5_K_S}", "gguf-q5_k_s"),
        ("{format: gguf, type: Q2_K}, {format: gptq, bits: 4}", "gptq-4bit"),
        ("{format: gptq, bits: 4}, {format: gguf, type: Q4_K_M}", "gguf-q4_k_m"),
        ("{format: bnb}, {format: fp8}, {format: bnb, type: int8}", "fp8-dynamic"),
    ],
)
def test_of_several_quantized_models_the_best_is_served(
    formats: str, served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(f"quantize: {{formats: [{formats}]}}\nserve: {{}}\nmodel: org/base")

    assert Path(wire(recipe, "serve").model).name == served
    show_plan(recipe, only="serve")
    assert f"with the most bits per weight in its layers: {served}" in capsys.readouterr().err


def test_another_quantized_model_is_served_by_its_name(whole: Recipe, runs: Path) -> None:
    named = recipe_of(WHOLE, "serve.model=gguf-q4_k_m", "generate.model=gptq-8bit")

    assert wire(named, "serve").model == str(runs / "quantize/gguf-q4_k_m")
    assert wire(named, "generate").model == str(runs / "quantize/gptq-8bit")


def test_a_folder_that_an_earlier_run_finished_counts_as_a_section(runs: Path) -> None:
    recipe = recipe_of("name: whole\nmodel: org/base\nfinetune: {}")
    assert wire(recipe, "finetune").data is None

    finish(runs / "prepare")

    assert wire(recipe, "finetune").data == runs / "prepare"


def test_without_an_earlier_section_the_base_is_used() -> None:
    recipe = recipe_of("model: org/base\nquantize: {}\nserve: {}")

    assert wire(recipe, "quantize").model == "org/base"
    assert wire(recipe, "quantize").calibration is None
    assert wire(recipe_of("model: org/base\nserve: {}"), "serve").model == "org/base"


def test_what_a_section_names_itself_is_kept(whole: Recipe) -> None:
    named = recipe_of(WHOLE, "finetune.data=elsewhere", "quantize.model=org/other")

    assert wire(named, "finetune").data == Path.cwd() / "elsewhere"
    assert wire(named, "quantize").model == "org/other"


def test_an_output_of_its_own_is_followed(whole: Recipe) -> None:
    moved = recipe_of(WHOLE, "prepare.output=data/prepared", "output_dir=results")

    assert wire(moved, "prepare").output == Path.cwd() / "data/prepared"
    assert wire(moved, "finetune").data == Path.cwd() / "data/prepared"
    assert wire(moved, "finetune").output == Path.cwd() / "results/finetune"


def test_shared_keys_reach_every_section_that_has_none_of_its_own(whole: Recipe) -> None:
    assert wire(whole, "prepare").seed == 3
    assert wire(whole, "calibrate").seed == 9
    assert wire(whole, "prepare").data_use == ("mimic-iv-note",)
    assert {wire(whole, verb).split.test for verb in ("calibrate", "prepare", "evaluate")} == {0.2}


def test_a_folder_of_tasks_serves_both_verbs_that_read_them(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("task_dir: mine\nprepare: {}\nevaluate: {task_dir: others}\n")

    recipe = load_recipe(path)

    assert wire(recipe, "prepare").task_dir == tmp_path / "mine"
    assert wire(recipe, "evaluate").task_dir == tmp_path / "others"


def test_a_folder_of_tasks_that_is_none_is_refused(tmp_path: Path) -> None:
    """With the shipped task of the name, a model would be asked what nobody wrote."""
    with pytest.raises(ConfigError, match="no such folder"):
        find_task("qa", "evaluate", tmp_path / "mine")
    with pytest.raises(ConfigError, match="no such folder"):
        find_mix("radiology", tmp_path / "mine")
    (tmp_path / "qa.yml").touch()
    with pytest.raises(ConfigError, match=r"qa\.yml: only \.yaml files are read"):
        find_task("qa", "evaluate", tmp_path)


def test_each_format_has_a_folder_of_its_own(whole: Recipe, runs: Path) -> None:
    assert outputs_of(whole, "quantize") == [
        runs / "quantize/gptq-8bit",
        runs / "quantize/gguf-q8_0",
        runs / "quantize/gguf-q4_k_m",
    ]
    assert [type(choice) for choice in wire(whole, "quantize").formats] == [
        GptqFormat, GgufFormat, GgufFormat,
    ]  # fmt: skip


def test_two_formats_of_one_folder_are_refused_at_once() -> None:
    text = "quantize: {formats: [{format: gptq, damp_percent: 0.1}, {format: gptq}]}"

    with pytest.raises(ConfigError, match="gptq-4bit"):
        recipe_of(text)


def test_evaluate_compares_base_merged_and_quantized(whole: Recipe, runs: Path) -> None:
    assert wire(whole, "evaluate").models == (
        "org/base",
        str(runs / "merge"),
        str(runs / "quantize/gptq-8bit"),
        str(runs / "quantize/gguf-q8_0"),
        str(runs / "quantize/gguf-q4_k_m"),
    )
    assert wire(whole, "evaluate").data == runs / "prepare"
    assert wire(recipe_of("model: org/base\nevaluate: {}"), "evaluate").models == ("org/base",)
    assert wire(recipe_of(WHOLE, "evaluate.models=[a/b]"), "evaluate").models == ("a/b",)


# The plan, and what cannot be walked


def test_the_plan_says_what_is_there_and_what_goes_where(whole: Recipe, runs: Path) -> None:
    finish(runs / "prepare")
    finish(runs / "quantize/gguf-q8_0")

    plan = render_plan(whole, build_plan(whole, whole.verbs))

    assert "# prepare: finished" in plan
    assert "# finetune: to do" in plan
    assert "# quantize: to do, finished, to do" in plan
    assert f"adapter: {runs}/finetune" in plan
    assert "api_key" not in plan


def test_the_plan_heeds_where_to_begin_and_what_to_run_alone(
    whole: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    show_plan(whole, start="evaluate")
    assert set(yaml.safe_load(capsys.readouterr().out)) == {"evaluate", "generate", "serve"}

    show_plan(whole, only="merge")
    assert set(yaml.safe_load(capsys.readouterr().out)) == {"merge"}

    with pytest.raises(ConfigError, match="has no section 'study'"):
        show_plan(whole, only="study")


def test_quantizing_alone_builds_the_set_that_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(recipe_of("model: org/base\nquantize: {}\nserve: {}"), only="quantize")

    assert set(yaml.safe_load(capsys.readouterr().out)) == {"calibrate", "quantize"}


@pytest.mark.parametrize("verb", ["start", "only"])
def test_a_verb_without_a_section_cannot_be_chosen(verb: str) -> None:
    recipe = recipe_of("name: small\nprepare: {datasets: [x]}")

    with pytest.raises(ConfigError) as caught:
        run_recipe(recipe, **{verb: "merge"})

    assert caught.value.message == "small has no section 'merge'"
    assert caught.value.fix == "it has: prepare"


def test_a_recipe_without_sections_cannot_be_walked() -> None:
    with pytest.raises(ConfigError, match="small has no sections, so there is nothing to run"):
        run_recipe(recipe_of("name: small"))


@pytest.mark.parametrize("verb", ["quantize", "evaluate", "generate", "serve"])
def test_a_merge_of_another_training_is_not_taken(verb: str) -> None:
    sections = "finetune: {}\nmerge: {}\nquantize: {formats: [{format: bnb}]}"
    recipe = recipe_of(f"model: org/base\noutput_dir: o\n{sections}")
    write_artifact("o/finetune", "adapter")
    write_artifact("o/merge", "model", "o/finetune")
    write_artifact("o/quantize/bnb-nf4", "quantized", "o/merge")
    shutil.rmtree("o/finetune")
    write_artifact("o/finetune", "adapter", seed=1)

    with pytest.raises(ArtifactError, match="was made from another adapter than"):
        run_verb(recipe, verb)


@pytest.mark.parametrize(("tasks", "made"), [("answers", True), ("minimal_pairs, alert", True),
                                             ("minimal_pairs", False)])  # fmt: skip
def test_an_evaluation_has_data_prepared_if_a_task_reads_them(
    tasks: str, made: bool, tmp_path: Path
) -> None:
    prepare = "prepare: {datasets: [synthetic_vitals], task: alert, max_examples: 4}"

    def evaluate(ref: str) -> None:
        models = f"tasks: [{tasks}], models: ['{ref}']"
        run_verb(
            recipe_of(f"output_dir: {tmp_path / 'o'}\n{prepare}\nevaluate: {{{models}}}"),
            "evaluate",
        )

    with pytest.raises(ArtifactError, match="nowhere"):
        evaluate("./nowhere")
    recipe = recipe_of(f"{prepare}\nevaluate: {{tasks: [{tasks}]}}")
    assert lacks(recipe, "evaluate", wire(recipe, "evaluate")) == ["prepare"] * made
    assert not (tmp_path / "o").exists()
    with pytest.raises(SetupError, match="does not list its models"):
        evaluate("http://127.0.0.1:9#m")
    assert (tmp_path / "o" / "prepare" / "medllm.json").is_file() == made


def write_artifact(folder: str, kind: Any, *parents: str, seed: int = 0) -> None:
    def write(place: Path) -> Outcome:
        (place / "weights.txt").write_text("1")
        return Outcome()

    made_from = tuple(Manifest.read(Path(one)).as_parent(Path.cwd() / one) for one in parents)
    produce(Job(kind, "any", "run", Path.cwd() / folder, {}, {"seed": seed}, made_from), write)


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("generate=1", "--set generate: input should be an object, got 1"),
        ('generate.stop=[""]', "--set generate.stop: generate.stop.0"),
    ],
)
def test_a_flag_does_not_replace_what_is_wrong(assignment: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        load_recipe(None, [assignment], {"generate.prompt": "What is sepsis?"})
