"""The Glasgow Coma Scale."""

from medllm.clinical.scores.result import Grade, Scale, Score
from medllm.clinical.scores.values import Number, Unscorable, exact

GCS = Scale(
    "Glasgow Coma Scale",
    (
        Grade(3, "severe", "3 to 8: severe head injury; the airway is at risk"),
        Grade(9, "moderate", "9 to 12: moderate head injury"),
        Grade(13, "mild", "13 to 15: mild head injury, or none"),
    ),
    "CDC, Glasgow Coma Scale; ejns s41984-020-00096-5, table 1",
)
MOST = {"eye": 4, "verbal": 5, "motor": 6}


def gcs(eye: Number | None, verbal: Number | str | None, motor: Number | None) -> Score:
    """3 to 15, the lower the worse: eye 1 to 4, verbal 1 to 5 or "T" (intubated), motor 1 to 6.

    With "T" the verbal part is not testable: it adds nothing, and no band is given. The same goes
    for a part that is missing; it is never taken for a normal one.
    """
    given = {"eye": eye, "verbal": verbal, "motor": motor}
    untestable = isinstance(verbal, str) and verbal.strip().upper() == "T"
    points = {
        part: None if value is None or (part == "verbal" and untestable) else _part(part, value)
        for part, value in given.items()
    }
    known = {part: value for part, value in points.items() if value is not None}
    if len(known) == len(points):
        return GCS.add_up(points)
    note = (
        "verbal not testable (T): eye and motor only" if untestable else "not all parts are given"
    )
    missing = tuple(part for part in points if part not in known)
    return Score(
        GCS.name, known, sum(known.values()), "not graded", note, missing, GCS.source, notes=(note,)
    )


def _part(part: str, value: Number | str) -> int:
    if isinstance(value, str):
        raise Unscorable(f"GCS {part}: not a number", "give a number, or 'T' for verbal")
    number = exact(f"GCS {part}", value)
    if number not in range(1, MOST[part] + 1):
        raise Unscorable(f"GCS {part}: impossible (possible are 1 to {MOST[part]})", "check it")
    return int(number)
