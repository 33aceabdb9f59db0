from hypothesis import given
from hypothesis import strategies as st

from medllm.clinical.text.phrases import Phrases
from medllm.clinical.text.reading import WORD, Reading, read


def sentences(text: str) -> list[str]:
    reading = read(text)
    return [text[slice(*reading.place(*each))] for each in reading.sentences]


def found(reading: Reading, phrases: Phrases[int]) -> list[tuple[str, int]]:
    places = phrases.find(reading.words)
    return [(reading.text[slice(*reading.place(a, b))], meaning) for a, b, meaning in places]


def test_sentences_end_at_stops_and_not_at_abbreviations_or_fractions() -> None:
    text = "Take 2.5 mg p.o. daily. Avoid it, e.g. at night! Dr. Smith agrees; why not? Yes."

    assert sentences(text) == [
        "Take 2.5 mg p.o. daily", "Avoid it, e.g. at night", "Dr. Smith agrees", "why not", "Yes",
    ]  # fmt: skip


def test_a_line_end_is_no_end_of_a_sentence_but_an_item_of_a_list_is() -> None:
    text = "Do not take it\nwith milk.\n\nMedicines\n- warfarin 5 mg\n2. aspirin"

    assert sentences(text) == [
        "Do not take it\nwith milk", "Medicines", "warfarin 5 mg", "2. aspirin",
    ]  # fmt: skip


def test_every_word_stands_in_one_sentence() -> None:
    reading = read("One. Two three; four.\n\n* five")

    assert [reading.sentence_at(word) for word in range(len(reading.words))] == [
        (0, 1), (1, 3), (1, 3), (3, 4), (4, 5),
    ]  # fmt: skip
    assert read("").sentences == read(" . ").sentences == []


def test_the_longest_phrase_is_found_in_any_case_and_spelling() -> None:
    phrases = Phrases([("trimoxazole", 1), ("Co-Trimoxazole", 2), ("St John's wort", 3)])

    assert found(read("CO-TRIMOXAZOLE, co\n trimoxazole; St John\u2019s Wort"), phrases) == [
        ("CO-TRIMOXAZOLE", 2), ("co\n trimoxazole", 2), ("St John\u2019s Wort", 3),
    ]  # fmt: skip
    assert found(read("trimoxazole co"), phrases) == [("trimoxazole", 1)]


def test_a_phrase_at_the_end_of_a_text_ends_with_it() -> None:
    phrases = Phrases([("max", 1), ("max daily dose", 2)])

    assert list(phrases.find(["the", "max"])) == [(1, 2, 1)]


@given(st.text(alphabet="ab'_ 1.,-\u0301\u00c9\n", max_size=40))
def test_words_stand_where_they_are_said_to(text: str) -> None:
    reading = read(text)

    places = zip(reading.begins, reading.ends, strict=True)
    assert [*places] == [each.span() for each in WORD.finditer(reading.folded.text)]
    assert reading.words == [each[0] for each in WORD.finditer(reading.folded.text)]
