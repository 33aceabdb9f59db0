"""A calibration set and the model that it is for: its chat template, its vocabulary."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medllm.artifacts.manifest import Manifest
from medllm.calibrate.config import CalibrateConfig
from medllm.calibrate.verb import calibrate
from medllm.data.example import read_jsonl, write_jsonl
from medllm.data.mix import Mix
from medllm.errors import ArtifactError, DataError
from medllm.models.load import load_tokenizer, resolve_model
from medllm.quantize.calibration import Calibration
from medllm.quantize.config import QuantizeConfig
from medllm.quantize.holdouts import open_holdouts

OTHER_TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """Writes a calibration set of eight questions and answers for the built-in model."""

    def make(**settings: object) -> Path:
        bounds = {"samples": 8, "holdout_samples": 0, "min_tokens": 16, "max_tokens": 1024,
                  "mix": "quickstart"}  # fmt: skip
        config = CalibrateConfig(
            tokenizer="medllm/tiny",
            output=tmp_path / "set",
            **(bounds | settings),  # type: ignore[arg-type]
        )
        calibrate(config)
        return tmp_path / "set"

    return make


def with_template(model: Path, target: Path) -> Path:
    shutil.copytree(model, target, copy_function=shutil.copyfile)
    path = target / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": OTHER_TEMPLATE}))
    return target


def texts_for(model: Path, folder: Path) -> list[str]:
    """What the model's tokenizer makes of the set, as text again."""
    found = Calibration.open(resolve_model(str(model)), folder)
    tokenizer = load_tokenizer(str(model))
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in found.token_ids]


def test_a_holdout_that_is_short_of_texts_is_said(
    make_set: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_set(holdout_samples=5000)

    written = len([*read_jsonl(folder / "holdout_medical.jsonl")])
    told = f"holdout_medical.jsonl has {written} of 5000 texts: the validation split has no more"
    assert 0 < written < 5000
    assert told in capfd.readouterr().err


def test_the_same_template_is_not_rendered_again(
    tiny_model: Path, make_set: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_set()

    tokenizer = load_tokenizer(str(tiny_model))
    expected = [
        tokenizer.decode(
            tokenizer(row["text"], add_special_tokens=False)["input_ids"], skip_special_tokens=True
        )
        for row in read_jsonl(folder / "calibration.jsonl")
    ]
    assert texts_for(tiny_model, folder) == expected
    assert "rendered again" not in capfd.readouterr().err


def test_conversations_are_rendered_with_the_template_of_the_model(
    tiny_model: Path,
    make_set: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, model = make_set(), with_template(tiny_model, tmp_path / "model")
    rows = list(read_jsonl(folder / "calibration.jsonl"))
    parts = {row["id"]: row["messages"] for row in read_jsonl(folder / "parts.jsonl")}

    texts = texts_for(model, folder)

    assert "rendered again" in capfd.readouterr().err
    assert all(row.keys() == {"id", "text", "source", "type", "tokens"} for row in rows)
    for text, row in zip(texts, rows, strict=True):
        ((*_, question, answer),) = parts[row["id"]]
        assert text.strip().startswith("[user]")
        assert f"[assistant] {answer['content']}" in text
        assert question["content"][:40] in text
        assert question["content"] in row["text"]
        assert "<|user|>" not in text


def test_pieces_of_cut_texts_stay_as_they_are(
    tiny_model: Path, make_set: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_set(over_length="truncate", max_tokens=40)
    model = with_template(tiny_model, tmp_path / "model")

    assert texts_for(model, folder) == texts_for(tiny_model, folder)


def test_another_vocabulary_is_refused_though_all_lengths_are_the_same(
    tiny_model: Path, make_set: Callable[..., Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model, copy_function=shutil.copyfile)
    settings = json.loads(load_tokenizer(str(tiny_model)).backend_tokenizer.to_str())
    vocabulary = settings["model"]["vocab"]
    one, other = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (model / "tokenizer.json").write_text(json.dumps(settings))
    (model / "tokenizer.model").unlink()

    with pytest.raises(ArtifactError, match="made with another tokenizer") as caught:
        texts_for(model, make_set())

    assert "medllm calibrate --tokenizer" in caught.value.fix


def test_a_text_has_no_bos_that_plain_tokenizing_would_double(
    tiny_model: Path, make_set: Callable[..., Path], tmp_path: Path
) -> None:
    folder, tokenizer = make_set(holdout_samples=4), load_tokenizer(str(tiny_model))
    rows = list(read_jsonl(folder / "calibration.jsonl"))
    held_out = list(read_jsonl(folder / "holdout_medical.jsonl"))
    old = tmp_path / "old"  # as medllm 0.1 wrote it
    old.mkdir()
    write_jsonl(old / "calibration.jsonl", ({**row, "text": f"<s>{row['text']}"} for row in rows))

    model = resolve_model(str(tiny_model))
    ids = Calibration.open(model, folder).token_ids

    assert ids == Calibration.open(model, old).token_ids
    assert ids == [tokenizer(row["text"])["input_ids"] for row in rows]
    assert all(row.count(tokenizer.bos_token_id) == 1 for row in ids)
    assert all(row["text"].startswith("<|user|>") for row in (*rows, *held_out))
    lengths = [len(row) - 1 for row in ids]
    assert [row["tokens"] for row in rows] == lengths
    assert len(held_out) == 4


def test_the_texts_stand_in_a_plain_file_too(make_set: Callable[..., Path]) -> None:
    folder = make_set()

    plain = folder / "calibration.txt"
    texts = [row["text"] for row in read_jsonl(folder / "calibration.jsonl")]
    assert plain.read_text(encoding="utf-8") == "".join(f"{text}\n\n" for text in texts)
    assert plain.stat().st_mode & 0o777 == 0o600
    assert "calibration.txt" in {file.path for file in Manifest.read(folder).files}


def test_conversations_within_a_window_keep_their_bos(
    tiny_model: Path, make_set: Callable[..., Path]
) -> None:
    mix = {"shares": {"synthetic_radiology": 1}, "pack": ["synthetic_radiology"]}
    folder = make_set(mix=Mix.model_validate_json(json.dumps(mix)), samples=2, window_tokens=700)

    found = Calibration.open(resolve_model(str(tiny_model)), folder)
    parts = {row["id"]: row["parts"] for row in read_jsonl(folder / "parts.jsonl")}
    begin = load_tokenizer(str(tiny_model)).bos_token_id
    rows = list(read_jsonl(folder / "calibration.jsonl"))
    for row, ids in zip(rows, found.token_ids, strict=True):
        assert ids.count(begin) == len(parts[row["id"]]) > 1
        assert row["text"].startswith("<|user|>")
        assert 16 <= row["tokens"] <= 700


def test_what_calibrates_is_not_held_out_in_a_set_with_bos_either(
    tiny_model: Path, make_set: Callable[..., Path], tmp_path: Path
) -> None:
    folder, old = make_set(holdout_samples=4), tmp_path / "old"
    old.mkdir()
    rows = list(read_jsonl(folder / "holdout_medical.jsonl"))
    write_jsonl(old / "calibration.jsonl", ({**row, "text": f"<s>{row['text']}"} for row in rows))
    config = QuantizeConfig(model=str(tiny_model), calibration=old, holdouts=folder)
    calibration = Calibration.open(resolve_model(str(tiny_model)), old)

    with pytest.raises(DataError, match="4 of its texts are held out"):
        open_holdouts(config, calibration.source)
