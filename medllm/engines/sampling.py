"""How tokens are chosen: a word means the same on every engine, or the engine refuses it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from medllm.engines.servers.llama_schema import find_unheeded
from medllm.errors import DataError

GREEDY_BELOW = 1e-5
"""Temperatures below are 0, as vLLM has it (`_SAMPLING_EPS`)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate; temperature 0 is greedy decoding.

    What the model expects of the next token is changed in the order of transformers: by the biases,
    the penalties (repetition, presence, frequency), the temperature, top_k, top_p, min_p.
    """

    max_tokens: int = 256
    """The most tokens of the answer, which also ends where the context is full."""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    """None draws anew each time."""
    stop: tuple[str, ...] = ()
    top_k: int = 0
    """How many of the likeliest tokens may be drawn; 0: all."""
    min_p: float = 0.0
    """The share of the likeliest token's probability that a token needs to be drawn."""
    repetition_penalty: float = 1.0
    """Divides the logit of each token of prompt and answer (multiplies a negative one); CTRL's,
    https://arxiv.org/abs/1909.05858."""
    presence_penalty: float = 0.0
    """Taken off the logit of each token of the answer, as in OpenAI's interface."""
    frequency_penalty: float = 0.0
    """Taken off it as often as the answer has the token."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids, and what is added to the logit of each before anything else."""
    json_schema: str | None = None
    """A JSON schema, as JSON, that the answer must fit, unless `max_tokens` cuts it."""
    num_beams: int = 1
    """Answers that are followed at once; the likeliest is given."""
    length_penalty: float = 1.0
    """The power of its length by which a beam's log-likelihood is divided: above 1 longer answers
    win, below 1 shorter ones."""

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken; so small a temperature would divide by zero."""
        return self.temperature < GREEDY_BELOW

    @property
    def seed_32(self) -> int | None:
        """The seed in the 32 bits of llama.cpp's, less the value that it takes for none."""
        return None if self.seed is None else self.seed % (2**32 - 1)

    @property
    def has_penalties(self) -> bool:
        """Whether the tokens that stand there change what comes."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)

    @property
    def named(self) -> dict[str, Any]:
        """What differs from plain greedy decoding, by name."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, plain) in values.items() if value != plain}


NO_BEAMS = dict.fromkeys(("num_beams", "length_penalty"), "only transformers follows beams")
COUNTS_PROMPT = "llama-server counts the tokens of the prompt, too; the engine llama_cpp does not"
NO_SCHEMA = {"json_schema": "llama-server alone holds answers to a schema; it serves .gguf files"}
UNCOMMON = ("top_k", "min_p", "repetition_penalty", "logit_bias", "json_schema")
UNHEEDED = "a server behind an address may leave it unheeded without a word"
REFUSED: Mapping[str, Mapping[str, str]] = {
    "transformers": NO_SCHEMA,
    "fake": NO_SCHEMA,
    "llama_cpp": NO_BEAMS | NO_SCHEMA,
    "llama_server": {
        **NO_BEAMS,
        **dict.fromkeys(("presence_penalty", "frequency_penalty"), COUNTS_PROMPT),
    },
    "vllm": NO_BEAMS | NO_SCHEMA,
    "openai": {**NO_BEAMS, **dict.fromkeys(UNCOMMON, UNHEEDED)},
}
"""What engines cannot do, and why."""


class UnfitSampling(DataError):
    """An engine cannot choose tokens as it is asked to."""


def check_sampling(engine: str, sampling: Sampling) -> None:
    """Raises UnfitSampling where the engine of this name would not do what is asked."""
    named = sampling.named
    if problem := contradiction(named):
        raise UnfitSampling(*problem)
    for name, why in REFUSED.get(engine, {}).items():
        if name in named:
            message = f"{name}: the engine {engine} cannot heed it: {why}"
            raise UnfitSampling(message, f"leave {name} out")
    schema = json.loads(sampling.json_schema or "{}") if engine == "llama_server" else {}
    if word := find_unheeded(schema):
        message = f"json_schema: llama.cpp would not hold an answer to its '{word}'"
        raise UnfitSampling(message, "leave it out, and check the answer for it")


def contradiction(named: Mapping[str, Any]) -> tuple[str, str] | None:
    """What no engine can do, and the fix; None where the values fit together."""
    if "length_penalty" in named and "num_beams" not in named:
        return "length_penalty weighs beams, and num_beams is 1", "name num_beams, or leave it out"
    if "num_beams" in named and named.get("temperature", 0) >= GREEDY_BELOW:
        return "beams are chosen by likelihood, not drawn", "with num_beams, temperature is 0"
    return None
