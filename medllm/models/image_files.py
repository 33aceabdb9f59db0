"""Image files: opened one by one, and what a model could not learn from refused by name."""

import hashlib
import re
import struct
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings

from medllm.artifacts.digest import digest_file
from medllm.data.example import read_examples
from medllm.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SENT = ("PNG", "JPEG")
"""What is read of images that somebody sent: Pillow's readers of other formats are many."""
READ = (*SENT, "TIFF", "BMP", "GIF", "WEBP")
"""Of files: formats in which Pillow tells how many bits a channel has."""
MOST_PIXELS = 36_000_000
"""Of an image that somebody sent: as RGB it takes 108 MB."""
FEWEST = 4
"""Pixels of a side: of three rows transformers cannot tell that they are no three channels."""
PLAIN = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"}
"""Pillow's modes that say what a reader sees."""
DEEP = re.compile(r";(?:16|32)[BLNSF]")
"""How Pillow calls the values of more than 8 bits that it reads into a mode of 8."""
BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error)
"""What Pillow raises of a file that is not whole."""


def read_image(file: Path | bytes, row: str) -> "Image":
    """An image as RGB, turned as its camera says; `row` is the id of the example that names it.

    `file` is where it lies, or what is in it: then a PNG or JPEG of a bounded size.

    Raises:
        DataError: it is missing or broken, or what a reader would see of it is not in the file.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    is_sent = isinstance(file, bytes)
    formats = SENT if is_sent else READ
    try:
        source = BytesIO(file) if isinstance(file, bytes) else file
        with (
            catch_warnings(category=Image.DecompressionBombWarning, action="ignore"),
            Image.open(source, formats=formats) as image,
        ):
            if is_sent and image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has more than {MOST_PIXELS:,} pixels")
            if not (reason := _why_unclear(image)):
                return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        reason = "is missing"
    except UnidentifiedImageError:  # its own words name an object in memory
        reason = f"cannot be read: it is no {', '.join(formats)}"
    except (*BROKEN, Image.DecompressionBombError) as problem:
        reason = f"cannot be read: {problem}".splitlines()[0][:140]
    fix = "as PNG or JPEG of 8 bits in grey or RGB, windowed as a reader sees it"
    if isinstance(file, bytes):
        raise DataError(f"{row}: an image {reason}", f"send it {fix}")
    raise DataError(f"{row}: {file} {reason}", f"put it there {fix}; or leave the row out")


def _why_unclear(image: "Image") -> str:
    """Why the file does not say what a reader sees; empty where it does.

    Pillow would cut 16 bits to 8, show the first of several pictures, and give transparent pixels
    the colour below, each without a word.
    """
    if image.mode[0] in "IF" or any(DEEP.search(str(tile)) for tile in getattr(image, "tile", ())):
        return f"has more than 8 bits per channel ({image.mode})"
    if image.mode not in PLAIN:
        return f"has the colours {image.mode}, which look as a profile says"
    pictures = getattr(image, "n_frames", 1)
    if pictures > 1 and image.format != "MPO":  # a phone's JPEG with a small copy, or its depths
        return f"holds {pictures} pictures"
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (
        255,
        255,
    ):
        return "has transparent parts, and does not say what is seen through them"
    if min(image.size) < FEWEST:
        return f"is {image.width} x {image.height} pixels small"
    return ""


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
