"""The gate of quantize, its table, and what it advises."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medllm.artifacts.job import Job
from medllm.artifacts.manifest import Counts, Manifest
from medllm.errors import ConfigError, GateError
from medllm.quantize.config import GgufFormat, GptqFormat, QuantizeConfig, QuantizeGate
from medllm.quantize.gate import apply_gate
from medllm.quantize.quality.advice import advise, worst_layers
from medllm.quantize.summary import table_of
from medllm.quantize.verb import check_ahead

RESULTS = {
    "bytes": 2_000_000,
    "parent_bytes": 8_000_000,
    "kl_mean": 0.04,
    "kl_p99": 0.5,
    "perplexity_medical": 11.0,
    "perplexity_medical_parent": 10.0,
    "tokens_per_second": 1234.0,
}


def manifest_of(name: str, **results: Any) -> Manifest:
    return Manifest(
        kind="quantized",
        format="gguf",
        identity=name,
        command="quantize",
        config={"output": f"/made/{name}"},
        settings={},
        parents=(),
        data_terms=(),
        files=(),
        counts=Counts(),
        results=RESULTS | results,
        environment={},
    )


def test_a_gate_names_each_figure_that_fails_and_keeps_the_outcome(tmp_path: Path) -> None:
    gate = QuantizeGate(max_kl=0.05, max_perplexity_increase=0.05)
    made = {"good": manifest_of("good", perplexity_medical=10.4), "bad": manifest_of("bad")}

    with pytest.raises(GateError) as raised:
        apply_gate(gate, tmp_path, made)

    assert raised.value.exit_code == 6
    assert "bad: perplexity_increase 0.1 is more than max_perplexity_increase 0.05" in str(
        raised.value
    )
    assert "good" not in str(raised.value)
    outcome = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert outcome["passed"] is False
    assert [check["passed"] for check in outcome["checks"]] == [True, True, True, False]


def test_a_gate_passes_and_a_nan_does_not(tmp_path: Path) -> None:
    gate = QuantizeGate(max_kl=0.05)

    apply_gate(gate, tmp_path, {"good": manifest_of("good")})

    assert json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))["passed"] is True
    with pytest.raises(GateError):
        apply_gate(gate, tmp_path, {"nan": manifest_of("nan", kl_mean=float("nan"))})


def test_a_gate_without_thresholds_or_quality_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs a threshold"):
        QuantizeGate()
    with pytest.raises(ValidationError, match="needs the quality report"):
        QuantizeConfig(gate=QuantizeGate(max_kl=1.0), quality=False)


def test_a_gate_with_nothing_to_judge_by_is_known_ahead() -> None:
    config = QuantizeConfig(formats=(), gate=QuantizeGate(max_kl=1.0))

    with pytest.raises(ConfigError, match="no held-out text"):
        check_ahead(config)


def test_a_gate_is_no_part_of_an_identity(tmp_path: Path) -> None:
    plain = QuantizeConfig(output=tmp_path)
    gated = plain.model_copy(update={"gate": QuantizeGate(max_kl=1.0)})

    jobs = [Job.of(config, "quantized", "quantize", "gguf") for config in (plain, gated)]

    assert jobs[0].settings == jobs[1].settings


def test_the_table_has_the_model_first_and_no_empty_column() -> None:
    columns, rows = table_of([manifest_of("gptq-4bit"), manifest_of("gguf-q8_0", kl_mean=0.001)])

    assert columns == ["format", "MB", "KL mean", "medical ppl", "tokens/s"]
    assert rows[0] == ["the model", "8.0", "", "10.000", ""]
    assert [row[0] for row in rows] == ["the model", "gptq-4bit", "gguf-q8_0"]
    assert rows[2][2] == "0.0010"


def test_the_perplexity_of_a_broken_model_fits_its_column() -> None:
    _, rows = table_of([manifest_of("gguf-q2_k", perplexity_medical=8.30767e33)])

    assert rows[1][3] == "8.3077e+33"


def test_a_format_without_quality_has_a_row_too() -> None:
    manifest = manifest_of("gguf-q8_0")
    bare = manifest.model_copy(update={"results": {"bytes": 1, "parent_bytes": 2}})

    assert table_of([bare])[0] == ["format", "MB"]


def layers_of(*errors: float | None) -> list[dict[str, Any]]:
    return [{"name": f"{n}.mlp.up_proj", "error": error} for n, error in enumerate(errors)]


def lost(low: float, high: float) -> dict[str, Any]:
    nats = {"value": (low + high) / 2, "low": low, "high": high}
    return {"nats_lost": nats, "top1_agreement": {"value": 0.95}}


def quality_of(**changes: Any) -> dict[str, Any]:
    texts = {kind: lost(0.01, 0.02) for kind in ("all", "medical", "general")}
    return {"texts": texts, "terms": {}, "layers": [], **changes}


def test_the_worst_layers_are_those_that_hold_half_of_the_error() -> None:
    assert worst_layers(layers_of(5.0, 3.0, 1.0, 1.0, None)) == ["0.mlp.up_proj"]
    assert worst_layers(layers_of(1.0, 1.0, 1.0, 1.0)) == ["0.mlp.up_proj", "1.mlp.up_proj"]
    assert worst_layers(layers_of(None)) == []


def test_where_no_loss_shows_nothing_is_advised() -> None:
    quality = quality_of(texts={"all": lost(-0.01, 0.02)})

    assert len(advise(quality, GgufFormat(), 512)) == 1
    assert advise(quality, GgufFormat(), 512)[0].startswith("nothing")


def test_few_bad_layers_get_more_bits_by_a_rule_that_matches_them() -> None:
    import re

    import yaml

    quality = quality_of(layers=layers_of(9.0, *[0.1] * 30))

    (step,) = [each for each in advise(quality, GptqFormat(), 512) if "dynamic" in each]

    rules = yaml.safe_load(step[step.index("dynamic: ") :])["dynamic"]
    (pattern,) = rules
    assert rules[pattern] == {"bits": 8}
    assert re.match(pattern.removeprefix("+:"), "model.layers.0.mlp.up_proj")
    assert not re.match(pattern.removeprefix("+:"), "model.layers.10.mlp.up_proj")


def test_rare_terms_ask_for_their_text_only_if_they_lose_more() -> None:
    def says(rare: dict[str, Any]) -> bool:
        steps = advise(quality_of(terms={"rare": rare}), GgufFormat(), 512)
        return any("rare terms" in step for step in steps)

    assert says(lost(0.05, 0.09))
    assert not says(lost(0.015, 0.09)), "it may be no more than the average"


def test_a_type_asks_for_the_next_larger_and_for_a_matrix() -> None:
    steps = advise(quality_of(), GgufFormat(type="Q3_K_S", imatrix=False), 0)

    assert any("importance matrix" in step for step in steps)
    assert any("Q3_K_M" in step for step in steps)
    assert not any("importance matrix" in step for step in advise(quality_of(), GgufFormat(), 9))
