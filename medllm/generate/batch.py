"""The answers to a file of prompts, written in batches."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.job import Outcome
from medllm.artifacts.manifest import Counts
from medllm.data.example import last_question, read_jsonl
from medllm.data.readers.reviewed import ContextReader
from medllm.engines.base import Generates
from medllm.engines.row_file import Row, RowFile
from medllm.errors import DataError
from medllm.generate.asking import Answer, Asking, ask_all
from medllm.generate.config import GenerateConfig
from medllm.generate.judging import count_cut, judge, sum_up_answers
from medllm.generate.opening import decided_by, open_engine, with_system
from medllm.generate.prompts import Prompt, count_failed, count_ids, read_prompts
from medllm.generate.reviewing import Reviewer, record_of, sum_up
from medllm.models.gpu import describe_device
from medllm.models.hardware import pick_device
from medllm.models.load import ModelRef, computed_in

AT_ONCE = 256
"""Prompts that are encoded before the first of them is asked: batches of like length come of it."""
TOO_LONG = "shorten the prompts, raise n_ctx, or read them in pieces: over_length: split"


def answer_file(config: GenerateConfig, source: Path, model: ModelRef, folder: Path) -> Outcome:
    """Write `generations.jsonl`, and tell what came of it."""
    rejected: Counter[str] = Counter()
    reviewer = Reviewer.of(config.review) if config.review else None
    contexts = ContextReader(config.review.context) if config.review else None
    asked = read_prompts(source, rejected, contexts)
    file = RowFile(folder / "generations.jsonl")
    engine = open_engine(model, config)
    if not file.is_whole:
        Writer(engine, config, reviewer).write(asked, file)
    results = {**decided_by(engine, config), **count_ids(asked)}
    engine.close()
    results["computed_in"] = computed_in(model, config.dtype)
    rows = list(zip(asked, read_jsonl(file.path), strict=True))
    failed = {prompt.number: row["error"] for prompt, row in rows if "error" in row}
    if len(failed) == len(rows):
        file.path.unlink()  # a server may refuse all now, and none when it is asked again
    if count_failed(source, failed, len(asked), TOO_LONG):
        rejected["cannot be answered"] = len(failed)
    results["answers_cut"] = count_cut((row for _, row in rows), "generate")
    references = [prompt.reference for prompt in asked]
    results |= sum_up_answers((row for _, row in rows), references)
    if reviewer and contexts:
        records = (row["review"] for _, row in rows if "review" in row)
        known = sum(prompt.patient is not None for prompt in asked)
        told = {"patient_contexts": known, "passages_in_their_column": contexts.passages}
        results["review"] = {**sum_up(records, reviewer), **told}
    counts = Counts(examples=len(asked) - len(failed), rejected=dict(rejected))
    return Outcome(counts, results, describe_device(pick_device()))


@dataclass(frozen=True)
class Writer:
    """Writes the answers to prompts as a section asks for them."""

    engine: Generates
    config: GenerateConfig
    reviewer: Reviewer | None = None
    instruction: str = ""
    """Where a prompt begins with it, it stands before each of its pieces."""
    what: str = "generate"

    def write(self, asked: Sequence[Prompt], file: RowFile) -> None:
        """The answers that are not there yet, each on the disk as soon as it is whole."""
        done, config = file.numbers(), self.config
        asking = Asking(config.sampling(config.seed), config.over_length, self.instruction)
        left = [prompt for prompt in asked if prompt.number not in done]
        with console.progress(self.what, len(asked)) as advance, file.adding() as add:
            advance(len(done))
            for begin in range(0, len(left), AT_ONCE):
                some = left[begin : begin + AT_ONCE]
                conversations = [with_system(prompt.messages, config.system) for prompt in some]
                for place, answer in ask_all(self.engine, conversations, asking):
                    add(some[place].number, self._row_of(some[place], answer))
                    advance(1)
        file.finish()

    def _row_of(self, prompt: Prompt, answer: Answer | DataError) -> Row:
        """A row of the result: the answer and its review, or why there is none."""
        if isinstance(answer, DataError):
            told = {"answer": None, "finish_reason": "error", "error": answer.message}
            return prompt.names | told
        row: Row = {**prompt.names, "answer": answer.text, "finish_reason": answer.finish_reason}
        row |= judge(answer, self.config)
        if self.reviewer is None:
            return row
        reviewed = self.reviewer.review(
            answer.text, *last_question(prompt.messages), context=prompt.patient
        )
        return {**row, "answer": reviewed.text, "review": record_of(reviewed.report)}


def show_numbers(results: Mapping[str, Any]) -> None:
    """Show how far confidence goes with what references say."""
    told = results.get("confidence", {}).get("calibration")
    if told:
        rows = [
            ("answers with a reference", f"{told['items']:,}"),
            ("token F1, exact match", f"{told['token_f1']:.3f}, {told['exact_match']:.3f}"),
            ("calibration error of the confidence", f"{told['calibration_error']:.3f}"),
            ("risk area (AURC)", f"{told['risk_area']:.3f}"),
        ]
        console.table(("confidence", ""), rows, title="confidence against references")
