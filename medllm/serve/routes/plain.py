"""A plain way to ask: a question in, an answer and what its review found out, at `/generate`."""

import time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from medllm.serve.wire import ChatMessage, ChatRequest, Text


class PlainRequest(BaseModel):
    """The body of `POST /generate`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    question: Annotated[Text, Field(min_length=1)]
    temperature: float = Field(default=0.0, ge=0, le=2)
    max_length: int | None = Field(default=None, ge=1)
    """The most tokens of the answer."""
    use_safety: bool = True
    """Whether the answer is reviewed; false only where the server allows that."""
    patient_context: dict[str, Any] | None = None

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


def as_plain(answer: dict[str, Any], began: float) -> dict[str, Any]:
    """The answer in the plain form, from OpenAI's.

    `mean_token_logprob` is null: the engines do not tell it while they generate, and it would be no
    probability of being right.
    """
    report = answer.get("safety_report")
    return {
        "response": answer["choices"][0]["message"]["content"],
        "safety_report": report,
        "mean_token_logprob": None,
        "inference_time_ms": round((time.monotonic() - began) * 1000),
    }
