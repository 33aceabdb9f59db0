"""A calibration set and the model that it is for: its chat template, its vocabulary."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medllm.calibrate.config import CalibrateConfig
from medllm.calibrate.verb import calibrate
from medllm.data.example import read_jsonl
from medllm.errors import ArtifactError
from medllm.models.load import load_tokenizer, resolve_model
from medllm.quantize.calibration import Calibration

OTHER_TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """Writes a calibration set of eight questions and answers for the built-in model."""

    def make(**settings: object) -> Path:
        bounds = {"samples": 8, "holdout_samples": 0, "min_tokens": 16, "max_tokens": 1024}
        config = CalibrateConfig(
            mix="quickstart",
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
