"""Feedback on answers: taken at `/feedback`, and given out as a dataset to admins."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from medllm import console
from medllm.serve.callers.keys import Caller
from medllm.serve.feedback.given import Given, GivenAnswers
from medllm.serve.feedback.store import FeedbackStore
from medllm.serve.forms.messages import ChatMessage
from medllm.serve.forms.strict import Text
from medllm.serve.wire import ApiError

MOST_CHARACTERS = 8000
"""Of a comment or a correction."""
Mark = Annotated[int, Field(ge=1, le=5)]
Said = Annotated[Text, Field(min_length=1, max_length=MOST_CHARACTERS)]


class FeedbackRequest(BaseModel):
    """The body of `POST /feedback`: marks for an answer, and what may be kept of it."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    response_id: Annotated[Text, Field(min_length=1, max_length=100)]
    """The `id` of the answer."""
    helpfulness: Mark
    """From 1, no help, to 5."""
    accuracy: Mark | None = None
    """From 1, wrong, to 5, nothing in it is wrong."""
    comment: Said | None = None
    """Whatever else there is to say."""
    correction: Said | None = None
    """What should have been answered."""
    messages: list[ChatMessage] | None = Field(default=None, min_length=1)
    """The conversation up to the answer, where it may be kept; needs `answer`."""
    answer: Annotated[Text, Field(min_length=1)] | None = None
    """The answer, where it may be kept; needs `messages`."""


def check_feedback(said: FeedbackRequest, caller: Caller, given: GivenAnswers) -> Given:
    """What it is about.

    Raises:
        ApiError: this caller got no such answer, or its texts are not those of the answer.
    """
    found = given.find(said.response_id, caller.name)
    if found is None:
        message = "this key got no answer of this id since the server started"
        raise ApiError(404, message, "response_not_found", "response_id")
    if (said.messages is None) != (said.answer is None):
        alone = "messages" if said.answer is None else "answer"
        raise ApiError(400, "messages and answer are kept together or not at all", param=alone)
    if said.correction and said.messages is None:
        message = "a correction is of use with the question alone: send messages and answer too"
        raise ApiError(400, message, param="correction")
    if not all(message.is_plain for message in said.messages or ()):
        message = "a conversation with tools or images is not kept: send the marks alone"
        raise ApiError(400, message, param="messages")
    if said.messages is not None and said.answer is not None:
        turns = [turn.as_message() for turn in said.messages]
        if given.digest(turns) != found.question:
            raise ApiError(400, "this is not what was asked", "other_text", "messages")
        if given.digest_answer(said.answer) not in found.answers:
            raise ApiError(400, "this is not what was answered", "other_text", "answer")
    return found


async def keep_feedback(
    said: FeedbackRequest, caller: Caller, found: Given, model: str, store: FeedbackStore
) -> None:
    """Write it down; it is on the disk when this returns.

    Raises:
        ApiError: it cannot be written.
    """
    row: dict[str, Any] = {
        "id": said.response_id,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "caller": caller.name,
        "model": model,
        "is_clean": found.is_clean,
        "helpfulness": said.helpfulness,
    }
    row |= said.model_dump(include={"accuracy", "comment", "correction"}, exclude_none=True)
    if said.messages and said.answer:
        turns = [turn.as_message() for turn in said.messages]
        row["asked"] = [{"role": turn.role, "content": turn.content} for turn in turns]
        row["answered"] = said.answer
    try:
        await asyncio.to_thread(store.add, row)
    except OSError as problem:
        console.notice(f"server: feedback cannot be written: {problem.strerror}")
        message = "the feedback could not be written down"
        raise ApiError(500, message, "feedback_failed") from problem
