"""Whether an audit log is whole."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medllm.errors import ArtifactError
from medllm.serve.audit.chain import (
    CHECKPOINT_LINES,
    FIRST,
    SIGNED,
    Head,
    day_files,
    digest_line,
    read_line,
    render_line,
)
from medllm.serve.audit.signing import is_signed, read_public

MOST_FAULTS = 20
"""Named one by one; a log that was written anew would have one a line."""


@dataclass(slots=True)
class Checked:
    """What was found: all is well where there are no faults."""

    lines: int = 0
    signatures: int = 0
    begins_at: int = 1
    """The number of the first line: more than 1 where older files went after their time."""
    expired_to: int = 0
    """The last line of the files that went after their time, as the log itself tells."""
    head_checked: bool = False
    """Whether the end was compared with a head: else lines may have been cut off there."""
    meets_head: bool = False
    """Whether the line that the head tells of is there, as it tells."""
    torn_bytes: int = 0
    """Of a last line without an end: its writer was killed, or writes it just now."""
    unsigned: int = 0
    """Lines since the last signed one."""
    faults: list[str] = field(default_factory=list)

    def require(self) -> None:
        """Raises ArtifactError where there are faults."""
        if self.faults:
            message = "the log is not whole\n" + "\n".join(f"  {each}" for each in self.faults)
            raise ArtifactError(message, "compare it with a copy; keep it as it is")


def verify_log(folder: Path, head: Head | None = None, public_key: Path | None = None) -> Checked:
    """Check a log, in one pass.

    `head` is what is known of its end; without one, lines that were cut off there are not missed.
    `public_key` is the one that is trusted; the copy in the folder by default, which proves less.

    Raises:
        ArtifactError: there is no log in the folder, or a file cannot be read.
    """
    files = day_files(folder)
    if not files:
        raise ArtifactError(f"{folder} holds no audit log", "name the folder of the day files")
    public = read_public(public_key or folder / "public.pem")
    try:
        checked = Checked()
        last = _check_lines(files, public, head, checked)
        checked.faults += _missing_beginning(checked)
    except (OSError, ValueError) as problem:
        raise ArtifactError(f"{folder} cannot be checked: {problem}", "see the file") from problem
    if head:
        checked.head_checked = True
        if head.number > last.number:
            told = f"the head tells of {head.number} lines, and there are {last.number}"
            checked.faults.append(f"the end is missing: {told}")
        elif not checked.meets_head:
            checked.faults.append(f"line {head.number} is another one than the head tells of")
    return checked


def _check_lines(files: list[Path], public: bytes, head: Head | None, checked: Checked) -> Head:
    last: Head | None = None
    for place, line, content in _lines(files, checked):
        if len(checked.faults) >= MOST_FAULTS:
            checked.faults.append("… more of them")
            break
        checked.lines += 1
        own = [*_own_faults(line, content, public, checked), *_told_faults(line)]
        faults = [*own, *_misplaced(line, last, checked)]
        checked.faults += [f"{place}: {fault}" for fault in faults]
        last = Head(line["number"], line["hash"])
        if line["event"] == "expired":  # one of an older version tells names of files alone
            told = line.get("last_line", checked.begins_at - 1)
            checked.expired_to = told if isinstance(told, int) else 0
        # lines may follow: a writer that is killed has written one before the head
        checked.meets_head = checked.meets_head or last == head
    return last or Head(0, FIRST)


def _lines(files: list[Path], checked: Checked) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    for path in files:
        with path.open("rb") as file:
            for count, content in enumerate(file, 1):
                place = f"{path.name}:{count}"
                if path == files[-1] and not content.endswith(b"\n"):
                    checked.torn_bytes = len(content)
                elif line := read_line(content):
                    yield place, line, content
                else:
                    checked.faults.append(f"{place}: no line of a log")


def _own_faults(
    line: dict[str, Any], content: bytes, public: bytes, checked: Checked
) -> Iterator[str]:
    """What is wrong with a line by itself; also where it has no signature and should have one."""
    # the bytes, too: of a key that stands twice, readers may take the first or the last one
    if line["hash"] != digest_line(line) or content != render_line(line) + b"\n":
        yield "was altered"
    signature, checked.unsigned = line.get("signature"), checked.unsigned + 1
    if signature is not None:
        checked.signatures += 1
        checked.unsigned = 0
        if not is_signed(public, signature, f"{line['number']} {line['prev']}".encode()):
            yield "its signature is none of this log's key"
    elif line["event"] in SIGNED:
        yield f"a line {line['event']!r} without a signature"
    elif checked.unsigned == CHECKPOINT_LINES:
        yield f"none of {CHECKPOINT_LINES:,} lines is signed"


def _told_faults(line: dict[str, Any]) -> Iterator[str]:
    """What a server found at its start, and wrote down: the chain goes on whole from there."""
    if line["event"] == "gap":
        first, last = line["number"], line.get("lines_by_head")
        yield f"tells that lines {first} to {last} of before were cut off"
    elif line["event"] == "altered":
        yield f"tells that line {line.get('line')} was another one before"


def _misplaced(line: dict[str, Any], last: Head | None, checked: Checked) -> Iterator[str]:
    """How a line does not follow the one before."""
    if last is None:
        checked.begins_at = line["number"]
        if checked.begins_at == 1 and line["prev"] != FIRST:
            yield "is not the first line"
    elif line["number"] != last.number + 1:
        yield f"line {last.number + 1} is missing, or the order was changed"
    elif line["prev"] != last.digest:
        yield f"does not follow line {last.number} as it stands there"


def _missing_beginning(checked: Checked) -> Iterator[str]:
    """Lines before the first one that did not go after their time."""
    if checked.lines and checked.begins_at > checked.expired_to + 1:
        first, last = checked.expired_to + 1, checked.begins_at - 1
        yield f"lines {first} to {last} are missing, and no line tells that their time was over"
