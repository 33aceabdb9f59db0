"""Nothing half-written is taken for whole, and nothing of the user's is lost."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medllm.artifacts.digest import digest_file
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import Input, open_input
from medllm.artifacts.manifest import NAME, Counts, DataTerm, Manifest, Parent
from medllm.artifacts.unfinished import ELSEWHERE
from medllm.config.base import Place, VerbConfig
from medllm.data.example import open_private
from medllm.errors import ArtifactError, ConfigError, SetupError
from medllm.places import cache_dir

PARENT = Parent(kind="source", path="/data/pubmedqa", identity="11")
TERMS = (DataTerm(dataset="pubmedqa", licence="MIT", access="open"),)

Maker = Callable[[Path], Outcome]


class ToyConfig(VerbConfig):
    r: int = 8
    tracker: str = ""
    data: Place | None = None


def job_of(output: Path, **changes: Any) -> Job:
    config = ToyConfig(output=output, **changes)
    return Job.of(config, "dataset", "prepare", "jsonl", Input(Path("x"), None, PARENT, TERMS))


class Making:
    """A maker that writes one text and knows how often it was asked."""

    def __init__(self, text: str = "hello") -> None:
        self.text, self.calls = text, 0

    def __call__(self, folder: Path) -> Outcome:
        self.calls += 1
        with open_private(folder / "rows.jsonl") as file:
            file.write(self.text)
        return Outcome(Counts(examples=1), {"rows": 1})


@pytest.fixture
def output() -> Path:
    return Path.cwd() / "runs/prepare"


@pytest.fixture
def finished(output: Path) -> Manifest:
    return produce(job_of(output), Making())


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: what it holds, and when it was written."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# A whole artifact


def test_what_is_made_is_described(output: Path, finished: Manifest) -> None:
    assert sorted(path.name for path in output.iterdir()) == [NAME, "rows.jsonl", "run.log"]
    assert Manifest.read(output) == finished
    assert [(file.path, file.bytes) for file in finished.files] == [("rows.jsonl", 5)]
    assert finished.counts == Counts(examples=1)
    assert finished.results == {"rows": 1}
    assert finished.parents == (PARENT,)
    assert finished.data_terms == TERMS
    assert finished.settings == {"r": 8, "tracker": "", "seed": 0}  # no place, no overwrite
    assert finished.config["output"] == str(output)


def test_everything_is_the_owners_alone(output: Path, finished: Manifest) -> None:
    assert mode(output) == 0o700
    assert {path.name: mode(path) for path in output.iterdir()} == dict.fromkeys(
        (NAME, "rows.jsonl", "run.log"), 0o600
    )


def test_identity_does_not_depend_on_time_or_place(output: Path, finished: Manifest) -> None:
    other = output.with_name("elsewhere")
    moved = replace(job_of(other), parents=(PARENT.model_copy(update={"path": "/mnt/x"}),))

    assert produce(moved, Making()).identity == finished.identity
    assert produce(job_of(output.with_name("b"), r=9), Making()).identity != finished.identity
    assert produce(job_of(output.with_name("c")), Making("bye")).identity != finished.identity


def test_a_model_gets_a_card_that_says_whether_it_may_be_shared(output: Path) -> None:
    job = replace(job_of(output), kind="model", data_terms=(
        *TERMS, DataTerm(dataset="notes", licence="undeclared", access="private"),
    ))  # fmt: skip

    manifest = produce(job, Making())

    card = (output / "README.md").read_text()
    assert manifest.access == "private"
    assert "**May I share it?** No: this contains data of your own" in card
    assert [file.path for file in manifest.files] == ["rows.jsonl"]  # the card is rendered anew


def test_credentials_are_not_written_anywhere(output: Path) -> None:
    tracker = "https://me:secret@tracker.local"

    manifest = produce(job_of(output, tracker=tracker), Making())

    assert manifest.config["tracker"] == "https://tracker.local"
    assert [path.name for path in output.iterdir() if b"secret" in path.read_bytes()] == []
    again = Making()
    produce(job_of(output, tracker=tracker), again)
    assert again.calls == 0


def test_without_an_output_there_is_no_job() -> None:
    with pytest.raises(ConfigError, match="prepare: no output is named"):
        Job.of(ToyConfig(), "dataset", "prepare", "jsonl")


# A second run


def test_the_same_settings_return_at_once(
    output: Path, finished: Manifest, capfd: pytest.CaptureFixture[str]
) -> None:
    before, again = contents(output), Making("other")

    assert produce(job_of(output), again) == finished

    assert again.calls == 0
    assert contents(output) == before
    assert capfd.readouterr().err == f"prepare: {output} is up to date\n"


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"r": 16, "tracker": "", "seed": 0}},
        {"parents": (PARENT.model_copy(update={"identity": "12"}),)},
        {"kind": "calibration"},
    ],
    ids=["settings", "parents", "kind"],
)
def test_another_job_refuses_until_overwrite(
    output: Path, finished: Manifest, change: dict[str, Any]
) -> None:
    other, before = replace(job_of(output), **change), contents(output)

    with pytest.raises(ArtifactError) as caught:
        produce(other, Making("other"))

    assert caught.value.message == f"{output} holds another dataset"
    assert caught.value.fix == f"add --overwrite, or {ELSEWHERE}"
    assert contents(output) == before
    produce(replace(other, overwrite=True), Making("other"))
    assert (output / "rows.jsonl").read_text() == "other"
    assert [path.name for path in output.parent.iterdir()] == ["prepare"]


def test_overwrite_makes_even_the_same_job_again(output: Path, finished: Manifest) -> None:
    again = Making()

    assert produce(job_of(output, overwrite=True), again).identity == finished.identity
    assert again.calls == 1


# What belongs to the user


@pytest.mark.parametrize(
    "name", ["notes.txt", "sub/README.md", "sub/medllm.json", "README.md", "logs/notes.txt"]
)
def test_overwrite_never_deletes_a_users_file(output: Path, finished: Manifest, name: str) -> None:
    (output / name).parent.mkdir(exist_ok=True)
    (output / name).write_text("mine")

    with pytest.raises(ArtifactError) as caught:
        produce(job_of(output, overwrite=True), Making())

    assert caught.value.message == f"{output} holds a file that medllm did not write: {name}"
    assert (output / name).read_text() == "mine"


def test_a_refusal_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    def refuse(folder: Path) -> Outcome:
        raise ConfigError("no", "yes")

    (there := tmp_path / "there/theirs").mkdir(parents=True)
    for place in ("runs/one/out", "theirs/out"):
        with pytest.raises(ConfigError):
            produce(job_of(there.parent / place), refuse)

    assert [*there.parent.rglob("*")] == [there]


def test_a_users_folder_is_refused_even_with_overwrite(output: Path) -> None:
    output.mkdir(parents=True)
    (output / "thesis.tex").write_text("mine")

    for overwrite in (False, True):
        with pytest.raises(ArtifactError) as caught:
            produce(job_of(output, overwrite=overwrite), Making())
        assert caught.value.message == f"{output} is not empty and was not made by medllm"
    assert contents(output).keys() == {"thesis.tex"}


def test_a_users_folder_that_is_called_unfinished_is_refused(output: Path) -> None:
    theirs = output.with_name("prepare.unfinished")
    theirs.mkdir(parents=True)
    (theirs / "thesis.tex").write_text("mine")

    with pytest.raises(ArtifactError, match="was not made by medllm"):
        produce(job_of(output), Making())
    assert contents(theirs).keys() == {"thesis.tex"}


@pytest.mark.parametrize(
    "theirs",
    [
        {"lock": "mine"},
        {"lock": "", "precious.txt": "keep"},
        {"lock": "mine", "precious.txt": "keep"},
        {"request.json": '{"user": "me"}', "precious.txt": "keep"},
        {"request.json": "", "lock": "", "precious.txt": "keep"},
        {NAME: "{}", "precious.txt": "keep"},
        {"lock/inner": "a folder"},
    ],
    ids=lambda theirs: "+".join(theirs),
)
def test_names_of_ours_do_not_make_a_users_folder_ours(
    output: Path, theirs: dict[str, str]
) -> None:
    folder = output.with_name("prepare.unfinished")
    for name, text in theirs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = contents(folder)

    with pytest.raises(ArtifactError, match="was not made by medllm"):
        produce(job_of(output), Making())

    assert contents(folder) == before


def test_an_unfinished_folder_that_is_a_link_is_refused(output: Path, interrupted: Path) -> None:
    elsewhere = interrupted.rename(output.with_name("elsewhere"))
    interrupted.symlink_to(elsewhere)
    before = contents(elsewhere)

    with pytest.raises(ArtifactError, match="is a link"):
        produce(job_of(output, r=9), Making())

    assert contents(elsewhere) == before


def test_a_users_file_in_our_unfinished_folder_is_kept(
    output: Path, interrupted: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (interrupted / "thesis.tex").write_text("mine")

    produce(job_of(output, r=9), Making())

    kept = next(output.parent.glob("prepare.replaced-*/thesis.tex"))
    assert kept.read_text() == "mine"
    assert f"{kept.parent} keeps files" in capfd.readouterr().err
    assert (output / "rows.jsonl").is_file()


def test_an_artifact_that_appears_during_the_work_is_kept(
    output: Path, finished: Manifest, capfd: pytest.CaptureFixture[str]
) -> None:
    def make(folder: Path) -> Outcome:
        shutil.copytree(output, output.with_name("other"))
        return Making("other")(folder)

    produce(job_of(output.with_name("other"), r=9), make)

    assert len(list(output.parent.glob("other.replaced-*/rows.jsonl"))) == 1


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/", "whole disk"),
        (".", "working folder"),
        ("..", "working folder"),
        ("x" * 238, "too long for a name"),
        ("é" * 120, "too long for a name"),
        ("xy/" * 1700, "cannot be written"),
        ("circle", "cannot be written"),
        ("source/inside", "lies inside of what it is made from"),
        ("source", "lies inside of what it is made from"),
    ],
)
def test_a_place_that_must_not_be_replaced_is_refused(place: str, reason: str) -> None:
    Path("circle").symlink_to("circle")
    Path("source").mkdir()
    Path("source/rows.jsonl").write_text("mine")

    with pytest.raises(ArtifactError, match=reason):
        produce(job_of(Path.cwd() / place, data=Path("source")), Making())

    assert contents(Path("source")).keys() == {"rows.jsonl"}


def test_an_output_that_holds_its_input_is_refused(output: Path, finished: Manifest) -> None:
    with pytest.raises(ArtifactError, match="holds what it is made from"):
        produce(job_of(output, data=output / "rows.jsonl", overwrite=True), Making())


def test_the_home_folder_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    with pytest.raises(ArtifactError, match="home folder"):
        produce(job_of(tmp_path / "home"), Making())


def test_a_user_without_a_home_may_write(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_user(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", no_such_user)

    assert produce(job_of(output), Making())


def test_files_that_appear_during_the_work_are_kept(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def make(folder: Path) -> Outcome:
        output.mkdir()
        (output / "thesis.tex").write_text("mine")
        return Making()(folder)

    produce(job_of(output), make)

    kept = next(output.parent.glob("prepare.replaced-*/thesis.tex"))
    assert kept.read_text() == "mine"
    assert f"{kept.parent} keeps files that appeared" in capfd.readouterr().err
    assert (output / "rows.jsonl").is_file()


def test_a_file_in_the_way_is_refused(output: Path) -> None:
    output.parent.mkdir()
    output.write_text("mine")

    with pytest.raises(ArtifactError) as caught:
        produce(job_of(output), Making())

    assert caught.value.message == f"{output} is a file"


@pytest.mark.parametrize("place", ["file/inside", "/proc/nowhere/runs"])
def test_an_output_that_cannot_be_is_refused(place: str) -> None:
    Path("file").write_text("mine")

    with pytest.raises(ArtifactError, match=r"cannot be written: ") as caught:
        produce(job_of(Path.cwd() / place), Making())
    assert caught.value.fix == ELSEWHERE


def test_an_empty_folder_and_a_link_to_one_are_fine(output: Path) -> None:
    big_disk = Path.cwd() / "big-disk"
    big_disk.mkdir()
    output.parent.mkdir()
    output.symlink_to(big_disk)

    produce(job_of(output), Making())
    produce(job_of(output, r=9, overwrite=True), Making("other"))

    assert output.is_symlink()
    assert (big_disk / "rows.jsonl").read_text() == "other"


# Interrupted work


def stop_midway(folder: Path) -> Outcome:
    (folder / "half.txt").write_text("half")
    raise KeyboardInterrupt


@pytest.fixture
def interrupted(output: Path) -> Path:
    """The unfinished folder that an interrupted job leaves."""
    with pytest.raises(KeyboardInterrupt):
        produce(job_of(output), stop_midway)
    return output.with_name("prepare.unfinished")


def test_interrupted_work_leaves_no_output(output: Path, interrupted: Path) -> None:
    assert not output.exists()
    assert (interrupted / "half.txt").is_file()
    assert not (interrupted / NAME).exists()
    assert mode(interrupted) == 0o700


def test_the_same_job_goes_on_with_it(
    output: Path, interrupted: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def go_on(folder: Path) -> Outcome:
        assert (folder / "half.txt").read_text() == "half"
        return Making()(folder)

    manifest = produce(job_of(output), go_on)

    assert [file.path for file in manifest.files] == ["half.txt", "rows.jsonl"]
    assert f"prepare: resuming from {interrupted}\n" in capfd.readouterr().err
    assert not interrupted.exists()


def test_another_job_discards_it(output: Path, interrupted: Path) -> None:
    manifest = produce(job_of(output, r=9), Making())

    assert [file.path for file in manifest.files] == ["rows.jsonl"]


@pytest.mark.parametrize("torn", ["", "{", "[]"])
def test_it_is_discarded_where_nobody_knows_whose_it_is(
    output: Path, interrupted: Path, torn: str
) -> None:
    (interrupted / "request.json").write_text(torn)

    assert [file.path for file in produce(job_of(output), Making()).files] == ["rows.jsonl"]


def test_it_is_no_input(output: Path, interrupted: Path) -> None:
    for path in (output, interrupted):
        with pytest.raises(ArtifactError, match=r" is unfinished$") as caught:
            open_input(path, ("dataset",), "training data")
        assert caught.value.exit_code == 4


def test_an_error_of_the_maker_leaves_it_resumable(output: Path) -> None:
    def fail(folder: Path) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        produce(job_of(output), fail)

    assert produce(job_of(output), Making()).counts.examples == 1


# Two at once

HOLDING = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_two_processes_cannot_write_one_output(output: Path, interrupted: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(interrupted / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ArtifactError) as caught:
            produce(job_of(output), Making())
        other.communicate(b"")

    assert caught.value.message == f"{interrupted} is being written by another medllm"
    assert (interrupted / "half.txt").is_file()
    produce(job_of(output), Making())


def test_the_folder_stays_locked_until_its_manifest_is_written(output: Path) -> None:
    """A rival that comes while files are hashed must not take the folder for abandoned."""
    seen: list[bool] = []

    def make(folder: Path) -> Outcome:
        outcome = Making()(folder)
        os.mkfifo(folder / "late")  # not a file: neither listed nor hashed
        seen.append((folder / "lock").exists() and (folder / "request.json").exists())
        with (folder / "lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return outcome

    manifest = produce(job_of(output), make)

    assert seen == [True]
    assert [file.path for file in manifest.files] == ["rows.jsonl"]
    assert not (output / "lock").exists()
    assert not (output / "request.json").exists()


def test_a_rival_that_waited_for_the_lock_takes_what_is_finished(output: Path) -> None:
    """Between the lock's release and the next try, the folder is in its place."""
    rival = Making("rival")

    def make(folder: Path) -> Outcome:
        outcome = Making()(folder)
        with pytest.raises(ArtifactError, match="is being written by another"):
            produce(job_of(output), rival)
        return outcome

    produce(job_of(output), make)
    produce(job_of(output), rival)

    assert rival.calls == 0
    assert (output / "rows.jsonl").read_text() == "hello"


