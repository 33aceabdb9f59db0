"""What the machine refuses, as an error with a remedy: the last place where a command ends.

Only three kinds are caught here, whose cause is most likely not in the code: the system refuses
something (OSError), memory ends, or an input is nested deeper than Python's stack. `--debug` shows
where. Anything else is a bug, and keeps its traceback.
"""

import errno
import os
import traceback
from pathlib import Path

from medllm.errors import DataError, MedllmError, SetupError

Refusal = OSError | MemoryError | RecursionError

AGAIN = "then run the same command again"
FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"free some space, {AGAIN}"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), f"`ulimit -n 4096` allows more, {AGAIN}"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), f"check who may read and write it, {AGAIN}"),
    errno.ENOMEM: f"free memory, {AGAIN}",
    errno.EROFS: "choose a place that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What helps, by the number of the system's error."""
MAPPING = {errno.ENOMEM: "failed to map segment"}
OTHERWISE = "check the path; `medllm --debug …` shows where it happened"


def explain(problem: Refusal) -> MedllmError:
    """An error with a remedy for what the machine refused."""
    if isinstance(problem, MemoryError):
        fix = "free memory, or work on less at once (workers, batch size, length)"
        return SetupError("out of memory", fix)
    if isinstance(problem, RecursionError):
        return DataError("an input is nested too deeply", "`medllm --debug …` shows where")
    if _is_working_folder_gone():
        return SetupError("the working folder is gone", "change to a folder that exists")
    if problem.errno is None or problem.strerror is None:  # a library's own
        return SetupError(f"{str(problem).strip().partition(chr(10))[0]:.300}", OTHERWISE)
    named = isinstance(problem.filename, str | bytes)
    where = f"{os.fsdecode(problem.filename):.200}: " if named else ""
    reason = problem.strerror[:1].lower() + problem.strerror[1:]
    return SetupError(f"{where}{reason}", FIXES.get(problem.errno, OTHERWISE))


def explain_import(problem: ImportError) -> MedllmError | None:
    """The same for a library that the machine could not load; None for one that is not there."""
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        if os.strerror(number) in str(problem) or MAPPING.get(number, "\0") in str(problem):
            return explain(OSError(number, os.strerror(number)))
    return None


def let_go(problem: BaseException) -> None:
    """Give back what the frames of a MemoryError hold: to tell of it takes memory, too."""
    chain = [problem]
    while before := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(before)
    if any(isinstance(each, MemoryError) for each in chain):
        for each in chain:
            traceback.clear_frames(each.__traceback__)


def _is_working_folder_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False
