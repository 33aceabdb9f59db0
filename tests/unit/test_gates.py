"""Gates as files: values, differences, worst groups and bounds; what n cannot decide is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from medllm.errors import ConfigError, GateError
from medllm.evaluate.gate import apply_gate, judge
from medllm.measures.gates import SHIPPED, Check, GateFile, find_gate

SCORE = {"model": "merged", "identity": "abc", "task": "mine", "items": 200, "accuracy": 0.92,
         "accuracy_low": 0.87, "accuracy_high": 0.955, "majority": 0.6}  # fmt: skip
NOTHING: dict[str, Any] = {"baseline": None, "comparisons": [], "subgroups": []}


def gate_of(*lines: dict[str, Any]) -> GateFile:
    return GateFile.model_validate_json(json.dumps({"thresholds": lines}))


def check(line: dict[str, Any], analysis: dict[str, Any] = NOTHING, **changes: Any) -> Check:
    ((subject, found),) = judge(gate_of(line), [SCORE | changes], analysis)
    assert subject["model"] == "merged"
    return found


def comparison(**known: Any) -> dict[str, Any]:
    row = {"model": "merged", "baseline": "base", "task": "mine", "measure": "accuracy"}
    return {**NOTHING, "comparisons": [{**row, "items": 200, **known}]}


def test_a_value_passes_and_it_is_said_that_n_cannot_decide() -> None:
    found = check({"figure": "accuracy", "min": 0.9})

    assert found.passed
    # Wald: 1.96² × 0.92 × 0.08 / 0.02² = 707
    assert found.undecided == (
        "200 items cannot decide it: the interval holds 0.9; about 707 would"
    )
    assert str(found) == "mine accuracy 0.92 (95 % 0.87 to 0.955, n = 200) is at least 0.9"
    assert check({"figure": "accuracy", "min": 0.8}).undecided == ""


@pytest.mark.parametrize(("value", "shown"), [(0.899996, "0.899996"), (0.90004, "0.90004"),
                                              (0.9, "0.9"), (0.89, "0.89")])  # fmt: skip
def test_no_value_is_rounded_onto_its_threshold(value: float, shown: str) -> None:
    found = check({"figure": "accuracy", "min": 0.9}, accuracy=value)

    assert f"mine accuracy {shown} (95 %" in str(found)


def test_of_a_bound_the_worse_end_counts() -> None:
    found = check({"figure": "accuracy", "min": 0.9, "bound": True})

    assert not found.passed
    assert "its worse end is not at least 0.9" in str(found)
    assert found.undecided
    assert check({"figure": "accuracy", "min": 0.87, "bound": True}).passed
    assert check({"figure": "accuracy", "max": 0.95}).passed
    assert not check({"figure": "accuracy", "max": 0.95, "bound": True}).passed


def test_a_gain_is_over_the_most_frequent_label() -> None:
    found = check({"figure": "accuracy", "of": "gain", "min": 0.3, "bound": True})

    assert found.value == pytest.approx(0.32)
    assert found.low == pytest.approx(0.27)
    assert not found.passed


def test_a_difference_is_that_of_the_paired_comparison() -> None:
    line = {"figure": "accuracy", "of": "difference", "min": -0.02, "bound": True}
    good = comparison(difference={"value": 0.01, "low": -0.01, "high": 0.03})
    bad = comparison(difference={"value": 0.0, "low": -0.05, "high": 0.05})

    assert check(line, good).passed
    assert not check(line, bad).passed
    assert "cannot decide" in check(line, bad).undecided


@pytest.mark.parametrize("where", [True, False])
def test_a_difference_that_is_not_known_passes_no_gate(where: bool) -> None:
    line = {"figure": "accuracy", "of": "difference", "min": -0.02, "where_measured": where}

    assert not check(line).passed, "there is no baseline"
    refused = {**NOTHING, "comparisons": [
        {"model": "merged", "baseline": "base", "task": "mine", "refused": "other items"}
    ]}  # fmt: skip
    assert not check(line, refused).passed
    assert "is not measured" in str(check(line, refused))


def test_the_worst_group_counts() -> None:
    row = {"model": "merged", "task": "mine", "by": "metadata.modality", "measure": "accuracy",
           "unit": "share", "items": 20}  # fmt: skip
    rows = [
        {**row, "group": "CT", "value": 0.95, "low": 0.7, "high": 0.99},
        {**row, "group": "MRI", "value": 0.8, "low": 0.6, "high": 0.9},
    ]
    found = check(
        {"figure": "accuracy", "worst": "metadata.modality", "min": 0.85},
        {**NOTHING, "subgroups": rows},
    )

    assert (found.value, found.passed) == (0.8, False)
    assert "mine accuracy of MRI 0.8" in str(found)
    assert not check({"figure": "accuracy", "worst": "metadata.sex", "min": 0.1}).passed


def groups_of(**values: tuple[float, float | None, float | None]) -> dict[str, Any]:
    row = {"model": "merged", "task": "mine", "by": "site", "measure": "accuracy", "unit": "share"}
    rows = [
        {**row, "items": 20, "group": name, "value": value, "low": low, "high": high}
        for name, (value, low, high) in values.items()
    ]
    return {**NOTHING, "subgroups": rows}


def test_both_ends_of_a_worst_group_are_held() -> None:
    groups = groups_of(a=(0.45, 0.3, 0.6), b=(0.9, 0.7, 0.99))
    gate = gate_of({"figure": "accuracy", "worst": "site", "min": 0.4, "max": 0.6})

    low, high = (found for _, found in judge(gate, [SCORE], groups))

    assert (low.value, low.passed) == (0.45, True)
    assert (high.value, high.passed) == (0.9, False)


def test_the_worst_by_a_bound_is_the_group_whose_interval_reaches_furthest() -> None:
    line = {"figure": "accuracy", "worst": "site", "min": 0.8, "bound": True}
    small = groups_of(large=(0.85, 0.82, 0.88), small=(0.9, 0.55, 1.0))
    single = groups_of(large=(0.85, 0.82, 0.88), single=(1.0, None, None))

    assert (check(line, small).value, check(line, small).passed) == (0.9, False)
    assert (check(line, single).value, check(line, single).passed) == (1.0, False)
    assert check(line, groups_of(large=(0.85, 0.82, 0.88))).passed


@pytest.mark.parametrize("value", ["yes", [2], {"a": 0.4}, True])
def test_what_is_no_number_is_not_measured(value: Any) -> None:
    assert "is not measured" in str(check({"figure": "odd", "min": 0.5}, odd=value))


def test_thresholds_that_nothing_can_pass_are_refused() -> None:
    with pytest.raises(ValueError, match="`min` is above `max`"):
        gate_of({"figure": "accuracy", "min": 0.9, "max": 0.1})


def test_what_is_not_measured_fails_unless_it_may_be_missing() -> None:
    assert not check({"figure": "sensitivity", "min": 0.95}).passed
    assert not check({"figure": "accuracy", "min": 0.1}, accuracy=None).passed
    assert not check({"figure": "accuracy", "min": 0.1}, accuracy=float("nan")).passed
    nothing = gate_of({"figure": "loss", "max": 1, "where_measured": True})
    ((_, found),) = judge(nothing, [SCORE], NOTHING)
    assert (str(found), found.passed) == ("what the gate asks for is not measured", False)


def test_the_outcome_is_kept_and_the_failing_line_is_told(tmp_path: Path) -> None:
    gate = gate_of({"figure": "accuracy", "min": 0.95}, {"figure": "accuracy", "min": 0.5})

    with pytest.raises(GateError) as raised:
        apply_gate("mine", gate, list(judge(gate, [SCORE], NOTHING)), tmp_path)

    assert raised.value.exit_code == 6
    assert raised.value.message.splitlines() == [
        "the gate failed",
        "merged: mine accuracy 0.92 (95 % 0.87 to 0.955, n = 200): is not at least 0.95; "
        "200 items cannot decide it: the interval holds 0.95; about 315 would",
    ]
    outcome = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert (outcome["passed"], outcome["gate"]["name"]) == (False, "mine")
    assert [each["passed"] for each in outcome["checks"]] == [False, True]
    lower = gate_of({"figure": "accuracy", "min": 0.5})
    apply_gate("mine", lower, list(judge(lower, [SCORE], NOTHING)), tmp_path)
    assert json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))["passed"]


def test_the_shipped_gates_hold_what_they_say() -> None:
    names = {path.stem for path in SHIPPED.glob("*.yaml")}
    assert names == {
        "release", "error-detection", "hallucination", "memorisation", "safety", "summary",
    }  # fmt: skip

    detection = find_gate("error-detection").thresholds
    assert [(line.figure, line.min, line.worst) for line in detection] == [
        ("accuracy", 0.90, None), ("sensitivity", 0.95, None), ("specificity", 0.95, None),
        ("accuracy", 0.85, "metadata.modality"),
    ]  # fmt: skip
    summary = find_gate("summary").thresholds
    assert [(line.figure, line.min, line.max) for line in summary] == [
        ("retention", 0.85, None), ("ratio", 0.4, 0.6),
    ]  # fmt: skip
    release = list(judge(find_gate("release"), [SCORE], NOTHING))
    assert [each.passed for _, each in release] == [False, True], "without a baseline it fails"


def test_what_is_measured_nowhere_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    list(
        judge(gate_of({"figure": "acuracy", "min": 0.5, "where_measured": True}), [SCORE], NOTHING)
    )
    assert "acuracy is measured nowhere, and not held" in capsys.readouterr().err


def test_a_gate_file_is_strict(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("thresholds: [{figure: accuracy}]\n")

    with pytest.raises(ConfigError, match="needs `min` or `max`"):
        find_gate(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match="unknown gate 'relase'") as raised:
        find_gate("relase")
    assert "did you mean 'release'" in raised.value.fix
