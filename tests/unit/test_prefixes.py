"""What rows have in common, and how it is found."""

from types import SimpleNamespace

from medllm.engines.base import ScoreRequest
from medllm.engines.scoring.batches import NATS, allowed_nats
from medllm.engines.scoring.prefixes import LOOK, Row, find_trunks, rows_of

EXAMPLES = tuple(range(1000, 1200))


def rows(*requests: ScoreRequest) -> list[Row]:
    asked: dict[tuple[int, ...], list[ScoreRequest]] = {}
    for request in requests:
        asked.setdefault((*request.context, *request.continuation[:-1]), []).append(request)
    return rows_of(asked)


def test_an_input_that_begins_another_is_read_with_it() -> None:
    context = (1, 2, 3)
    one, other = ScoreRequest(context, (7,)), ScoreRequest(context, (8,))
    longer, apart = ScoreRequest(context, (9, 10)), ScoreRequest((1, 4), (5,))

    found = rows(one, longer, other, apart)

    assert found == [
        Row((1, 2, 3, 9), ((one, 3), (other, 3), (longer, 4))),
        Row((1, 4), ((apart, 2),)),
    ]
    assert (found[0].stem, found[0].asked) == (3, 2)
    assert (found[1].stem, found[1].asked) == (2, 1)


def test_worked_examples_are_a_trunk_and_questions_are_stems() -> None:
    questions = [(*EXAMPLES, *range(n, n + 40)) for n in range(0, 400, 50)]
    requests = [ScoreRequest(each, (end, 5)) for each in questions for end in (1, 2, 3)]
    alone = ScoreRequest((1, 2), (3,))

    shared, rest = find_trunks(rows(*requests, alone))

    assert shared.prefix == EXAMPLES
    whole, forks = shared.forks()
    assert whole == []
    assert sorted(len(fork) for fork in forks) == [3] * len(questions)
    assert {fork[0].ids[: fork[0].stem] for fork in forks} == set(questions)
    assert (rest.prefix, len(rest.rows)) == ((), 1)


def test_a_trunk_ends_before_what_is_asked() -> None:
    """Copies of one question differ in nothing but their answers."""
    question = tuple(range(500))
    requests = [ScoreRequest((*question, n), (7,)) for n in range(600, 640)]
    within = ScoreRequest(question[:400], question[400:])

    (trunk,) = find_trunks(rows(*requests, within))

    assert trunk.prefix == question[:399]
    assert all(row.stem > len(trunk.prefix) for row in trunk.rows)


def test_a_few_words_in_common_are_no_trunk() -> None:
    few = [ScoreRequest((*range(LOOK), *range(n, n + 400)), (1,)) for n in range(100, 900, 20)]

    (trunk,) = find_trunks(rows(*few))

    assert trunk.prefix == ()
    assert trunk.forks() == (trunk.rows, [])


def test_a_model_in_four_bits_rounds_as_the_format_that_it_computes_in() -> None:
    full = SimpleNamespace(dtype=SimpleNamespace(itemsize=4))
    assert allowed_nats(full) == NATS[4]
    assert allowed_nats(SimpleNamespace(**vars(full), is_loaded_in_4bit=True)) == NATS[2]
