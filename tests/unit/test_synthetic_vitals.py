"""The generated vital signs: their texts say what their scores were computed of."""

from medllm.clinical.measurements.consciousness import CONSCIOUSNESS
from medllm.clinical.measurements.fidelity import check_vitals
from medllm.clinical.scores.observations import read_news2, read_vitals
from medllm.data.generators.look_alikes import build_example as build_pair
from medllm.data.generators.vitals import build_example
from medllm.evaluate.clinical.alerts import check_alert

ROWS = [build_example(0, number) for number in range(300)]


def test_rows_hang_on_seed_and_number_alone() -> None:
    assert build_example(0, 7) == ROWS[7]
    assert build_example(1, 7) != ROWS[7]
    assert len({row.prompt[0].content for row in ROWS}) == len(ROWS)


def test_each_text_reads_back_as_the_score_that_its_row_has() -> None:
    for row in ROWS:
        score = read_news2(row.prompt[0].content)
        assert (score.total, score.band) == (row.metadata["news2"], row.metadata["band"]), row.id


def test_each_answer_is_true_to_its_prompt() -> None:
    for row in ROWS:
        found = check_alert(row.prompt[0].content, row.completion)
        assert (found.total, found.response, found.unstated) == ("right", "right", ()), row
        assert all(found.points.values()), row
        stated = check_vitals(row.prompt[0].content, row.completion)
        assert {each.outcome for each in stated} == {"kept"}, row
        assert len(stated) >= 5
        has_level = read_vitals(row.prompt[0].content).consciousness is not None
        assert has_level == (CONSCIOUSNESS in {each.attribute for each in stated}), row


def test_all_bands_occur_and_some_lack_a_sign() -> None:
    assert {row.metadata["band"] for row in ROWS} == {"low", "low-medium", "medium", "high"}
    assert 10 < sum("Not stated" in row.completion for row in ROWS) < 60


def test_pairs_of_names_are_asked_both_ways_and_only_tested() -> None:
    rows = [build_pair(0, number) for number in range(64)]
    assert len({row.id for row in rows}) == 64
    assert len({row.group for row in rows}) == 32
    assert all(row.target in row.choices and row.metadata["split"] == "test" for row in rows)
