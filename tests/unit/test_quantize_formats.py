"""What the formats take, how their folders are called, and what the flags stand for."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medllm.artifacts.manifest import BaseModelRef, FileEntry, Manifest, Parent
from medllm.artifacts.serving import serving_lines
from medllm.cli.quantize import FORMATS as NAMES
from medllm.cli.quantize import _formats
from medllm.errors import ConfigError
from medllm.models.load import ModelRef
from medllm.quantize.config import QuantizeConfig
from medllm.quantize.work import title_of


def read(*formats: dict[str, Any]) -> QuantizeConfig:
    return QuantizeConfig.model_validate_json(json.dumps({"formats": formats}))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "bits": ({"format": "gptq", "bits": 5}, "2, 3, 4 or 8"),
    "bits of awq": ({"format": "awq", "bits": 3}, "should be 4"),
    "group size": ({"format": "gptq", "group_size": 100}, "64, 128"),
    "group size of awq": ({"format": "awq", "group_size": 512}, "64 or 128"),
    "damping": ({"format": "gptq", "damp_percent": 1.5}, "less than 1"),
    "order": ({"format": "gptq", "desc_act": True, "act_group_aware": True}, "exclude each other"),
    "pattern": ({"format": "gptq", "dynamic": {"+:(": {"bits": 8}}}, "no regular expression"),
    "override": ({"format": "gptq", "dynamic": {"+:a": {"bit": 8}}}, "sets 'bit'; what can be set"),
    "left alone": ({"format": "gptq", "dynamic": {"-:a": {"bits": 8}}}, "leaves modules as they"),
    "nothing": ({"format": "gptq", "dynamic": {"a": {}}}, "'a' sets nothing"),
    "own bits": ({"format": "gptq", "dynamic": {"a": {"bits": 5}}}, "'a' bits: .*2, 3, 4 or 8"),
    "own order": ({"format": "gptq", "dynamic": {"a": {"sym": 3}}}, "'a' sym: .*boolean"),
    "double": ({"format": "bnb", "type": "int8", "bnb_4bit_use_double_quant": False}, "of nf4"),
    "type of bnb": ({"format": "bnb", "type": "fp4"}, "'nf4' or 'int8'"),
    "scheme": ({"format": "fp8", "scheme": "block"}, "'dynamic' or 'static'"),
    "smoothing": ({"format": "w8a8", "smoothing_strength": 2}, "less than or equal to 1"),
    "format": ({"format": "exl2"}, "gptq"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_no_library_takes_is_refused(case: str) -> None:
    settings, reason = WRONG[case]

    with pytest.raises(ValidationError, match=reason):
        read(settings)


def test_folders_tell_apart_what_one_compares() -> None:
    kinds: list[dict[str, Any]] = [
        *({"format": "gptq", "bits": bits} for bits in (2, 3, 4, 8)),
        {"format": "gptq", "group_size": 32},
        {"format": "gptq", "group_size": -1},
        {"format": "gptq", "desc_act": True},
        {"format": "gptq", "sym": False},
        {"format": "gptq", "dynamic": {"-:a": {}}},
        {"format": "awq"},
        {"format": "awq", "sym": True},
        {"format": "awq", "group_size": 64},
        *({"format": "bnb", "type": type_} for type_ in ("nf4", "int8")),
        {"format": "bnb", "bnb_4bit_use_double_quant": False},
        *({"format": "fp8", "scheme": scheme} for scheme in ("dynamic", "static")),
        {"format": "w8a8"},
        {"format": "w8a8", "smoothing_strength": None},
    ]

    folders = [choice.folder for choice in read(*kinds).formats]

    assert len(set(folders)) == len(kinds)
    assert folders[2] == "gptq-4bit"


@pytest.mark.parametrize(
    ("settings", "calibrates"),
    [
        ({"format": "gptq"}, True),
        ({"format": "awq"}, True),
        ({"format": "bnb"}, False),
        ({"format": "fp8"}, False),
        ({"format": "fp8", "scheme": "static"}, True),
        ({"format": "w8a8"}, True),
    ],
)
def test_only_what_calibrates_asks_for_a_calibration_set(
    settings: dict[str, Any], calibrates: bool
) -> None:
    config = read(settings)

    assert config.formats[0].needs_calibration is calibrates
    assert config.lacks_calibration is calibrates


# Flags


@pytest.mark.parametrize(
    ("names", "bits", "types", "expected"),
    [
        ([], None, [], []),
        ([], 3, [], [{"format": "gptq", "bits": 3}]),
        ([], None, ["Q8_0"], [{"format": "gguf", "type": "Q8_0"}]),
        ([], None, ["nf4"], [{"format": "bnb", "type": "nf4"}]),
        (["awq"], None, [], [{"format": "awq"}]),
        (["gptq", "awq"], 4, [], [{"format": "gptq", "bits": 4}, {"format": "awq", "bits": 4}]),
        (["gguf"], None, [], [{"format": "gguf", "type": "Q4_K_M"}]),
        (["fp8"], None, ["static"], [{"format": "fp8", "scheme": "static"}]),
        (["w8a8", "bnb"], None, ["int8", "nf4"], [
            {"format": "w8a8"}, {"format": "bnb", "type": "int8"}, {"format": "bnb", "type": "nf4"}
        ]),
    ],
)  # fmt: skip
def test_flags_stand_for_formats(
    names: list[str], bits: int | None, types: list[str], expected: list[dict[str, Any]]
) -> None:
    assert _formats(names, bits, types) == expected
    assert len(read(*expected).formats) == len(expected)


@pytest.mark.parametrize(
    ("names", "bits", "types", "message"),
    [
        (["exl2"], None, [], "unknown format 'exl2'"),
        (["gptq"], None, ["nf4"], "--type nf4 belongs to --format bnb"),
        (["bnb"], None, ["Q8_0"], "--type Q8_0 belongs to --format gguf"),
        (["fp8"], 8, [], "--bits belongs to --format gptq and awq"),
    ],
)
def test_flags_that_do_not_fit_are_errors(
    names: list[str], bits: int | None, types: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _formats(names, bits, types)


def test_the_flag_knows_every_format_of_a_recipe() -> None:
    for name in NAMES:
        assert read({"format": name}).formats[0].format == name


# Serving


def quantized(settings: dict[str, Any], *files: str) -> Manifest:
    return Manifest.model_validate_json(
        Manifest.model_construct(
            schema_=1,
            kind="quantized",
            format=settings["format"],
            identity="0",
            command="quantize",
            config={},
            settings={"formats": [read(settings).formats[0].model_dump(mode="json")]},
            files=tuple(FileEntry(path=path, bytes=1, sha256="0") for path in files),
        ).model_dump_json(by_alias=True)
    )


@pytest.mark.parametrize(
    ("settings", "half"),
    [
        ({"format": "gptq"}, False),
        ({"format": "gptq", "bits": 8}, False),
        ({"format": "gptq", "bits": 3}, True),
        ({"format": "gptq", "sym": False}, True),
        ({"format": "awq"}, False),
        ({"format": "awq", "sym": True}, True),
        ({"format": "bnb"}, False),
        ({"format": "fp8"}, False),
    ],
)
def test_vllm_gets_a_flag_only_where_it_needs_one(settings: dict[str, Any], half: bool) -> None:
    lines = serving_lines(quantized(settings), "runs/x")

    assert lines == [f"vllm serve runs/x{' --dtype half' if half else ''}"]


def test_a_gguf_is_served_by_llama_cpp_and_ollama() -> None:
    files = ("Modelfile", "imatrix.gguf", "model-Q8_0.gguf")
    manifest = quantized({"format": "gguf", "type": "Q8_0"}, *files)

    assert serving_lines(manifest, "x") == [
        "llama-server -m x/model-Q8_0.gguf -c 0",
        "ollama create my-model -f x/Modelfile",
    ]
    known = manifest.model_copy(update={"results": {"context_tokens": 131_072}})
    assert serving_lines(known, "x")[0] == "llama-server -m x/model-Q8_0.gguf -c 131072"


@pytest.mark.parametrize(
    ("base", "made_by", "recipe", "title"),
    [
        ("google/gemma-3-270m", "radiology", "edge-cpu", "radiology (gemma-3-270m fine-tuned)"),
        ("google/gemma-3-270m", None, "edge-cpu", "edge-cpu (gemma-3-270m)"),
        ("google/gemma-3-270m", None, None, "gemma-3-270m"),
        ("/data/models/ours", "", None, "ours fine-tuned"),
    ],
)
def test_a_gguf_is_called_as_the_recipe_that_made_the_model(
    base: str, made_by: str | None, recipe: str | None, title: str
) -> None:
    manifest = None
    if made_by is not None:
        made = quantized({"format": "gguf", "type": "F16"})
        manifest = made.model_copy(update={"config": {"recipe": made_by or None}})
    parent = Parent(kind="model", path="x", identity="0")
    model = ModelRef("x", Path("/tmp/9c1d"), manifest, parent, BaseModelRef(id=base))

    assert title_of(model, recipe) == title