# Altered inputs and outputs


def truncate(path: Path) -> None:
    path.write_text("hel")


def alter(path: Path) -> None:
    path.write_text("jello")


DAMAGES = [
    (truncate, "rows.jsonl has 3 bytes instead of 5"),
    (alter, "rows.jsonl was altered"),
    (Path.unlink, "rows.jsonl is missing"),
]


@pytest.mark.parametrize(("damage", "problem"), DAMAGES)
def test_a_damaged_result_is_neither_up_to_date_nor_an_input(
    output: Path, finished: Manifest, damage: Callable[[Path], None], problem: str
) -> None:
    damage(output / "rows.jsonl")

    for attempt in (
        lambda: produce(job_of(output), Making()),
        lambda: open_input(output, ("dataset",), "training data"),
    ):
        with pytest.raises(ArtifactError) as caught:
            attempt()
        assert caught.value.message == f"{output}: {problem}"
    assert produce(job_of(output, overwrite=True), Making()).identity == finished.identity


def test_a_damaged_manifest_is_refused(output: Path, finished: Manifest) -> None:
    (output / NAME).write_text((output / NAME).read_text()[:100])

    for overwrite in (False, True):
        with pytest.raises(ArtifactError, match=r"not a valid manifest") as caught:
            produce(job_of(output, overwrite=overwrite), Making())
        assert "--overwrite" not in caught.value.fix


