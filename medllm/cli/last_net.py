"""What the machine refuses, as an error with a remedy: the last place where a command ends.

Only three kinds are caught here, whose cause is most likely not in the code: the system refuses
something (OSError), memory ends, or an input is nested deeper than Python's stack. `--debug` shows
where. Anything else is a bug, and keeps its traceback.
"""

import errno
import os
from pathlib import Path

from medllm.errors import DataError, MedllmError, SetupError

Refusal = OSError | MemoryError | RecursionError

FIXES = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some space, then run the same command again",
    errno.EMFILE: "allow more open files, as `ulimit -n 4096` does, then run it again",
    errno.ENFILE: "close other programs, then run the same command again",
    errno.ENOMEM: "free memory, then run the same command again",
    errno.EACCES: "check who may read and write it, then run the same command again",
    errno.EPERM: "check who may read and write it, then run the same command again",
    errno.EROFS: "choose a place that can be written",
    errno.EIO: "check the disk, then run the same command again",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What helps, by the number of the system's error."""
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
    where = f"{os.fsdecode(problem.filename):.200}: " if _names_a_file(problem) else ""
    reason = problem.strerror[:1].lower() + problem.strerror[1:]
    return SetupError(f"{where}{reason}", FIXES.get(problem.errno, OTHERWISE))


def explain_import(problem: ImportError) -> MedllmError | None:
    """The same for a library that the machine could not load; None for one that is not there."""
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        if os.strerror(number) in str(problem) or (
            number == errno.ENOMEM and "failed to map segment" in str(problem)
        ):
            return explain(OSError(number, os.strerror(number)))
    return None


def _names_a_file(problem: OSError) -> bool:
    return isinstance(problem.filename, str | bytes)


def _is_working_folder_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False
