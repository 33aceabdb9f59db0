"""A plain way to ask: a question in, an answer and what its review found out, at `/generate`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from medllm.serve.forms.messages import ChatMessage
from medllm.serve.forms.strict import Text
from medllm.serve.routes.reply import Outcome, Reply
from medllm.serve.wire import ApiError, ChatRequest

WRITTEN = {"messages": "question", "max_tokens": "max_length", "review": "use_safety"}
"""Fields of a chat, and what they are called here."""


class PlainRequest(BaseModel):
    """The body of `POST /generate`."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    question: Annotated[Text, Field(min_length=1)]
    """What is asked."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 takes the likeliest token."""
    max_length: int | None = Field(default=None, ge=1)
    """The most tokens of the answer."""
    use_safety: bool = True
    """Whether the answer is reviewed; false only where the server allows that."""
    patient_context: dict[str, Any] | None = None
    """What is known of the patient, for the review of the answer; as in a chat."""

    def as_chat(self, model: str) -> ChatRequest:
        """The same as a request of OpenAI's."""
        return ChatRequest(
            model=model,
            messages=[ChatMessage(role="user", content=self.question)],
            temperature=self.temperature,
            max_tokens=self.max_length,
            patient_context=self.patient_context,
            review=None if self.use_safety else False,
        )


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Meanwhile a refusal names fields as they are called here."""
    try:
        yield
    except ApiError as problem:
        problem.param = WRITTEN.get(problem.param or "", problem.param)
        raise


def as_plain(reply: Reply, outcome: Outcome, began: float) -> dict[str, Any]:
    """The answer in the plain form.

    `mean_token_logprob` is the mean log-likelihood of its tokens under the model, in nats: no
    probability of being right. Null where the engine does not tell it.
    """
    clamped = {WRITTEN[name]: given for name, given in reply.clamped.items()}
    return {
        "response": outcome.piece.text,
        "safety_report": outcome.report.to_json() if outcome.report else None,
        "mean_token_logprob": outcome.mean_logprob,
        "inference_time_ms": round((time.monotonic() - began) * 1000),
        "response_id": reply.id,
        **({"clamped": clamped} if clamped else {}),
    }
