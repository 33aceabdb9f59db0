import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from medllm.errors import ArtifactError, SetupError
from medllm.serve.audit import chain as module
from medllm.serve.audit.chain import Chain, day_files, read_head
from medllm.serve.audit.signing import Signer
from medllm.serve.audit.verify import Checked, verify_log


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("key") / "signing.pem")


class Log:
    def __init__(self, root: Path, signer: Signer) -> None:
        self.folder, self.head, self.signer = root / "log", root / "heads" / "log.head", signer

    def write(self, lines: int) -> None:
        with closing(Chain(self.folder, self.head, self.signer)) as chain:
            chain.append("start", {})
            for number in range(lines):
                chain.append("answer", {"caller": f"ward-{number}", "ms": number})
            chain.sync()

    @property
    def file(self) -> Path:
        (path,) = day_files(self.folder)
        return path

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()

    def replace(self, lines: list[str]) -> None:
        self.file.write_text("".join(line + "\n" for line in lines))

    def check(self) -> Checked:
        return verify_log(self.folder, read_head(self.head))


@pytest.fixture
def log(tmp_path: Path, signer: Signer) -> Log:
    return Log(tmp_path, signer)


def test_a_log_is_whole_also_when_several_servers_wrote_it(log: Log) -> None:
    log.write(3)
    log.write(2)

    checked = log.check()

    assert checked.faults == []
    assert (checked.lines, checked.signatures, checked.begins_at) == (7, 2, 1)
    assert checked.head_checked
    assert log.file.stat().st_mode & 0o777 == 0o600
    assert [json.loads(line)["number"] for line in log.lines()] == list(range(1, 8))


def altered(lines: list[str]) -> list[str]:
    return [line.replace("ward-1", "ward-9") for line in lines]


def rewritten(lines: list[str]) -> list[str]:
    """With a digest that is right again; the lines that follow show it."""
    line = json.loads(lines[2]) | {"caller": "ward-9"}
    line["hash"] = module.digest_line(line)
    return [*lines[:2], json.dumps(line), *lines[3:]]


def told_twice(lines: list[str]) -> list[str]:
    """A reader that takes the first of two equal keys reads something else."""
    return [*lines[:2], lines[2].replace("{", '{"caller": "ward-9", ', 1), *lines[3:]]


def without_signature(lines: list[str]) -> list[str]:
    """A chain that is right again from there on, by whoever has not the key."""
    chained: list[str] = []
    prev = module.FIRST
    for text in lines:
        line = json.loads(text)
        line.pop("signature", None)
        line["prev"] = prev
        line["hash"] = prev = module.digest_line(line)
        chained.append(json.dumps(line))
    return chained


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (altered, "was altered"),
        (rewritten, "does not follow line 3 as it stands there"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3 is missing, or the order was changed"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "the order was changed"),
        (lambda lines: lines[1:], "lines 1 to 1 are missing, and no line tells that their time"),
        (lambda lines: lines[:-1], "the end is missing: the head tells of 5 lines"),
        (lambda lines: [*lines[:2], "{", *lines[3:]], "no line of a log"),
        (lambda lines: [*lines[:2], "[]", *lines[3:]], "no line of a log"),
        (lambda lines: [*lines, lines[-1]], "line 6 is missing, or the order was changed"),
        (told_twice, "was altered"),
        (lambda lines: [*lines[:2], lines[2] + " ", *lines[3:]], "was altered"),
        (without_signature, "a line 'start' without a signature"),
        (lambda lines: [lines[0].replace('ature": "', 'ature": "x'), *lines[1:]], "its signature"),
        (lambda lines: [lines[0].replace(": 1,", ': "1",'), *lines[1:]], "no line of a log"),
    ],
)
def test_what_was_done_to_a_log_is_found(change: object, fault: str, log: Log) -> None:
    log.write(4)
    assert callable(change)
    lines = change(log.lines())
    log.replace(lines)

    assert any(fault in each for each in log.check().faults), log.check().faults


def test_a_chain_written_anew_has_no_signature_of_the_key(
    log: Log, tmp_path: Path, signer: Signer
) -> None:
    log.write(2)
    forged = Log(tmp_path / "forged", Signer(tmp_path / "other.pem"))
    forged.write(2)
    key = tmp_path / "public.pem"
    key.write_bytes(signer.public_pem)

    faults = verify_log(forged.folder, read_head(log.head), key).faults

    assert any("its signature is none of this log's key" in each for each in faults)
    assert any("is another one than the head tells of" in each for each in faults)