def test_digests_are_remembered_until_the_file_changes(output: Path, finished: Manifest) -> None:
    path = output / "rows.jsonl"
    told, before = digest_file(path), path.stat()
    with closing(sqlite3.connect(cache_dir() / "digests.sqlite3", isolation_level=None)) as memory:
        memory.execute("UPDATE files SET sha256='remembered'")

    assert digest_file(path) == "remembered"
    assert digest_file(path, anew=True) == told
    path.write_text("jello")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the ctime tells
    assert digest_file(path) == hashlib.sha256(b"jello").hexdigest()


def test_what_never_ends_has_no_digest() -> None:
    os.mkfifo("pipe")

    for path in (Path("pipe"), Path("/dev/zero"), Path.cwd()):
        with pytest.raises(OSError, match="no regular file"):
            digest_file(path)


def test_the_memory_of_digests_is_the_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLLM_CACHE_DIR", str(tmp_path / "kept"))
    Path("a").write_text("a")
    digest_file(Path("a"))
    memory = tmp_path / "kept/digests.sqlite3"

    assert (mode(memory.parent), mode(memory)) == (0o700, 0o600)


@pytest.mark.parametrize("state", ["a file in its place", "not a database"])
def test_without_a_memory_of_digests_all_works(
    output: Path, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "bad-cache"
    if state == "not a database":
        cache.mkdir()
        (cache / "digests.sqlite3").write_bytes(b"x" * 4096)
    else:
        cache.write_text("a file")
    monkeypatch.setenv("MEDLLM_CACHE_DIR", str(cache))

    produce(job_of(output), Making())
    again = Making()
    produce(job_of(output), again)

    assert again.calls == 0


# A full disk


def test_a_full_disk_is_said_and_leaves_the_work_resumable(output: Path) -> None:
    def fill(folder: Path) -> Outcome:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "model.safetensors"))

    with pytest.raises(SetupError) as caught:
        produce(job_of(output), fill)

    assert caught.value.message == f"no space left on the disk of {output.parent}"
    assert caught.value.fix.startswith("free some space, then run the same command again")
    assert not output.exists()
    assert produce(job_of(output), Making()).counts.examples == 1


