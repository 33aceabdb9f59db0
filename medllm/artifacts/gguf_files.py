"""Which .gguf files are one model: alone, in a folder, or in the parts that llama.cpp splits."""

import re
from pathlib import Path

from medllm.errors import ArtifactError

IMATRIX = "imatrix.gguf"
PROJECTOR = "mmproj-F16.gguf"
"""What lies beside a quantized .gguf file and is no model: its importance matrix, and the part that
turns images or sound into what the model reads, by the name that llama.cpp's users know."""
_NO_MODEL = re.compile(r"(?i)(?:^|.*[._-])imatrix\.gguf|.*mmproj.*")
"""A model that was quantized with a matrix often has `imatrix` within its name."""
_PART = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<parts>(?!0{5})\d{5})\.gguf")


def gguf_in(path: Path) -> Path:
    """The file that llama.cpp opens of a .gguf model, or of a folder with one; else the path.

    Raises:
        ArtifactError: a part of it is missing.
    """
    if path.suffix == ".gguf" and path.is_file():
        return gguf_parts(path)[0]
    found = [] if (path / "config.json").is_file() else path.glob("*.gguf")
    firsts = {gguf_parts(file)[0] for file in found if not _NO_MODEL.fullmatch(file.name)}
    return firsts.pop() if len(firsts) == 1 else path


def gguf_parts(path: Path) -> list[Path]:
    """All files of the .gguf model that a file is a part of, which may be that file alone.

    llama.cpp is given the first, and opens the others by their names.

    Raises:
        ArtifactError: a part is missing.
    """
    part = _PART.fullmatch(path.name)
    if not part:
        return [path]
    numbers = range(1, int(part["parts"]) + 1)
    names = [f"{part['name']}-{number:05}-of-{part['parts']}.gguf" for number in numbers]
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        message = f"{path}: of {len(names)} parts of the model {len(missing)} are missing"
        raise ArtifactError(message, f"put {missing[0]} and all others beside it")
    return [path.with_name(name) for name in names]