def test_a_file_that_is_no_public_key_is_named(log: Log, tmp_path: Path) -> None:
    log.write(1)
    (tmp_path / "notes.pem").write_text("no key")
    for name in ("notes.pem", "nothing.pem"):
        with pytest.raises(ArtifactError, match=f"{name} holds no public key") as raised:
            verify_log(log.folder, None, tmp_path / name)
        assert raised.value.fix == "name another with --public-key"


def test_a_line_that_a_killed_server_left_torn_is_cut_off_and_told(log: Log) -> None:
    log.write(2)
    with log.file.open("a") as file:
        file.write('{"number": 4, "ti')

    log.write(1)

    assert log.check().faults == []
    assert [json.loads(line).get("torn_bytes") for line in log.lines()][3] == 17


def test_a_server_killed_between_line_and_head_leaves_a_whole_log(log: Log) -> None:
    log.write(2)
    before = log.head.read_bytes()
    log.write(1)
    log.head.write_bytes(before)

    assert log.check().faults == []


def test_lines_cut_off_between_two_servers_are_told_by_the_next(
    log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    log.write(4)
    log.replace(log.lines()[:-2])

    log.write(1)

    assert "lacks lines that were there" in capfd.readouterr().err
    gap = json.loads(log.lines()[3])
    assert (gap["event"], gap["lines_by_head"], gap["lines_found"]) == ("gap", 5, 3)
    assert [each.partition(":4: ")[2] for each in log.check().faults] == [
        "tells that lines 4 to 5 of before were cut off"
    ]


def test_a_log_has_one_writer(log: Log) -> None:
    with closing(Chain(log.folder, log.head, log.signer)):  # noqa: SIM117
        with pytest.raises(SetupError, match="another server writes the audit log"):
            Chain(log.folder, log.head, log.signer)
    Chain(log.folder, log.head, log.signer).close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, signer: Signer) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SetupError, match="cannot be written"):
        Chain(tmp_path / "file", tmp_path / "head", signer)


def days(monkeypatch: pytest.MonkeyPatch) -> Iterator[date]:
    day, pauses = date(2026, 1, 30), iter((100, 100, 1))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "datetime":  # type: ignore[override]
            return datetime(day.year, day.month, day.day, tzinfo=UTC)

    monkeypatch.setattr(module, "datetime", Clock)
    while True:
        yield day
        day += timedelta(days=next(pauses))


