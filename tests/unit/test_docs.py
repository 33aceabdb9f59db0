"""What the documents say is what the code says and what was measured."""

import ast
import json
import re
import signal
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml

from medllm.cli.main import INTERRUPTED
from medllm.config.base import models_in
from medllm.console import PIPE_CLOSED
from medllm.data.groups import KINDS
from medllm.data.registry.specs import CATALOG, read_spec
from medllm.engines.gguf_template import DEFAULT_N_CTX
from medllm.engines.servers.llama_server import PARALLEL
from medllm.errors import MedllmError
from medllm.models.chat import prompts
from medllm.quantize.gguf.types import NEEDS_IMPORTANCE, QUANTIZATION_TYPES
from medllm.recipe import ROAD, Recipe
from medllm.serve import body, connections, wire
from medllm.serve.config import ServeConfig
from medllm.serve.forms import strict
from medllm.serve.model import vllm
from medllm.serve.routes import answers
from medllm.tasks.spec import list_tasks

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "docs" / "benchmarks"
ANYTHING = "\0"
"""Stands for what a message fills in."""


def test_every_code_of_an_error_stands_in_the_table_of_errors() -> None:
    calls = (
        node
        for path in sorted((ROOT / "medllm" / "serve").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ApiError"
    )
    named = [call.args[2] for call in calls if len(call.args) > 2]
    codes = {each.value for each in named if isinstance(each, ast.Constant)} - {None}
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    table = page.partition("### Errors")[2].partition("## Limits")[0]
    assert {*re.findall(r"`([a-z_]+_[a-z_]+)`", table)} >= codes | {strict.UNSUPPORTED}
    assert len(codes) > 15


@cache
def messages() -> str:
    """All texts in the code, each on a line; what is filled in is ANYTHING."""
    found = []
    for path in sorted((ROOT / "medllm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(pieces(node)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(text.replace("\n", " ") for text in found)


def pieces(text: ast.JoinedStr) -> Iterator[str]:
    for value in text.values:
        yield str(value.value) if isinstance(value, ast.Constant) else ANYTHING


def headings() -> list[str]:
    """The headings of troubleshooting that quote a message, one of several at a time."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    return [part for line in quoted for part in line.split(" / ") if not is_described(part)]


def is_described(heading: str) -> bool:
    """Whether a heading tells of a trouble that no message of ours names."""
    return heading in {
        "`pip install` stops at PyPcre or gptqmodel: `Python.h: No such file or directory`",
        "pip finds no version that fits",
        "`medllm: command not found`",
        "A segmentation fault in llama.cpp on a recent Intel processor",
        "A run was killed",
        "401 from the server",
    } or heading.startswith(("The first ", "Everything is ", "Training on a processor "))


@pytest.mark.parametrize("heading", headings())
def test_a_heading_of_troubleshooting_is_a_message(heading: str) -> None:
    parts = re.split(r"<[^>]*>|…", heading.replace("`", ""))
    words = [re.escape(part.strip()) for part in parts if part.strip(" :.")]
    gap = f"[^\n]{{0,40}}?{ANYTHING}?[^\n]{{0,40}}?"

    assert re.search(gap.join(words), messages()), heading


def figures(name: str) -> Any:
    return json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))


def ratios(runs: dict[str, Any], what: str, one: str, other: str) -> list[float]:
    """`one` / `other` within each round that ran both."""
    pairs = zip(runs[one], runs[other], strict=False)
    return [mine[what] / theirs[what] for mine, theirs in pairs]


def spread(values: list[float], digits: int) -> str:
    """The lowest and the highest, as a document writes them; one where both round alike."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def finetune_figures() -> list[str]:
    speed = "useful_tokens_per_second"
    runs = figures("finetune")["runs"]
    trl = ratios(runs, speed, "medllm", "trl")
    guide = ratios(runs, speed, "medllm", "guide")
    bfloat16 = ratios(runs, speed, "medllm-bf16", "guide")
    nf4 = ratios(runs, speed, "medllm-nf4", "guide-nf4")
    return [
        f"{spread(trl, 1)} times as many useful tokens per second as plain TRL",
        f"({len(trl)} rounds)",
        f"{spread(guide, 1)} times as many as a guide's script",
        f"{spread(bfloat16, 1)} times in bfloat16",
        f"{spread(nf4, 1)} times where both train on 4 bits (one round each)",
    ]


def profiling_figures() -> list[str]:
    models = figures("profiling")["models"].values()
    seconds = [one["seconds, estimated / taken"] for one in models]
    memory = [one["memory_gib, estimated / taken"] for one in models]
    return [f"{spread(seconds, 2)} of the time and {spread(memory, 2)} of the memory"]


def gptq_figures() -> list[str]:
    runs = figures("quantize-gptq")["runs"]
    time = ratios(runs, "quantize_seconds", "medllm", "bare")
    memory = ratios(runs, "peak_mib", "medllm", "bare")
    bare = [one["peak_mib"] for one in runs["bare"]]
    own = {row["what"]: row["own_mib"] for row in figures("quantize-memory")["rows"]}
    large = own["gptq"] / own["bare gptqmodel"]
    return [
        f"GPTQ takes {spread(time, 2)} of the time of bare gptqmodel",
        f"and {spread(memory, 2)} of its peak memory",
        f"{len(time)} pairs",
        f"({min(bare):,.0f} to {max(bare):,.0f} MiB for the bare library)",
        f"With 1.1 billion parameters the memory is {large:.2f} of it",
    ]


def formats_figures() -> list[str]:
    sets = figures("quantize-formats")["sets"].values()
    gptq, gguf = (
        [one / apart for one, apart in zip(*each["runs"].values(), strict=True)] for each in sets
    )
    return [
        f"GPTQ and Q4_K_M in one command take {spread(gptq, 2)} of the time of two commands",
        f"three GGUF types {spread(gguf, 2)} of three",
        f"({len(gptq)} rounds)",
    ]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("finetune.md", finetune_figures()),
        ("finetune.md", profiling_figures()),
        ("quantize.md", gptq_figures()),
        ("quantize.md", formats_figures()),
    ],
    ids=["finetune", "profiling", "gptq", "formats"],
)
def test_a_figure_in_a_document_is_the_one_that_was_measured(
    document: str, said: list[str]
) -> None:
    text = " ".join((ROOT / "docs" / document).read_text(encoding="utf-8").split())

    assert [each for each in said if each not in text] == []


def test_the_page_of_figures_names_each_one_and_the_script_that_made_it() -> None:
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    scripts = set(re.findall(r"`(scripts/benchmarks/\w+\.py)`", page))

    assert scripts
    assert {f.name for f in BENCHMARKS.iterdir()} == set(
        re.findall(r"`([\w.-]+\.(?:json|md))`", page)
    )
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


@cache
def constant(path: str, name: str) -> Any:
    """The value of a module's constant, without importing the module."""
    for node in ast.parse((ROOT / "medllm" / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == [name]:
            return eval(compile(ast.Expression(node.value), path, "eval"))
    raise AssertionError(f"{path} has no {name}")


def default(key: str) -> Any:
    """What a key of a recipe is where nobody sets it."""
    section, name = key.split(".")
    return Recipe.model_validate({section: {}}).section(section).model_dump()[name]


COUNTED = {2.0: "twice", 3: "three"}
TOLD = [
    ("finetune.md", "Every {:.0f} s a line", "finetune/train/callbacks.py SECONDS_BETWEEN_LINES"),
    ("finetune.md", "above {} its first value", "finetune/train/callbacks.py DIVERGED"),
    ("finetune.md", "in {} logs in a row", "finetune/train/callbacks.py PATIENCE_LOGS"),
    ("finetune.md", "more than {:,.0f} parameters", "finetune/profiling.py SMALL"),
    ("finetune.md", "at most {} labels", "finetune/rows/labels.py MOST_LABELS"),
    ("finetune.md", "labels of at most {} characters", "finetune/rows/labels.py LONGEST_LABEL"),
    ("finetune.md", "is said after {} s, with its number", "cli/main.py SECONDS_OF_SILENCE"),
    ("prepare.md", "by runs of {} words", "data/dedup.py NGRAM"),
    ("calibration.md", "by runs of {} words", "data/dedup.py NGRAM"),
    ("calibration.md", "({} to 4,096)", "calibrate.min_tokens"),
    ("calibration.md", "(256 to {:,})", "calibrate.max_tokens"),
    ("calibration.md", "at most `window_tokens` ({:,})", "calibrate.window_tokens"),
    ("calibration.md", "at least {} texts", "calibrate/analysis.py MIN_SAMPLES"),
    ("calibration.md", "more than {} tokens on average", "calibrate/analysis.py MIN_MEAN_TOKENS"),
    ("calibration.md", "more than {:.0%} medical", "calibrate/analysis.py MIN_MEDICAL_SHARE"),
    ("calibration.md", "at least {:.0%} of the words", "clinical/terms.py MEDICAL_DENSITY"),
    (
        "quantize.md",
        "fewer than {} give worse weights",
        "quantize/backends/gptqmodel.py FEW_SAMPLES",
    ),
    ("quality.md", "scores up to {:,} tokens", "measures/cost.py TOKENS"),
    ("evaluate.md", "{:,} tokens at a time", "measures/likelihood.py WINDOW"),
    ("evaluate.md", "opened with {:,} tokens", "engines/gguf_template.py DEFAULT_N_CTX"),
    ("troubleshooting.md", "within {:.0f} seconds", "models/chat/rendering.py MOST_SECONDS"),
    ("troubleshooting.md", "more than {:,} bytes of memory", "models/chat/rendering.py MOST_BYTES"),
]
"""A page, what it says, and the constant or the default of a key that this is."""
SPELT = {"300,000,000": "300 million", "1,073,741,824 bytes": "1 GiB", "%": " %"}


@pytest.mark.parametrize(("page", "words", "source"), TOLD)
def test_a_number_in_a_document_is_that_of_the_code(page: str, words: str, source: str) -> None:
    path, _, name = source.partition(" ")
    value = constant(path, name) if name else default(path)
    said = words.format(COUNTED.get(value, value))
    for digits, word in SPELT.items():
        said = said.replace(digits, word)

    assert said in " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())


def test_the_datasets_without_a_pinned_revision_are_as_told() -> None:
    specs = {path.stem: read_spec(path) for path in CATALOG.glob("*.yaml")}
    loose = {name for name, spec in specs.items() if spec.hub and not spec.hub.revision}

    assert loose == {"asclepius", "augmented_clinical_notes", "pmc_patients"}
    told = "PMC-Patients, Asclepius and the augmented notes have none"
    assert told in " ".join((ROOT / "docs" / "limits.md").read_text(encoding="utf-8").split())


def test_the_types_that_need_an_importance_matrix_are_as_told() -> None:
    told = {"IQ3_XXS", "IQ3_XS", "Q2_K_S"}
    few = {name for name in QUANTIZATION_TYPES if name.startswith(("IQ1", "IQ2"))}

    assert {*told, *few} == NEEDS_IMPORTANCE
    text = " ".join((ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").split())
    assert "(those of IQ1 and IQ2, IQ3_XXS, IQ3_XS and Q2_K_S)" in text


PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*.md"), ROOT / "data" / "README.md"])
WRITTEN = [page for page in PAGES if page.name not in {"cli.md", "CHANGELOG.md"}]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose head begins with these words, without the head."""
    lines = iter(text_of(page).splitlines())
    assert any(line.startswith(f"| {heading}") for line in lines), f"{page}: no table {heading}"
    next(lines)
    table = list(takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def shipped(*folder: str) -> set[str]:
    return {path.stem for path in ROOT.joinpath(*folder).glob("*.yaml")}


def test_the_columns_that_name_a_group_are_those_of_the_code() -> None:
    told = {kind: tuple(quoted(names)) for kind, names in rows_of("docs/datasets.md", "kind |")}

    assert told == KINDS


def test_shipped_mixes_tasks_and_recipes_are_in_the_tables_of_the_documents() -> None:
    def names(page: str, heading: str) -> set[str]:
        return {quoted(row[0])[0] for row in rows_of(page, heading)}

    assert names("docs/calibration.md", "mix |") == shipped("medllm", "data", "mixes")
    assert names("docs/evaluate.md", "task |") == set(list_tasks("evaluate"))
    assert names("docs/quantize.md", "recipe |") == shipped("configs", "quantize")
    assert names("docs/finetune.md", "recipe |") == shipped("configs", "finetune") | {"t4-16gb"}
    ship = re.search(r"\w+ ship: (.*?); yours", text_of("docs/prepare.md"), re.DOTALL)
    assert ship and set(quoted(ship[1])) == set(list_tasks("prepare"))


def test_the_shares_of_mixes_are_as_told() -> None:
    for name, shares in rows_of("docs/calibration.md", "mix |"):
        mix = yaml.safe_load(text_of(f"medllm/data/mixes/{quoted(name)[0]}.yaml"))
        told = [int(number) for number in re.findall(r" (\d+)(?=[,: ]|$)", shares)]

        assert told in ([], list(mix["shares"].values())), name


def test_the_exit_codes_are_those_of_the_errors() -> None:
    codes = {int(row[0]) for row in rows_of("docs/troubleshooting.md", "code |")}
    ours = {error.exit_code for error in (MedllmError, *MedllmError.__subclasses__())}

    assert codes == {0, *ours, INTERRUPTED, PIPE_CLOSED, 128 + signal.SIGTERM}


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]

    assert {quoted(row[0])[0] for row in rows_of("docs/install.md", "extra |")} == set(
        project["optional-dependencies"]
    )


def test_the_limits_of_the_server_are_those_of_the_code() -> None:
    limits = {what: f"{limit} {then}" for what, limit, then in rows_of("docs/serve.md", "what | l")}
    said = {
        "tokens of an answer": f"({ServeConfig().max_tokens:,})",
        "answers to one request": (
            f"{answers.MAX_ANSWERS}, prompts times `n`; `n` up to {wire.MAX_CHOICES}"
        ),
        "prompt and answer together": f"at most {DEFAULT_N_CTX:,}",
        "prompt, before it is tokenized": f"{prompts.BYTES_PER_TOKEN} bytes for each token",
        "stop strings": f"{wire.MAX_STOPS} of {wire.MAX_STOP_CHARACTERS:,} characters",
        "body": f"{body.MAX_BODY_BYTES // 2**20} MiB",
        "time for a request to arrive whole": f"{connections.REQUEST_SECONDS:.0f} s",
        "time for a client to take up an answer that fills all buffers": (
            f"{connections.STUCK_SECONDS:.0f} s"
        ),
        "connections answered at once": (
            f"{connections.MAX_CONNECTIONS}; fewer where `ulimit -n` is below "
            f"{4 * connections.MAX_CONNECTIONS:,}"
        ),
        "requests that wait for their turn": f"({ServeConfig().max_waiting})",
        "answers at once": f"{PARALLEL} with llama-server, {vllm.PARALLEL} with vLLM",
        "time for running answers after SIGTERM": (
            f"{connections.GRACE_SECONDS[signal.SIGTERM]:.0f} s "
            f"({connections.GRACE_SECONDS[signal.SIGINT]:.0f} s after Ctrl-C"
        ),
    }

    assert limits.keys() == said.keys()
    assert [what for what, limit in said.items() if limit not in limits[what]] == []
    assert f"a completion gets {answers.DEFAULT_COMPLETION_TOKENS}" in limits["tokens of an answer"]


def test_the_fields_that_the_server_refuses_or_ignores_are_as_told() -> None:
    text = text_of("docs/serve.md")
    honoured = re.search(r"Honoured are (.*?)\.\sMessages", text, re.DOTALL)
    refused = re.search(r"does not honour \((.*?)\s…\)", text, re.DOTALL)
    fields = {*wire.ChatRequest.model_fields, *wire.CompletionRequest.model_fields, "model"}

    assert honoured and refused
    told = {name.partition(".")[0] for name in quoted(honoured[1])}
    assert told | {"model"} == fields
    assert {name.partition(":")[0] for name in quoted(refused[1])} <= strict.NEUTRAL.keys()
    assert {"user", "metadata"} <= strict.HARMLESS


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_keys_of_recipes_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    keys = re.findall(rf"`(?:--set '?)?((?:{'|'.join(ROOTS)})\.[\w.]+)", text)

    assert [key for key in keys if not has_key(key) and not FILE.search(key)] == []


FILE = re.compile(r"\.(?:json|html|sqlite3)$")
ROOTS = {**dict.fromkeys((*ROAD, "study", "split"), ""),
         **dict.fromkeys(("lora", "training", "search", "replay"), "finetune.")}  # fmt: skip
"""How dotted keys begin in the documents, and what to put before."""


def has_key(key: str) -> bool:
    model: Any = Recipe
    for name in f"{ROOTS[key.partition('.')[0]]}{key}".split("."):
        if name not in model.model_fields:
            return False
        field = model.model_fields[name]
        if field.annotation == dict[str, Any]:  # `extra` takes the trainer's own
            return True
        model = next(models_in(field.annotation), None)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not is_there(page, link)] == []


def is_there(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_each_page_has_its_place_in_the_site() -> None:
    shown = set(re.findall(r": ([\w./-]+\.md)$", text_of("mkdocs.yml"), re.MULTILINE))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}

    assert pages - shown == set()


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_commands_that_a_page_shows_have_these_flags(page: Path) -> None:
    text = re.sub(r"\\\n\s*", "", page.read_text(encoding="utf-8"))
    shown = re.findall(rf"medllm ({'|'.join((*ROAD, 'run'))})\b([^`\n#]*)", text)
    help_pages = dict(re.findall(r"^## medllm (\w+)$(.*?)(?=^## )", text_of("docs/cli.md"), FLAGS))
    flags = [(verb, flag) for verb, rest in shown for flag in re.findall(r"--[a-z][a-z-]*", rest)]

    assert [(verb, flag) for verb, flag in flags if flag not in help_pages[verb]] == []


FLAGS = re.MULTILINE | re.DOTALL


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_lines_of_a_page_are_not_long(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if len(line) > 120 and line[:1] not in {"|", "#"}] == []


def test_no_sentence_stands_in_two_documents() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for page in WRITTEN:
        for sentence in sentences(page.read_text(encoding="utf-8")):
            places[sentence].add(page.name)

    assert {sentence: names for sentence, names in places.items() if len(names) > 1} == {}


def sentences(text: str) -> Iterator[str]:
    """What stands between two marks, outside of code, in words; not what is said in a breath."""
    prose = re.sub(r"^```.*?^```", "", text, flags=FLAGS)
    parts = re.sub(r"^(?:\||- |#+ |\d+\. )", ".\n", prose, flags=re.MULTILINE)
    for part in re.split(r"[.:;!?]\s", parts):
        words = re.sub(r"[^\w ]", "", " ".join(part.lower().split())).split()
        if len(words) > BREATH:
            yield " ".join(words)


BREATH = 6
"""Words. `It is not a medical device` may be said everywhere."""


@pytest.mark.parametrize("verb", ROAD)
def test_the_defaults_that_help_tells_are_those_of_the_keys(verb: str) -> None:
    page = re.search(rf"^## medllm {verb}$(.*?)(?=^## )", text_of("docs/cli.md"), FLAGS)
    assert page
    section = Recipe.model_validate({verb: {}}).section(verb).model_dump(mode="json")
    told = {}
    for described in re.split(r"\n  (?=--)", page[1]):
        flag = re.match(r"--([a-z-]+)", described)
        value = re.search(r"\[default:\s+([^\]]+)\]", described)
        if flag and value:
            told[flag[1].replace("-", "_")] = yaml.safe_load(value[1])
    assert told
    known = {key: section[key] for key in told if section.get(key) not in (None, (), [])}

    assert {key: told[key] for key in known} == known | SPELT_OUT.get(verb, {})


SPELT_OUT = {"evaluate": {"tasks": "answers"}, "finetune": {"resume": "resume"}}
"""Defaults that stand otherwise on the command line than in a recipe."""
