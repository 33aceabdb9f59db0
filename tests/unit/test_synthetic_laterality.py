"""The generated chest notes: stable, even, and true to themselves, judged by the text alone."""

import re
from collections import Counter, defaultdict

import pytest

from medllm.data.example import Example, from_json, to_json
from medllm.data.generators.laterality import DATASET, QUESTION, STATED, build_example
from medllm.recipe import load_recipe
from medllm.tasks.spec import find_task

DENIAL = re.compile(
    r"(?:no |there (?:is|are) no |there is no evidence of |negative for )", re.IGNORECASE
)


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    """The first 2,000 rows of a seed."""
    return [build_example(3, number) for number in range(2000)]


def note_of(row: Example) -> str:
    """The note in a prompt."""
    note, _, question = row.prompt[0].content.removeprefix("Findings: ").partition("\nQuestion: ")
    assert question == QUESTION
    return note


def stated_sides(note: str) -> set[str]:
    """The sides that sentences name which deny nothing."""
    sentences = re.split(r"(?<=\.) (?=[A-Z])", note)
    stated = " ".join(sentence for sentence in sentences if not DENIAL.match(sentence))
    return set(re.findall(r"\b(?:left|right)\b", stated.lower()))


def counted_sides(note: str) -> tuple[int, int]:
    """How often a note says "left", and how often "right"."""
    words = re.findall(r"\w+", note.lower())
    return words.count("left"), words.count("right")


def test_a_row_depends_on_its_seed_and_number_only(rows: list[Example]) -> None:
    assert build_example(3, 499) == rows[499]
    assert build_example(4, 499).prompt != rows[499].prompt


def test_rows_are_whole_and_stand_alone(rows: list[Example]) -> None:
    assert len({row.id for row in rows}) == len({row.group for row in rows}) == len(rows)
    assert rows[7].id == f"{DATASET}/3-7"
    assert all(from_json(to_json(row)) == row for row in rows[:100])
    assert not [row.id for row in rows if re.search(r"[{}|]|\(n\)|\.\.|  ", row.text)]


def test_the_four_answers_are_as_frequent(rows: list[Example]) -> None:
    counts = Counter(row.target for row in rows)

    assert all(row.choices == ("left", "right", "both", "neither") for row in rows)
    assert all(row.completion == row.target for row in rows)
    assert max(counts.values()) < 0.28 * len(rows)
    assert min(counts.values()) > 0.22 * len(rows)


def test_the_answer_can_be_read_off_the_note(rows: list[Example]) -> None:
    for row in rows:
        assert stated_sides(note_of(row)) == set(STATED[str(row.target)]), row.id


def test_whoever_only_counts_the_sides_answers_half_of_them(rows: list[Example]) -> None:
    """The best rule that sees how often a note names each side, and not what it denies."""
    answers: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for row in rows:
        answers[counted_sides(note_of(row))][str(row.target)] += 1

    right = sum(max(counts.values()) for counts in answers.values())
    assert 0.4 < right / len(rows) < 0.55


def test_the_question_of_the_quickstart_is_none_of_the_rows() -> None:
    recipe = load_recipe("quickstart")
    assert recipe.serve
    asked = recipe.serve.question
    note = asked.removeprefix("Findings: ").partition("\nQuestion: ")[0]

    assert asked.endswith(f"\nQuestion: {QUESTION}")
    assert stated_sides(note) == {"left", "right"}
    assert DENIAL.search(note)
    assert asked not in {build_example(0, n).prompt[0].content for n in range(8000)}


def test_training_and_evaluation_ask_in_the_same_words() -> None:
    recipe = load_recipe("quickstart")
    assert recipe.prepare
    assert recipe.evaluate

    (task,) = recipe.evaluate.tasks
    assert recipe.prepare.task == task
    assert find_task(task, "evaluate").words == find_task(task, "prepare").words
    assert (find_task(task, "evaluate").dataset,) == recipe.prepare.datasets
