"""Multiple-choice questions, in all the forms in which MedQA, MedMCQA and MMLU go round.

The prompt is lm-evaluation-harness's, from the template in the dataset's YAML. The choices are the
letters, because that is what the harness scores; the completion is "B. its text", so that training
teaches the letter first and then what it stands for.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

from medllm.data.example import Example, Message, Rejected
from medllm.data.readers import Row
from medllm.data.shapes.columns import Columns, fill, group_of, metadata_of, source_id_of, with_cuts
from medllm.data.shapes.values import LeftOut, clean, known, text_of
from medllm.errors import DataError

LETTERS = "ABCDEFGH"
OPTION_COLUMNS = (
    ("opa", "opb", "opc", "opd", "ope"),
    tuple(f"ending{n}" for n in range(5)),
    tuple(f"choice{n}" for n in range(5)),
)
ANSWER_COLUMNS = ("answer_idx", "cop", "label", "answer")
NUMBER = re.compile(r"-?[0-9]{1,3}(\.0)?")
WITHIN_QUESTION = re.compile(r"(?s)^(.*?)\s*Choices:\s*(\{.*\})\s*$")
PRINTED_ANSWER = re.compile(
    r"(?i)^\W*(?:the )?(?:correct )?ans(?:wer)?s?\b(?: is\b|[\s.:=\-–])*[\W_]*"
    r"[a-e](?:\s*[,&]\s*[a-e])*"
    r"(?=['\"‘’“”)\].,:;\-–]|\s+i\.?\s?e\b|\s*$|\s+(?-i:[A-Z(]))['\"‘’“”)\]\s.,:;\-–]*"
    r"(?:i\.?\s?e\b[\s.,:;]*)?"
)
"""An answer letter at the head of an explanation: "Ans. is 'b' i.e., …", "Ans: (C) …"."""


def read_multiple_choice(
    dataset: str, number: int, row: Row, columns: Columns
) -> Example | Rejected:
    """A question with its options, and the letter of the right one."""
    identity = f"{dataset}/{number}"
    try:
        row = with_cuts(row, columns)
        source_id = source_id_of(number, row, columns)
        identity = f"{dataset}/{source_id}"
        return _build(dataset, source_id, row, columns)
    except LeftOut as problem:
        return Rejected(identity, str(problem))


def _build(dataset: str, source_id: str, row: Row, columns: Columns) -> Example:
    question, options = _question_and_options(row)
    _check_options(question, options)
    right = _right_answer(row, options, columns.first_answer or 0)
    letters = tuple(LETTERS[: len(options)])
    explanation = PRINTED_ANSWER.sub("", text_of(row.get("exp"))).strip()
    return Example(
        id=f"{dataset}/{source_id}",
        dataset=dataset,
        group=group_of(source_id, row, columns),
        prompt=(Message("user", _prompt(row, question, options, columns)),),
        completion=f"{letters[right]}. {options[right].strip()}",
        choices=letters,
        target=letters[right],
        metadata=known({**metadata_of(row, columns), "explanation": explanation}),
    )


def _check_options(question: str, options: list[str]) -> None:
    if not question.strip():
        raise LeftOut("no question")
    if not 2 <= len(options) <= len(LETTERS):
        raise LeftOut("no choices")
    if not all(option.strip() for option in options):
        raise LeftOut("an empty choice")


def _prompt(row: Row, question: str, options: list[str], columns: Columns) -> str:
    listed = "".join(f"{a}. {text}\n" for a, text in zip(LETTERS, options, strict=False))
    values = {
        **row,
        "question": question,  # with the white space around it, as the harness asks MedQA's
        "stem": question.strip(),  # and without, as it asks MMLU's
        "options": listed,
        "subject": clean(row.get("subject")).replace("_", " "),
    }
    return fill(columns.prompt or "Question: {question}\n{options}Answer:", values, clean)


def _question_and_options(row: Row) -> tuple[str, list[str]]:
    question = clean(row.get("question", row.get("sent1")))
    if found := _options(row):
        return question, found
    match = WITHIN_QUESTION.match(question)
    if match is None:
        return question, []
    try:
        within = ast.literal_eval(match[2])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return question, []
    return match[1], _option_texts(within)


def _options(row: Row) -> list[str]:
    for name in ("options", "choices"):
        if found := _option_texts(row.get(name)):
            return found
    for names in OPTION_COLUMNS:
        if found := _option_texts([row.get(name) for name in names]):
            return found
    return []


def _option_texts(value: Any) -> list[str]:
    """Options as a mapping of letters, a list of texts, or a list of keys with their values.

    Those missing at the end are left out (four options in five columns), others stay as "", for
    they decide which letter the next ones have.
    """
    if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        value = {text_of(one.get("key")): one.get("value") for one in value}
    if isinstance(value, Mapping):
        letters = sorted(value, key=str)
        in_order = "".join(map(str, letters)).upper() == LETTERS[: len(letters)]
        value = [value[letter] for letter in letters] if in_order else None
    texts = [clean(one) for one in value] if isinstance(value, list) else []
    while texts and not texts[-1].strip():
        texts.pop()
    prefixes = [f"{letter}. " for letter in LETTERS[: len(texts)]]
    if len(texts) <= len(LETTERS) and all(map(str.startswith, texts, prefixes)):
        return [text[len("A. ") :] for text in texts]
    return texts


def _said(row: Row) -> Any:
    """What the row names its right answer by."""
    return next((row[name] for name in ANSWER_COLUMNS if name in row), None)


def _right_answer(row: Row, options: list[str], first: int) -> int:
    """The place of the right option."""
    said = _said(row)
    answer = text_of(said)
    if isinstance(said, list):  # bigbio: a list that holds the text of the right one
        return _place(options, answer)
    if len(answer) == 1 and answer.upper() in LETTERS:
        place = LETTERS.index(answer.upper())
    elif NUMBER.fullmatch(answer):
        place = int(float(answer))
        if place < 0:
            raise LeftOut("no label")
        place -= first
    else:
        return _place(options, answer)
    if not 0 <= place < len(options):
        raise LeftOut("no such choice")
    return place


def _place(options: list[str], answer: str) -> int:
    if not answer:
        raise LeftOut("no label")
    stripped = [option.strip() for option in options]
    if answer not in stripped:
        raise LeftOut("unknown answer")
    return stripped.index(answer)


def first_answer_of(rows: Iterable[Row]) -> int | None:
    """Whether the numbered answers of a file begin at 0 or at 1; None where none is numbered.

    Raises:
        DataError: a 0 and the number of options both occur, or neither does.
    """
    low = high = False
    numbered = 0
    for row in rows:
        try:
            said, options = text_of(_said(row)), _question_and_options(row)[1]
        except LeftOut:
            continue
        if NUMBER.fullmatch(said):
            numbered += 1
            low = low or float(said) <= 0  # the hub marks what has no label with -1
            high = high or float(said) == len(options)
    if not numbered:
        return None
    if low == high:
        both = "a 0 and the number of options both occur" if low else "neither end occurs"
        raise DataError(
            f"answers may count from 0 or from 1: {both} in {numbered:,} rows",
            "state `columns: {first_answer: 0}` or 1 in the dataset's YAML",
        )
    return 0 if low else 1
