"""Files of running text, and the two XML releases of the registry, as rows."""

from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree import ElementTree

from medllm.data.patterns import finder
from medllm.data.readers.files import (
    LONGEST_LINE,
    Source,
    open_bytes,
    open_text,
    read_lines,
    too_long,
)
from medllm.errors import DataError


def read_text(
    path: Source, document_start: str | None, encoding: str = "utf-8"
) -> Iterator[dict[str, Any]]:
    """One document a file, or one from each line that matches `document_start` to the next."""
    with open_text(path, newline=None, encoding=encoding) as file:
        if document_start is None:
            text = file.read(LONGEST_LINE + 1)
            if len(text) > LONGEST_LINE:
                raise too_long(f"{path}: a document")
            yield {"text": text}
        else:
            yield from join_lines(read_lines(path, file), document_start)


def join_lines(lines: Iterable[str], document_start: str) -> Iterator[dict[str, Any]]:
    """Lines as documents: each begins with a line that matches, and none is blank."""
    begins = finder(document_start)
    document: list[str] = []
    length = 0
    for line in lines:
        if document and begins(line):
            yield {"text": "".join(document)}
            document, length = [], 0
        if document or line.strip():
            document.append(line if line.endswith("\n") else f"{line}\n")
            length += len(line)
            if length > LONGEST_LINE:
                raise too_long("by `document_start` there is a document")
    if document:
        yield {"text": "".join(document)}


def read_xml(path: Source) -> Iterator[dict[str, Any]]:
    """The question-answer pairs of a MedQuAD document, or the sections of an Open-i report.

    The rows have the columns that the CSV and JSONL forms of these two datasets have.
    """
    try:
        with open_bytes(path) as file:
            content = file.read(LONGEST_LINE + 1)
        if len(content) > LONGEST_LINE:
            raise too_long(f"{path}: a document")
        root = ElementTree.fromstring(content)  # expat refuses entities that blow up
    except (ElementTree.ParseError, ValueError, LookupError) as problem:
        raise DataError(f"{path}: not valid XML: {problem}", "fetch or copy it again") from None
    if root.find(".//QAPair") is not None:
        yield from _pairs(root)
    elif root.tag == "eCitation":
        yield _report(root)
    else:
        raise DataError(
            f"{path}: XML of a kind medllm does not read (<{root.tag:.80}>)",
            "MedQuAD's and Open-i's are read; turn others into JSONL",
        )


def _pairs(root: ElementTree.Element) -> Iterator[dict[str, Any]]:
    about = {"source": root.get("source"), "url": root.get("url"), "focus": root.findtext("Focus")}
    for pair in root.iter("QAPair"):
        question = pair.find("Question")
        attributes = {} if question is None else question.attrib
        yield {
            **about,
            "id": attributes.get("qid"),
            "qtype": attributes.get("qtype"),
            "question": pair.findtext("Question"),
            "answer": pair.findtext("Answer"),
        }


def _report(root: ElementTree.Element) -> dict[str, Any]:
    number = root.find("uId")
    sections = {
        str(part.get("Label")).lower(): "".join(part.itertext())
        for part in root.iter("AbstractText")
    }
    mesh = ";".join(filter(None, (term.text for term in root.iter("major"))))
    return {"uid": None if number is None else number.get("id"), "MeSH": mesh, **sections}
