"""Of several processes that run one command, the main one speaks and writes."""

import pytest

from medllm import console
from medllm.errors import DataError
from medllm.ranks import count_processes, is_main, local_rank, own_rank

Said = pytest.CaptureFixture[str]


def start(patch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        patch.delenv(name, raising=False)
    for name, value in variables.items():
        patch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, (1, 0, 0)),
        # of a scheduler, which starts the command once on each machine
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 0, 0)),
        ({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}, (8, 5, 1)),
    ],
)
def test_the_launcher_says_which_process_it_is(
    variables: dict[str, str], found: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(monkeypatch, **variables)

    assert (count_processes(), own_rank(), local_rank()) == found
    assert is_main() == (found[1] == 0)


def test_another_process_says_its_errors_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    start(monkeypatch, RANK="1", LOCAL_RANK="1", WORLD_SIZE="2")

    console.say("a result")
    console.notice("a notice")
    console.table(("a", "b"), [(1, 2)])
    console.error(DataError("no such row", "add it"))

    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: process 1: no such row\n  fix: add it\n")
