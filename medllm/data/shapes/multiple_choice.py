"""Multiple-choice questions, in all the forms in which MedQA, MedMCQA and MMLU go round.

The prompt is lm-evaluation-harness's, from the template in the dataset's YAML. The choices are the
letters, because that is what the harness scores; the completion is "B. its text", so that training
teaches the letter first and then what it stands for.
"""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from medllm.data.example import Example, Message, Rejected
from medllm.data.left_out import LeftOut
from medllm.data.readers.rows import Row
from medllm.data.shapes.answers import LETTERS, Evidence, Kind, Readings, find_place, readings_of
from medllm.data.shapes.columns import Columns, fill, group_of, metadata_of, read_with
from medllm.data.shapes.values import clean, known, text_of

OPTION_COLUMNS = (
    ("opa", "opb", "opc", "opd", "ope"),
    tuple(f"ending{n}" for n in range(5)),
    tuple(f"choice{n}" for n in range(5)),
    tuple(LETTERS),
    tuple(LETTERS.lower()),
)
ANSWER_COLUMNS = ("answer_idx", "cop", "label", "answer")
LABEL_COLUMNS = ("answer_idx", "cop")
"""Those that hold no texts."""
READ = frozenset(
    {"question", "sent1", "options", "choices", "subject", "exp", *ANSWER_COLUMNS}.union(
        *OPTION_COLUMNS
    )
)
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
    return read_with(_build, dataset, number, row, columns)


def _build(dataset: str, source_id: str, row: Row, columns: Columns) -> Example:
    question, options = _question_and_options(row)
    _check_options(question, options)
    right = _right_answer(row, options, columns)
    letters = tuple(LETTERS[: len(options)])
    group = group_of(source_id, row, columns)
    explanation = PRINTED_ANSWER.sub("", text_of(row.get("exp"))).strip()
    return Example(
        id=f"{dataset}/{source_id}",
        dataset=dataset,
        group=group.id,
        prompt=(Message("user", _prompt(row, question, options, columns)),),
        completion=f"{letters[right]}. {options[right].strip()}",
        choices=letters,
        target=letters[right],
        metadata=known({**metadata_of(row, columns), "explanation": explanation}),
        group_kind=group.kind,
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


def _said(row: Row) -> tuple[str, Any]:
    """The column that names the right answer, and what it says."""
    return next(((name, row[name]) for name in ANSWER_COLUMNS if name in row), ("", None))


def _right_answer(row: Row, options: list[str], columns: Columns) -> int:
    """The place of the right option.

    Raises:
        LeftOut: the row names none, or several.
    """
    column, said = _said(row)
    answer, first = text_of(said), columns.first_answer or 0  # 0 on the hub
    readings = readings_of(answer, options, first)
    place = find_place(answer, readings, _kinds_of(column, said, readings) or columns.answers)
    told = text_of(row.get("answer")) if column != "answer" else ""
    also = readings_of(told, options, first)
    if also["text"] and place not in set().union(*also.values()):
        raise LeftOut("ambiguous answer")  # as two columns name two options
    return place


def _kinds_of(column: str, said: Any, readings: Readings) -> Sequence[Kind]:
    """How a value is read, as far as that is known: a list (bigbio) holds a text."""
    if isinstance(said, list):
        return ("text",)
    if column in LABEL_COLUMNS and (readings["letter"] or readings["number"]):
        return ("letter", "number")
    return ()


def settle_answers(rows: Iterable[Row], columns: Columns) -> Columns:
    """The columns with how a file names its right answers, looked up in it unless it is said.

    Raises:
        DataError: numbers may count from 0 or from 1.
    """
    if columns.answers and columns.first_answer is not None:
        return columns
    evidence = Evidence()
    for row in rows:
        with suppress(LeftOut):
            (column, said), options = _said(row), _question_and_options(row)[1]
            answer = text_of(said)
            kinds = _kinds_of(column, said, readings_of(answer, options, None))
            evidence.add(answer, options, kinds or columns.answers)
    first = evidence.first if columns.first_answer is None else columns.first_answer
    answers = columns.answers or evidence.kinds(first)
    return columns.model_copy(update={"first_answer": first, "answers": answers})
