"""Which .gguf files are one model."""

from pathlib import Path

import pytest

from medllm.artifacts.gguf_files import IMATRIX, PROJECTOR, gguf_in, gguf_parts
from medllm.errors import ArtifactError
from medllm.models.load import resolve_model


def put(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(b"GGUF" + path.name.encode())
    return paths


PARTS = [f"m-Q8_0-0000{n}-of-00003.gguf" for n in (1, 2, 3)]


def test_parts_are_one_model_whichever_of_them_is_named(tmp_path: Path) -> None:
    parts = put(tmp_path, *PARTS)
    put(tmp_path, IMATRIX, PROJECTOR, "mmproj-model-bf16.gguf", "m.imatrix.gguf")

    assert gguf_in(tmp_path) == parts[0]
    assert {gguf_in(part) for part in parts} == {parts[0]}
    assert gguf_parts(parts[0]) == parts


@pytest.mark.parametrize("name", ["m-imatrix-Q4_K_M.gguf", "m-00001-of-00000.gguf", "m.i1.gguf"])
def test_a_name_that_looks_like_another_file_is_a_model(tmp_path: Path, name: str) -> None:
    (model,) = put(tmp_path, name)
    put(tmp_path, IMATRIX, PROJECTOR)

    assert gguf_in(tmp_path) == model
    assert gguf_parts(model) == [model]


def test_a_model_of_parts_is_known_by_all_of_them(tmp_path: Path) -> None:
    parts = put(tmp_path, *PARTS)
    whole = resolve_model(str(tmp_path))
    assert whole.weight_bytes == sum(part.stat().st_size for part in parts)
    assert resolve_model(str(parts[1])).parent == whole.parent

    parts[2].write_bytes(b"GGUF other")

    assert resolve_model(str(tmp_path)).parent.identity != whole.parent.identity


@pytest.mark.parametrize("missing", PARTS)
def test_a_missing_part_is_named(tmp_path: Path, missing: str) -> None:
    left = put(tmp_path, *(name for name in PARTS if name != missing))

    for named in (tmp_path, *left):
        with pytest.raises(ArtifactError, match="of 3 parts of the model 1 are missing") as caught:
            resolve_model(str(named))
        assert missing in caught.value.fix


def test_two_models_in_a_folder_are_not_chosen_between(tmp_path: Path) -> None:
    put(tmp_path, *PARTS, "other.gguf")

    with pytest.raises(ArtifactError, match=r"holds several \.gguf files"):
        resolve_model(str(tmp_path))
    assert gguf_in(tmp_path / "other.gguf") == tmp_path / "other.gguf"
