"""Medical terms in text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medllm.clinical.specialties import specialty_terms, term_finder
from medllm.clinical.terms import MEDICAL_DENSITY, find_terms, term_density, vocabulary
from medllm.errors import ConfigError, DataError


def test_the_longest_term_at_each_place_is_found_once() -> None:
    terms = {"renal failure", "acute renal failure", "failure", "metformin"}

    found = list(
        find_terms("Acute Renal Failure; metformin held. Failure of renal function", terms)
    )

    assert found == ["acute renal failure", "metformin", "failure"]


def test_terms_are_whole_words() -> None:
    assert list(find_terms("superoxide of the renalware", {"renal", "oxide"})) == []


@pytest.mark.parametrize("term", ["metformin", "hydralazine", "atrial fibrillation", "sarcoidosis"])
def test_the_vocabulary_knows_diseases_and_drugs(term: str) -> None:
    assert term in vocabulary()


@pytest.mark.parametrize("word", ["time", "love", "alabama", "government", "music", "water"])
def test_the_vocabulary_has_no_everyday_words(word: str) -> None:
    assert word not in vocabulary()


def test_density_tells_a_note_from_a_story() -> None:
    note = "Patient with type 2 diabetes mellitus and hypertension, on metformin and lisinopril."
    story = "In the morning they walked to the market and bought bread, and nobody spoke a word."

    def density(text: str) -> float:
        return term_density(text, find_terms(text, vocabulary()))

    assert density(note) > MEDICAL_DENSITY
    assert density(story) == 0
    assert density("") == 0


def test_specialties_are_found_by_name_and_as_whole_words() -> None:
    has_term = term_finder(specialty_terms("radiology"))

    assert has_term("A small PNEUMOTHORAX on the left")
    assert not has_term("He took his pills")


def test_a_file_of_terms_is_a_specialty(tmp_path: Path) -> None:
    path = tmp_path / "ophthalmology.txt"
    path.write_text("Retinal detachment\n\nglaucoma\n", encoding="utf-8")

    assert specialty_terms(str(path)) == {"retinal detachment", "glaucoma"}


def test_a_list_that_nobody_may_read_is_a_data_error(
    tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("sepsis")
    lock(path)

    with pytest.raises(DataError, match=r"terms\.txt: cannot be read"):
        specialty_terms(str(path))


def test_an_unknown_or_empty_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown list of terms 'radiologie'") as problem:
        specialty_terms("radiologie")
    assert "did you mean 'radiology'?" in problem.value.fix
    empty = tmp_path / "empty.txt"
    empty.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no terms"):
        specialty_terms(str(empty))
    empty.write_bytes(b"\x80\xff")
    with pytest.raises(DataError, match="not UTF-8 text"):
        specialty_terms(str(empty))
    long = tmp_path / "long.txt"
    long.write_text("one two three four\n", encoding="utf-8")
    with pytest.raises(DataError, match="too many words"):
        specialty_terms(str(long))
