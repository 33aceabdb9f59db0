"""Image files: opened one by one, and what a model could not learn from refused by name."""

import hashlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from medllm.artifacts.digest import digest_file
from medllm.data.example import read_examples
from medllm.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SENT = ("PNG", "JPEG")
"""What is read of images that somebody sent: Pillow's readers of other formats are many."""
MOST_PIXELS = 36_000_000
"""Of an image that somebody sent: as RGB it takes 108 MB."""
DEEP = ("I", "F")
"""How Pillow's modes of more than 8 bits per channel begin."""


def read_image(file: Path | bytes, row: str) -> "Image":
    """An image as RGB, turned as its camera says; `row` is the id of the example that names it.

    `file` is where it lies, or what is in it: then a PNG or JPEG of a bounded size.

    Raises:
        DataError: it is missing or broken, or has more than 8 bits per channel: which of them a
            reader would see is not in the file, and Pillow would cut all above 255 off.
    """
    from PIL import Image, ImageOps

    is_sent = isinstance(file, bytes)
    try:
        source = BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(source, formats=SENT if is_sent else None) as image:
            deep = image.mode.startswith(DEEP)
            if is_sent and image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has more than {MOST_PIXELS:,} pixels")
            if not deep:
                return ImageOps.exif_transpose(image).convert("RGB")
            reason = f"has more than 8 bits per channel ({image.mode})"
    except FileNotFoundError:
        reason = "is missing"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        reason = f"cannot be read: {str(problem).splitlines()[0]:.120}"
    fix = "as PNG or JPEG of 8 bits, windowed as a reader sees it"
    if isinstance(file, bytes):
        raise DataError(f"{row}: an image {reason}", f"send it {fix}")
    raise DataError(f"{row}: {file} {reason}", f"put it there {fix}; or leave the row out")


def named_images(data: Path) -> tuple[Path, ...]:
    """The image files that the rows of a prepared folder name, each once, in the order of rows."""
    files = filter(Path.is_file, (data / f"{name}.jsonl" for name in ("train", "validation")))
    rows = (example for file in files for example in read_examples(file))
    return tuple(dict.fromkeys(data / image for row in rows for image in row.images))


def digest_images(images: Iterable[Path]) -> str:
    """One digest of what is in image files; an image that cannot be read counts as empty here."""
    total = hashlib.sha256()
    for image in images:
        try:
            total.update(f"{digest_file(image)}\n".encode())
        except OSError:
            total.update(b"\n")
    return total.hexdigest()
