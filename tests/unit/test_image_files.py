"""An image file is read as a reader would see it, or refused by what it lacks."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from medllm.errors import DataError
from medllm.models.image_files import read_image

SHADES = Image.linear_gradient("L").resize((16, 16))


def turned(path: Path) -> None:
    camera = Image.Exif()
    camera[0x112] = 6  # the top of the scene is on the right
    SHADES.convert("RGB").save(path, "PNG", exif=camera)


def deep(colours: int, channels: int) -> Callable[[Path], None]:
    """A PNG of 16 bits whose channels are all of 3,000, where 12 bits go to 4,095."""

    def write(path: Path) -> None:
        def chunk(name: bytes, data: bytes) -> bytes:
            body = name + data
            return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

        header = struct.pack(">IIBBBBB", 8, 8, 16, colours, 0, 0, 0)
        rows = (b"\0" + struct.pack(">H", 3000) * channels * 8) * 8
        parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))

    return write


def seen_through(path: Path) -> None:
    image = SHADES.convert("RGBA")
    image.putpixel((3, 3), (255, 255, 255, 0))
    image.save(path, "PNG")


def several(kind: str) -> Callable[[Path], None]:
    return lambda path: SHADES.save(path, kind, save_all=True, append_images=[SHADES.rotate(90)])


@pytest.mark.parametrize(
    "write",
    [
        lambda path: SHADES.save(path, "PNG"),
        lambda path: SHADES.convert("RGBA").save(path, "PNG"),  # all of it is opaque
        lambda path: SHADES.save(path, "PNG", transparency=1),  # a shade that no pixel has
        lambda path: SHADES.save(path, "TIFF"),
        lambda path: SHADES.save(path, "BMP"),
        lambda path: SHADES.save(path, "WEBP", lossless=True),
    ],
)
def test_shades_are_read_as_they_are_whatever_the_ending_says(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    assert 1 not in SHADES.tobytes()
    write(tmp_path / "scan.jpg")

    assert read_image(tmp_path / "scan.jpg", "t/1").tobytes() == SHADES.convert("RGB").tobytes()


def test_a_picture_on_its_side_is_turned(tmp_path: Path) -> None:
    turned(tmp_path / "scan.png")

    upright = SHADES.convert("RGB").transpose(Image.Transpose.ROTATE_270)
    assert read_image(tmp_path / "scan.png", "t/1").tobytes() == upright.tobytes()


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: Image.new("I;16", (8, 8), 3000).save(path, "PNG"), "has more than 8 bits"),
        (lambda path: Image.new("F", (8, 8), 0.5).save(path, "TIFF"), "has more than 8 bits"),
        (deep(2, 3), "has more than 8 bits"),
        (deep(4, 2), "has more than 8 bits"),
        (deep(6, 4), "has more than 8 bits"),
        (seen_through, "has transparent parts"),
        (lambda path: SHADES.convert("P").save(path, "PNG", transparency=40), "has transparent"),
        (lambda path: SHADES.convert("CMYK").save(path, "JPEG"), "has the colours CMYK"),
        (several("PNG"), "holds 2 pictures"),
        (several("GIF"), "holds 2 pictures"),
        (several("TIFF"), "holds 2 pictures"),
        (several("WEBP"), "holds 2 pictures"),
        (lambda path: Image.new("L", (400, 3)).save(path, "PNG"), "is 400 x 3 pixels small"),
        (lambda path: path.write_bytes(b""), "cannot be read: it is no PNG"),
        (lambda path: path.write_text("<html>"), "cannot be read: it is no PNG"),
        (lambda path: path.write_bytes(b"\0" * 128 + b"DICM"), "cannot be read: it is no PNG"),
        (lambda path: path.write_bytes(b"II*\0\x08\0\0\0\0\0\0\0\0\0"), "cannot be read"),
        (lambda path: None, "is missing"),
    ],
)
def test_what_a_reader_would_see_must_be_in_the_file(
    write: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "scan.png"
    write(path)

    with pytest.raises(DataError, match=f"^t/1: .*scan.png {says}") as caught:
        read_image(path, "t/1")

    assert "8 bits in grey or RGB" in caught.value.fix
    if path.is_file():
        with pytest.raises(DataError, match="^t/1: an image ") as sent:
            read_image(path.read_bytes(), "t/1")
        assert "object at" not in sent.value.message


def test_a_large_image_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("1", (9_500, 9_500)).save(tmp_path / "scan.png")  # above 89,478,485 pixels

    assert read_image(tmp_path / "scan.png", "t/1").size == (9_500, 9_500)
