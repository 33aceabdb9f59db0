"""What help pages show, and what a shell completes."""

import json
import runpy
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from medllm.cli.main import app, run_command

ROOT = Path(__file__).parents[2]
COMMANDS = [*runpy.run_path(str(ROOT / "scripts" / "build_cli_docs.py"))["list_commands"]()]
LEAVES = [
    names
    for names in COMMANDS
    if names not in {(), ("datasets",), ("recipes",), ("keys",), ("audit",)}
]


def help_of(names: tuple[str, ...], capfd: pytest.CaptureFixture[str], flag: str = "-h") -> str:
    capfd.readouterr()
    assert run_command([*names, flag]) == 0
    return capfd.readouterr().out


@pytest.mark.parametrize("columns", ["80", "100"])
@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_is_whole_and_fits(
    names: tuple[str, ...],
    columns: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    page = help_of(names, capfd)

    assert page == help_of(names, capfd, "--help")
    assert "..." not in page.replace("[ARGS]...", "").replace("[DIR]...", "")
    assert max(map(len, page.splitlines())) <= 80
    assert "-h, --help" in page


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_the_example_of_a_command_can_be_copied(
    names: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    page = help_of(names, capfd)

    example = page.partition("  Example:\n")[2].partition("\n\n")[0]
    words = shlex.split(example.replace("\\\n", ""))
    assert words[: len(names) + 1] == ["medllm", *names]
    assert {word for word in words if word.startswith("--")} <= {*page.split()}


def test_json_is_shown_with_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert all("--json" in help_of(names, capfd) for names in LEAVES)


COMPLETIONS = {
    "medllm calibrate --mix radiol": "radiology",
    "medllm quantize --format g": "gptq gguf",
    "medllm quantize --format gguf --type Q4_K": "Q4_K_M Q4_K_S",
    "medllm evaluate --tasks pubmedqa,summ": "pubmedqa,summarize",
    "medllm run --config quick": "quickstart",
    "medllm run --from qu": "quantize",
    "medllm recipes show quick": "quickstart",
    "medllm datasets show mine": "mine",
    "medllm prepare --dataset medqa_": "medqa_5options",
    "medllm generate --model med": "medllm/tiny",
    "medllm finetune --ac": "--accept-terms",
    "medllm fin": "finetune",
    "medllm datasets f": "fetch",
    "medllm serve --model ./mo": "",  # the shell goes on with files
}


@pytest.mark.parametrize("line", COMPLETIONS)
def test_a_shell_completes_names(
    line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "datasets" / "mine").mkdir(parents=True)
    monkeypatch.setenv("_MEDLLM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))

    with pytest.raises(SystemExit) as ended:
        run_command([])

    assert not ended.value.code
    assert capfd.readouterr().out.split() == COMPLETIONS[line].split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_shown(
    shell: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")

    with pytest.raises(SystemExit):  # built anew: typer looks at the variable then
        get_command(app)(["--show-completion", shell], prog_name="medllm")

    assert "_MEDLLM_COMPLETE" in capfd.readouterr().out


def test_a_bug_has_a_document_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medllm.recipe.list_recipes", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run_command(["recipes", "list", "--json"])

    error = json.loads(capfd.readouterr().out)["error"]
    assert (error["code"], error["kind"]) == (1, "ZeroDivisionError")
