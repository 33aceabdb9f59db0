"""The proof beside a quantized model, on the tiny model."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from converted import after_conversion
from unchanged import unchanged

from medllm.artifacts.manifest import Manifest
from medllm.artifacts.verify import verify_artifact
from medllm.cli.main import run_command
from medllm.data.example import write_jsonl
from medllm.data.generators.radiology import build_example
from medllm.engines.base import BLOCK_TOKENS, ScoreRequest
from medllm.engines.llama_cpp import LlamaCppEngine
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.engines.open import InProcess, open_model
from medllm.errors import ArtifactError, ConfigError, DataError, GateError, SetupError
from medllm.measures.divergence import compare_document, summarize_divergence
from medllm.models.chat.template import encode_text
from medllm.models.load import resolve_model
from medllm.quantize.config import GgufFormat, QuantizeConfig, QuantizeGate
from medllm.quantize.holdouts import open_holdouts
from medllm.quantize.quality.reference import Reference
from medllm.quantize.verb import quantize

try:
    require_llama_cpp()
    converter_script()
except SetupError as problem:
    pytest.skip(f"{problem.message}: {problem.fix}", allow_module_level=True)

MARKER = "XQZ-MARKER"
TYPES = ("Q8_0", "Q4_K_M")
GENERAL = (
    "In the morning they walked to the market, bought bread, and nobody spoke a word.",
    "The train was late again; so the children counted the boats on the river instead.",
    "Once the snow had melted, the old road over the hills could be used by carts.",
)


def invent_rows(kind: str, texts: list[str]) -> list[dict[str, Any]]:
    return [
        {"id": f"{kind}/{n}", "text": text, "source": "test", "type": kind}
        for n, text in enumerate(texts)
    ]


def report_texts(numbers: range) -> list[str]:
    return [f"{MARKER} {build_example(3, number).text}" for number in numbers]


def write_set(folder: Path) -> Path:
    """What `medllm calibrate` writes, as far as it is read here."""
    folder.mkdir()
    write_jsonl(folder / "calibration.jsonl", invent_rows("set", report_texts(range(4))))
    write_jsonl(
        folder / "holdout_medical.jsonl", invent_rows("medical", report_texts(range(4, 14)))
    )
    write_jsonl(folder / "holdout_general.jsonl", invent_rows("general", list(GENERAL)))
    return folder


@dataclass(frozen=True)
class Made:
    """Two quantized models, and the folder of the texts that they were compared on."""

    texts: Path
    output: Path

    def manifest(self, name: str) -> Manifest:
        return Manifest.read(self.output / f"gguf-{name.lower()}")

    def quality(self, name: str) -> dict[str, Any]:
        path = self.output / f"gguf-{name.lower()}" / "quality.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def made(
    tiny_model: Path, tiny_f16: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    home = tmp_path_factory.mktemp("quality")
    texts = write_set(home / "set")
    formats = tuple(GgufFormat(type=name) for name in TYPES)
    config = QuantizeConfig(
        model=str(tiny_model), calibration=texts, formats=formats, output=home / "made"
    )
    quantize(after_conversion(config, tiny_f16))
    with unchanged(texts), unchanged(home / "made/gguf-q8_0"), unchanged(home / "made/gguf-q4_k_m"):
        yield Made(texts, home / "made")


@pytest.fixture(scope="module")
def parent(tiny_model: Path) -> InProcess:
    return open_model(resolve_model(str(tiny_model)))


@pytest.fixture(scope="module")
def f16(tiny_f16: Path) -> LlamaCppEngine:
    return LlamaCppEngine(tiny_f16)


@pytest.fixture(scope="module")
def long_text(parent: InProcess) -> list[int]:
    """More than two blocks of tokens."""
    ids = encode_text(parent, " ".join(report_texts(range(20, 50))))
    return ids[: 2 * BLOCK_TOKENS + 7]


# The engines


def test_distributions_are_whole_and_come_in_blocks(
    parent: InProcess, f16: LlamaCppEngine, long_text: list[int]
) -> None:
    for engine in (parent, f16):
        blocks = list(engine.log_probs(long_text))

        assert [len(block) for block in blocks] == [BLOCK_TOKENS, BLOCK_TOKENS, 7]
        assert {block.dtype for block in blocks} == {np.dtype("float32")}
        assert np.exp(blocks[1].astype(np.float64)).sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_both_engines_expect_the_same(
    parent: InProcess, f16: LlamaCppEngine, long_text: list[int]
) -> None:
    ours, theirs = (np.concatenate(list(each.log_probs(long_text))) for each in (parent, f16))

    assert np.abs(ours - theirs).max() < 0.05, "F16 rounds weights and activations"
    assert np.abs(ours - theirs).mean() < 0.005
    found = summarize_divergence([compare_document(parent, f16, "a", long_text)])
    assert found.kl_mean.value < 1e-4
    assert found.top1_agreement.value > 0.95


def test_distributions_are_those_that_score_reads(
    parent: InProcess, f16: LlamaCppEngine, long_text: list[int]
) -> None:
    whole = ScoreRequest(tuple(long_text[:1]), tuple(long_text[1:]))
    for engine in (parent, f16):
        rows = np.concatenate(list(engine.log_probs(long_text[:-1])))
        expected = rows[range(len(rows)), long_text[1:]].astype(np.float64)

        (score,) = engine.score([whole])

        assert expected.sum() / score.tokens == pytest.approx(
            score.logprob / score.tokens, abs=1e-3
        )


# What lies beside a quantized model


def test_more_bits_are_nearer_to_the_parent(made: Made) -> None:
    fine, coarse = (made.manifest(name).results for name in TYPES)

    assert 0 < fine["kl_mean"] < coarse["kl_mean"]
    assert 0 < fine["kl_median"] <= fine["kl_p99"] < coarse["kl_p99"]
    assert fine["top1_agreement"] > coarse["top1_agreement"]
    assert fine["bits_per_weight"] > coarse["bits_per_weight"] > 4
    for kind in ("medical", "general"):
        name = f"perplexity_{kind}_parent"
        assert fine[name] == coarse[name], "the parent is the same"


def test_the_perplexity_is_that_of_scoring_the_same_tokens(made: Made, parent: InProcess) -> None:
    quantized = LlamaCppEngine(made.output / "gguf-q8_0/model-Q8_0.gguf")
    rows = [tuple(encode_text(parent, text)) for text in GENERAL]
    requests = [ScoreRequest(row[:1], row[1:]) for row in rows]
    results = made.manifest("Q8_0").results

    for engine, name in ((quantized, ""), (parent, "_parent")):
        scores = engine.score(requests)
        nats = -sum(score.logprob for score in scores) / sum(score.tokens for score in scores)
        assert math.log(results[f"perplexity_general{name}"]) == pytest.approx(nats, abs=1e-3)


def test_the_probes_say_how_many_and_how_sure(made: Made) -> None:
    quality = made.quality("Q4_K_M")

    assert quality["texts"]["medical"]["documents"] == 10
    assert quality["texts"]["general"]["documents"] == 3
    tokens = {kind: found["tokens"] for kind, found in quality["texts"].items()}
    assert tokens["all"] == tokens["medical"] + tokens["general"]
    assert quality["terms"].keys() <= {"rare", "occasional", "frequent"}
    assert quality["terms"]["rare"]["occurrences"] >= quality["terms"]["rare"]["terms"] > 0
    lost = [found["nats_lost"] for found in (*quality["terms"].values(), quality["texts"]["all"])]
    for each in lost:
        assert each["low"] is None or each["low"] <= each["value"] <= each["high"]
    assert lost[-1]["low"] is not None, "of 13 texts"
    names = quality["look_alikes"]
    assert names["parent"]["sentences"] == len(names["parent"]["margins"]) >= 60
    right = names["quantized"]["right"]
    assert right["low"] < 0.5 < right["high"], "a random model guesses"


def test_no_text_of_the_holdouts_is_in_what_is_written(made: Made) -> None:
    for name in TYPES:
        folder = made.output / f"gguf-{name.lower()}"
        for file in ("quality.json", "quality.html", "medllm.json", "README.md", "run.log"):
            written = (folder / file).read_text(encoding="utf-8")
            assert MARKER not in written
            assert "walked to the market" not in written
        assert "<svg" in (folder / "quality.html").read_text(encoding="utf-8")


def test_the_proof_belongs_to_the_artifact_and_times_do_not(
    made: Made, tiny_f16: Path, tmp_path: Path
) -> None:
    for name in TYPES:
        manifest = verify_artifact(made.output / f"gguf-{name.lower()}").manifest
        files = {file.path for file in manifest.files}
        assert "quality.json" in files
        assert "quality.html" not in files
        assert manifest.results["tokens_per_second"] > 0
    assert (
        not {"load_seconds", "tokens_per_second", "peak_memory_gib"} & made.quality("Q8_0").keys()
    )

    config = made.manifest("Q8_0").config
    one = QuantizeConfig(
        model=config["model"],
        calibration=made.texts,
        formats=(GgufFormat(type="Q8_0"),),
        output=tmp_path / "again",
    )
    (again,) = quantize(after_conversion(one, tiny_f16))
    assert again.identity == made.manifest("Q8_0").identity
    alone, shared = (home / "gguf-q8_0" for home in (tmp_path / "again", made.output))
    for home, expected in ((alone, 0), (shared, 1)):
        log = (home / "run.log").read_text(encoding="utf-8")
        assert log.count("one pass of the parent for 2 formats") == expected
    assert (alone / "quality.json").read_bytes() == (shared / "quality.json").read_bytes(), (
        "block by block or from disk: to the bit"
    )


def test_a_kept_pass_is_what_the_parent_says_and_outlives_a_stopped_command(
    tiny_model: Path, tmp_path: Path, made: Made, parent: InProcess
) -> None:
    model = resolve_model(str(tiny_model))
    config = QuantizeConfig(quality_texts=3, holdouts=made.texts)
    holdouts = open_holdouts(config, None)
    fewer = open_holdouts(config.model_copy(update={"quality_texts": 2}), None)
    assert holdouts and fewer

    with Reference(model, holdouts, tmp_path, formats=2).opened() as first:
        names = first.names
        for document in first.documents:
            kept = list(first.expecting.log_probs(document.ids[:-1]))
            live = list(parent.log_probs(document.ids[:-1]))
            assert all(map(np.array_equal, kept, live))
    numbers = tmp_path / "parent.f32"
    assert numbers.stat().st_mode & 0o777 == 0o600
    written = numbers.stat().st_mtime_ns

    with Reference(model, holdouts, tmp_path, formats=1).opened() as again:
        assert not hasattr(again.expecting, "score"), "no engine: it is read from disk"
        assert again.names == names
    with Reference(model, fewer, tmp_path, formats=1).opened() as other:
        assert hasattr(other.expecting, "score"), "other texts were not kept"
    assert numbers.stat().st_mtime_ns == written


def test_a_pass_that_was_not_finished_is_not_used(
    tiny_model: Path, tmp_path: Path, made: Made
) -> None:
    holdouts = open_holdouts(QuantizeConfig(quality_texts=1, holdouts=made.texts), None)
    assert holdouts
    (tmp_path / "parent.f32").write_bytes(b"\0" * 4096)

    reference = Reference(resolve_model(str(tiny_model)), holdouts, tmp_path, formats=1)
    with reference.opened() as found:
        assert hasattr(found.expecting, "score")


def test_a_gate_fails_twice_and_nothing_is_made_twice(
    tiny_model: Path, made: Made, capfd: pytest.CaptureFixture[str]
) -> None:
    kls = [made.manifest(name).results["kl_mean"] for name in TYPES]
    config = QuantizeConfig(
        model=str(tiny_model),
        calibration=made.texts,
        formats=tuple(GgufFormat(type=name) for name in TYPES),
        output=made.output,
        gate=QuantizeGate(max_kl=sum(kls) / 2),
    )
    before = [made.manifest(name) for name in TYPES]

    for _ in range(2):
        with pytest.raises(GateError, match="gguf-q4_k_m: kl ") as raised:
            quantize(config)
        assert "q8_0" not in raised.value.message
        told = capfd.readouterr()
        assert told.err.count("is up to date") == 2
        assert "one pass" not in told.err
        assert "the model" in told.out, "the table over all formats"
    assert [made.manifest(name) for name in TYPES] == before
    outcome = json.loads((made.output / "gate.json").read_text(encoding="utf-8"))
    assert [check["passed"] for check in outcome["checks"]] == [True, False]
    assert not list(made.output.glob(".shared-*"))


def test_a_gate_without_holdouts_is_refused_before_the_work(
    tiny_model: Path, tmp_path: Path
) -> None:
    texts = write_set(tmp_path / "set")
    (texts / "holdout_medical.jsonl").unlink()
    config = QuantizeConfig(
        model=str(tiny_model),
        calibration=texts,
        formats=(GgufFormat(type="Q8_0"),),
        output=tmp_path / "made",
        gate=QuantizeGate(max_perplexity_increase=0.1),
    )

    with pytest.raises(ConfigError, match="no held-out medical text"):
        quantize(config)

    assert not (tmp_path / "made").exists()


def test_a_text_that_calibrates_does_not_judge(tiny_model: Path, tmp_path: Path) -> None:
    texts, others = write_set(tmp_path / "set"), write_set(tmp_path / "others")
    write_jsonl(others / "holdout_medical.jsonl", invent_rows("medical", report_texts(range(2))))
    config = QuantizeConfig(
        model=str(tiny_model),
        calibration=texts,
        holdouts=others,
        formats=(GgufFormat(type="Q8_0"),),
        output=tmp_path / "made",
    )

    with pytest.raises(DataError, match="2 of its texts are held out"):
        quantize(config)


def test_without_holdouts_it_is_said_once_and_quality_can_be_turned_off(
    tiny_model: Path, tiny_f16: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    formats = tuple(GgufFormat(type=name) for name in TYPES)
    config = QuantizeConfig(model=str(tiny_model), formats=formats, output=tmp_path / "one")

    plain, _ = quantize(after_conversion(config, tiny_f16))

    assert capfd.readouterr().err.count("quality is not measured") == 1
    assert "kl_mean" not in plain.results
    texts = write_set(tmp_path / "set")
    off = config.model_copy(
        update={"output": tmp_path / "two", "calibration": texts, "quality": False}
    )
    (first, _) = quantize(after_conversion(off, tiny_f16))
    assert "quality is not measured" not in capfd.readouterr().err
    assert "kl_mean" not in first.results
    assert not list((tmp_path / "two").rglob("quality.*"))
    assert [parent.identity for parent in first.parents] == [
        parent.identity for parent in plain.parents
    ]


def test_texts_are_limited_and_drawn_from_all_sources(
    tiny_model: Path, tiny_f16: Path, tmp_path: Path, made: Made
) -> None:
    config = QuantizeConfig(
        model=str(tiny_model),
        calibration=made.texts,
        formats=(GgufFormat(type="Q8_0"),),
        quality_texts=2,
        output=tmp_path / "few",
    )
    (limited,) = quantize(after_conversion(config, tiny_f16))

    path = tmp_path / "few/gguf-q8_0/quality.json"
    texts = json.loads(path.read_text(encoding="utf-8"))["texts"]
    assert {kind: found["documents"] for kind, found in texts.items()} == {
        "medical": 2,
        "general": 2,
        "all": 4,
    }
    assert limited.identity != made.manifest("Q8_0").identity


def test_a_broken_model_is_no_result(
    tiny_model: Path, tiny_f16: Path, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medllm.engines import llama_cpp

    real = llama_cpp.log_softmax
    monkeypatch.setattr(llama_cpp, "log_softmax", lambda rows, axis: real(rows, axis) * np.nan)

    config = QuantizeConfig(
        model=str(tiny_model),
        calibration=made.texts,
        formats=(GgufFormat(type="Q8_0"),),
        output=tmp_path / "broken",
    )

    with pytest.raises(ArtifactError, match="broken"):
        quantize(after_conversion(config, tiny_f16))

    assert not (tmp_path / "broken/gguf-q8_0").exists()


def test_a_holdout_in_another_form_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    texts = write_set(tmp_path / "set")
    write_jsonl(texts / "holdout_medical.jsonl", [{"id": "a", "question": "?"}])
    config = QuantizeConfig(
        model=str(tiny_model),
        calibration=texts,
        formats=(GgufFormat(type="Q8_0"),),
        output=tmp_path / "made",
    )

    with pytest.raises(DataError, match="no text"):
        quantize(config)


@pytest.mark.usefixtures("converter")
def test_a_model_named_by_flag_gets_a_calibration_set_of_its_own_tokens(
    tiny_model: Path, tmp_path: Path
) -> None:
    settings = {
        "calibrate.mix": "quickstart",
        "calibrate.samples": 2,
        "calibrate.holdout_samples": 0,
        "calibrate.min_tokens": 8,
        "quantize.quality": "false",
        "output_dir": tmp_path / "made",
    }
    assignments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]

    code = run_command(["quantize", "--model", str(tiny_model), "--type", "Q4_0", *assignments])

    assert code == 0
    made = Manifest.read(tmp_path / "made/quantize/gguf-q4_0")
    assert made.results["importance_matrix"] == "imatrix.gguf"
    assert (tmp_path / "made/calibrate/calibration.jsonl").is_file()
