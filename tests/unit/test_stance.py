import re
from pathlib import Path

from medllm.clinical.context.stance import Stance, is_condition, stance_of
from medllm.clinical.text.reading import read

STANCES = {
    "A": Stance.ADVISED, "T": Stance.TAKEN, "W": Stance.WARNED, "M": Stance.MENTIONED,
}  # fmt: skip
_MARKED = re.compile(r"(\w[\w'-]*)/([ATWM])")


def sentences(part: str) -> list[str]:
    text = (Path(__file__).parent / "stance_sentences.txt").read_text(encoding="utf-8")
    lines = text.split(f"== {part}\n")[1].split("\n== ")[0].splitlines()
    return [each for each in lines if each and not each.startswith("#")]


def stances(marked: str) -> list[tuple[str, Stance, Stance]]:
    """Each marked word of a sentence with the stance that it should have and the one it has."""
    reading = read(_MARKED.sub(r"\1", marked))
    found = []
    done = 0
    for match in _MARKED.finditer(marked):
        begin = match.start() - 2 * len(found)
        word = next(
            at for at in range(done, len(reading.words)) if reading.place(at, at + 1)[0] >= begin
        )
        done = word + 1
        found.append((match[1], STANCES[match[2]], stance_of(reading, word)))
    return found


def score(part: str) -> tuple[int, int, int, list[str]]:
    """Right, all, and advised that was not meant to be, with the sentences that fail."""
    right = total = wrongly_advised = 0
    failed = []
    for sentence in sentences(part):
        for name, meant, is_ in stances(sentence):
            total += 1
            right += meant is is_
            wrongly_advised += is_ is Stance.ADVISED is not meant
            if meant is not is_:
                failed.append(f"{name}: {is_.value} not {meant.value}: {sentence}")
    return right, total, wrongly_advised, failed


def test_the_sentences_that_the_cues_were_built_on() -> None:
    right, total, wrongly_advised, failed = score("built on")

    assert right >= 0.97 * total, "\n".join(failed)
    assert wrongly_advised <= 2


def test_the_sentences_held_out() -> None:
    right, total, wrongly_advised, _ = score("held out")

    assert right >= 0.8 * total
    assert wrongly_advised <= 0.05 * total


def test_the_items_of_a_list_have_the_stance_of_its_heading() -> None:
    advised = read("Please take:\n- warfarin\n- amiodarone\n\nAvoid:\n1. ibuprofen\n2. aspirin")

    stances = [stance_of(advised, advised.words.index(each)) for each in ("warfarin", "amiodarone")]
    assert stances == [Stance.ADVISED] * 2
    stances = [stance_of(advised, advised.words.index(each)) for each in ("ibuprofen", "aspirin")]
    assert stances == [Stance.WARNED] * 2


def test_a_condition_is_told_from_a_mere_mention() -> None:
    reading = read("If you take warfarin, use ibuprofen. Warfarin is old.")

    assert is_condition(reading, 3) and not is_condition(reading, 5)
    assert not is_condition(reading, 6)
    assert stance_of(reading, 3) is Stance.MENTIONED
    assert stance_of(reading, 5) is Stance.ADVISED


def test_a_very_long_list_is_read_without_deep_calls() -> None:
    reading = read("Take:\n" + "- warfarin\n" * 3000)

    assert stance_of(reading, len(reading.words) - 1) is Stance.ADVISED
