"""Image files: opened one by one, and what a model could not learn from refused by name."""

from pathlib import Path
from typing import TYPE_CHECKING

from medllm.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

DEEP = ("I", "F")
"""How Pillow's modes of more than 8 bits a channel begin."""


def read_image(path: Path, row: str) -> "Image":
    """An image as RGB, turned as its camera says; `row` is the id of the example that names it.

    Raises:
        DataError: it is missing or broken, or has more than 8 bits a channel: which of them a
            reader would see is not in the file, and Pillow would cut all above 255 off.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            deep = image.mode.startswith(DEEP)
            if not deep:
                return ImageOps.exif_transpose(image).convert("RGB")
            reason = f"has more than 8 bits a channel ({image.mode})"
    except FileNotFoundError:
        reason = "is missing"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        reason = f"cannot be read: {str(problem).splitlines()[0]:.120}"
    fix = (
        "put it there as PNG or JPEG of 8 bits, windowed as a reader sees it; or leave the row out"
    )
    raise DataError(f"{row}: {path} {reason}", fix)
