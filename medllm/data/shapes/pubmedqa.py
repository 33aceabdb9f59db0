"""PubMedQA: the raw release's rows, the hub's, and both of bigbio's."""

from collections.abc import Mapping, Sequence
from typing import Any

from medllm.data.example import Example, Message, Rejected
from medllm.data.groups import Group, read_id
from medllm.data.left_out import LeftOut
from medllm.data.readers.rows import KEY, Row
from medllm.data.shapes.columns import Columns
from medllm.data.shapes.values import known, text_of

DECISIONS = ("yes", "no", "maybe")
IDS = (KEY, "pubid", "document_id", "id")
READ = frozenset(
    {"QUESTION", "CONTEXTS", "LONG_ANSWER", "question", "context", "long_answer", "final_decision",
     "answer", "YEAR", *IDS}
)  # fmt: skip


def read_pubmedqa(dataset: str, number: int, row: Row, columns: Columns) -> Example | Rejected:
    """A question on an abstract, with the decision and the long answer, as far as there are any.

    The raw release has upper-case columns and the PMID as key, the hub lower-case columns and a
    nested `context`, bigbio's own schema one text for it and a list with the decision. The prompt
    is lm-evaluation-harness's, so that training, calibration and evaluation see the same text.
    """
    identity = f"{dataset}/{number}"
    try:
        pmid = next(filter(None, (read_id(row.get(name)) for name in IDS)), "")
        identity = f"{dataset}/{pmid or number}"
        return _build(dataset, Group(pmid or str(number), "article" if pmid else ""), row)
    except LeftOut as problem:
        return Rejected(identity, str(problem))


def _build(dataset: str, group: Group, row: Row) -> Example:
    raw = "QUESTION" in row
    question = text_of(row.get("QUESTION" if raw else "question"))
    contexts = _contexts(row.get("CONTEXTS") if raw else row.get("context"))
    answer = text_of(row.get("LONG_ANSWER" if raw else "long_answer"))
    decision = _decision(row)
    if not question or not contexts:
        raise LeftOut("no question" if not question else "no context")
    if decision and decision not in DECISIONS:
        raise LeftOut("unknown decision")
    if not answer and not decision:
        raise LeftOut("no answer")
    abstract = "\n".join(contexts)
    return Example(
        id=f"{dataset}/{group.id}",
        dataset=dataset,
        group=group.id,
        prompt=(Message("user", f"Abstract: {abstract}\nQuestion: {question}\nAnswer:"),),
        completion=f"{decision}. {answer}".strip() if decision else answer,
        choices=DECISIONS if decision else (),
        target=decision or None,
        metadata=known({"year": row.get("YEAR")}),
        group_kind=group.kind,
    )


def _decision(row: Row) -> str:
    return text_of(row.get("final_decision", row.get("answer"))).lower()


def _contexts(value: Any) -> list[str]:
    """The paragraphs of an abstract: a list, a mapping (hub), mappings (older `datasets`), a text.

    bigbio joins the paragraphs into one text.
    """
    if isinstance(value, Mapping):
        value = value.get("contexts")
    if isinstance(value, str):
        value = [value]
    if isinstance(value, Sequence):
        return [
            text
            for item in value
            if (text := text_of(item.get("contexts") if isinstance(item, Mapping) else item))
        ]
    return []