def test_other_errors_of_the_system_pass_through(output: Path) -> None:
    def fail(folder: Path) -> Outcome:
        raise OSError(errno.EIO, "input/output error")

    with pytest.raises(OSError, match="input/output error"):
        produce(job_of(output), fail)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a small file system can only be mounted by root")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"mount does not work here: {tried.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    def fill(folder: Path) -> Outcome:
        with (folder / "model.bin").open("wb") as file:
            for _ in range(64):
                file.write(bytes(1 << 16))
        return Outcome()

    output = small_disk / "model"
    with pytest.raises(SetupError, match="no space left on the disk of"):
        produce(job_of(output), fill)

    assert json.loads((small_disk / "model.unfinished/request.json").read_text())
    (small_disk / "model.unfinished/model.bin").unlink()
    assert produce(job_of(output), Making()).counts.examples == 1


def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    with (
        (small_disk / "ballast").open("wb", buffering=0) as ballast,
        pytest.raises(OSError, match="No space left"),
    ):
        while True:
            ballast.write(bytes(1 << 12))

    with pytest.raises(SetupError, match="no space left on the disk of"):
        produce(job_of(small_disk / "model"), Making("x" * 8192))


# Speed


def test_a_finished_artifact_is_recognised_in_no_time(output: Path, finished: Manifest) -> None:
    started = time.monotonic()
    for _ in range(20):
        produce(job_of(output), Making())

    assert time.monotonic() - started < 2


def test_results_that_are_no_numbers_are_left_empty_and_said(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def make(folder: Path) -> Outcome:
        return Outcome(results={"loss": float("nan"), "scores": [{"f1": float("-inf"), "n": 2}]})

    manifest = produce(job_of(output), make)

    assert manifest.results == {"loss": None, "scores": [{"f1": None, "n": 2}]}
    assert "left empty: results.loss, results.scores.0.f1" in capfd.readouterr().err
    assert "NaN" not in (output / NAME).read_text()