def test_a_log_goes_on_over_days_and_what_is_old_goes(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, day in zip(range(4), days(monkeypatch), strict=False):
        log.write(2)
        assert day.isoformat() in {path.stem for path in day_files(log.folder)}

    *_, before, last = day_files(log.folder)
    assert len(day_files(log.folder)) == 3
    checked = log.check()
    assert checked.faults == []
    assert (checked.begins_at, checked.expired_to) == (4, 3)
    expired = [line for line in map(json.loads, last.read_text().splitlines()) if "files" in line]
    assert [(line["event"], line["files"]) for line in expired] == [
        ("expired", ["2026-01-30.jsonl"])
    ]
    assert "expired" not in before.read_text()

    day_files(log.folder)[0].unlink()  # and not by time
    assert "lines 4 to 6 are missing" in log.check().faults[0]


def test_a_clock_that_goes_far_ahead_removes_nothing_at_once(
    log: Log, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for _, _ in zip(range(3), days(monkeypatch), strict=False):
        log.write(1)

    assert len(day_files(log.folder)) == 3
    assert "old files are kept until the day after" in capfd.readouterr().err


def test_a_log_goes_on_once_the_disk_takes_the_file_of_a_new_day(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = days(monkeypatch)
    next(clock)
    with closing(Chain(log.folder, log.head, log.signer)) as chain:
        chain.append("start", {})
        day = next(clock)
        in_the_way = log.folder / f"{day}.jsonl"
        in_the_way.mkdir()
        for _ in range(2):
            with pytest.raises(OSError):
                chain.append("answer", {})
        in_the_way.rmdir()
        chain.append("answer", {})
        chain.sync()

    checked = log.check()
    assert (checked.faults, checked.lines) == ([], 2)


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no audit log"):
        verify_log(tmp_path)
    (tmp_path / "2026-01-01.jsonl").write_text("{}\n")
    with pytest.raises(ArtifactError, match="public.pem holds no public key"):
        verify_log(tmp_path)


def test_a_signing_key_is_for_its_owner_alone_and_must_be_one(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    first = Signer(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer(path).public_pem == first.public_pem
    path.write_text("none")
    with pytest.raises(SetupError, match="cannot be used to sign"):
        Signer(path)


def test_a_line_that_is_being_written_is_no_fault(log: Log) -> None:
    log.write(2)
    with log.file.open("a") as file:
        file.write('{"number": 4, "ti')

    checked = log.check()

    assert (checked.faults, checked.torn_bytes, checked.lines) == ([], 17, 3)


def test_an_end_that_was_written_anew_between_two_servers_is_told_by_the_next(
    log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    log.write(4)
    lines = log.lines()
    last = json.loads(lines[-1]) | {"caller": "ward-9"}
    last["hash"] = module.digest_line(last)
    log.replace([*lines[:-1], json.dumps(last)])

    log.write(1)

    assert "was altered" in capfd.readouterr().err
    told = json.loads(log.lines()[5])
    assert (told["event"], told["line"]) == ("altered", 5)
    assert told["hash_by_head"] == json.loads(lines[-1])["hash"]
    assert "signature" in told
    log.write(1)
    assert json.loads(log.lines()[8])["event"] == "start"  # told once
    assert [each.partition(":6: ")[2] for each in log.check().faults] == [
        "tells that line 5 was another one before"
    ]


def test_a_log_whose_end_is_no_line_is_not_continued(log: Log) -> None:
    log.write(1)
    with log.file.open("a") as file:
        file.write("none\n")
    with pytest.raises(SetupError, match="cannot be continued: the last line of"):
        log.write(1)
    log.replace(log.lines()[:-1])
    log.head.write_text("none")
    with pytest.raises(SetupError, match="cannot be continued"):
        log.write(1)


def test_a_line_that_a_full_disk_takes_half_of_is_taken_back(log: Log) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(Chain(log.folder, log.head, log.signer)) as chain:
        chain.append("start", {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.file.stat().st_size + 100, usual[1]))
        try:
            with pytest.raises(OSError):
                chain.append("answer", {"caller": "ward-1" * 20})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        chain.append("answer", {"caller": "ward-2"})
        chain.sync()

    assert log.check().faults == []
    assert [json.loads(line)["event"] for line in log.lines()] == ["start", "answer"]


def test_the_head_tells_of_nothing_that_is_not_on_the_disk(log: Log) -> None:
    with closing(Chain(log.folder, log.head, log.signer)) as chain:
        chain.append("start", {})
        assert read_head(log.head) is None
        chain.sync()
        assert read_head(log.head) == chain.last


WRITER = """
import sys
from pathlib import Path
from medllm.serve.audit.chain import Chain
from medllm.serve.audit.signing import Signer
root = Path(sys.argv[1])
chain = Chain(root / "log", root / "heads" / "log.head", Signer(root / "signing.pem"))
chain.append("start", {})
while True:
    chain.append("answer", {"text": "x" * 20_000})
    chain.sync()
    print(chain.last.number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_every_line_that_it_had_synced(tmp_path: Path) -> None:
    log = Log(tmp_path, Signer(tmp_path / "signing.pem"))
    told = 0
    for lines in (1, 7, 20):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout
            for _ in range(lines):
                told = int(writer.stdout.readline())
            writer.kill()
            told = int((writer.stdout.read().split("\n")[:-1] or [told])[-1])
        checked = log.check()
        assert checked.faults == []
        assert checked.lines >= told

    log.write(1)

    assert log.check().faults == []
    assert log.check().torn_bytes == 0


def test_lines_go_on_where_the_clock_was_set_back(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, _ in zip(range(2), days(monkeypatch), strict=False):
        log.write(1)
    next(days(monkeypatch))  # the first day again

    log.write(1)

    assert log.check().faults == []
    assert len(day_files(log.folder)) == 2


def test_a_log_is_kept_as_long_as_is_said(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    for _, _ in zip(range(3), days(monkeypatch), strict=False):
        with closing(Chain(log.folder, log.head, log.signer, kept_days=365)) as chain:
            chain.append("start", {})
            chain.sync()
    assert len(day_files(log.folder)) == 3
