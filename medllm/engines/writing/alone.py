"""One answer, written by transformers' `generate`, whose reader may go away at any time."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from medllm.engines.sampling import Sampling
from medllm.engines.writing.choosing import Chooser, changes_of

if TYPE_CHECKING:
    import torch

QUICK_TOKENS = 64  # a prompt up to here is read so soon that nobody needs to stop it
NO_TOKEN = -1  # a layer begins its work, on a longer prompt or on beams

Token = tuple[int, float]
"""A token, and its log-likelihood before penalties and temperature, in nats."""


def write_tokens(
    model: Any, prompt: Sequence[int], sampling: Sampling, room: int
) -> Generator[Token]:
    """The tokens of an answer as they are chosen, `room` at most; NO_TOKEN as layers work.

    Closing it ends the work with the layer that it is at. Beams give their tokens at the end.
    """
    import torch

    ids = torch.tensor([list(prompt)], device=model.device)
    has_beams = sampling.num_beams > 1
    chosen = _Chosen(sampling, len(prompt), tells_layers=has_beams or len(prompt) > QUICK_TOKENS)
    arguments: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": min(sampling.max_tokens, room),
        "do_sample": False,  # `chosen` draws
        "stopping_criteria": [chosen.is_stopped],
    }
    if has_beams:
        arguments |= {"num_beams": sampling.num_beams, "length_penalty": sampling.length_penalty,
                      "logits_processor": changes_of(sampling, len(prompt))}  # fmt: skip
    else:
        arguments |= {"streamer": chosen, "logits_processor": [chosen.choose]}
    with _asked(model, chosen.go_on), ThreadPoolExecutor(1) as pool:
        work = pool.submit(model.generate, **arguments)
        work.add_done_callback(lambda _: chosen.end())  # else the reader may wait for ever
        try:
            yield from iter(chosen.queue.get, None)
        finally:
            chosen.stopped = True
        made = work.result()  # raises what stopped it
    if has_beams:
        yield from _likelihoods(model, made, len(prompt))


def _likelihoods(model: Any, ids: "torch.Tensor", begin: int) -> Iterator[Token]:
    """The tokens of a row from `begin` on, read once more."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0, begin - 1 : -1].float()
        tokens = ids[0, begin:]
        chosen = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    yield from zip(tokens.tolist(), chosen.tolist(), strict=True)


class _ReaderLeft(Exception):
    """Ends the pass of a model whose answer nobody reads any more."""


@contextmanager
def _asked(model: Any, ask: Callable[..., None]) -> Iterator[None]:
    """Meanwhile each layer of the model calls `ask` before its work."""
    layers = getattr(base_of(model), "_no_split_modules", None) or ()
    found = [module for module in model.modules() if type(module).__name__ in layers]
    hooks = [layer.register_forward_pre_hook(ask) for layer in found]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Chosen:
    """Chooses the tokens of an answer, and takes them one by one (a streamer to transformers)."""

    def __init__(self, sampling: Sampling, prompt_tokens: int, *, tells_layers: bool) -> None:
        self.queue: SimpleQueue[Token | None] = SimpleQueue()
        self.stopped = False
        self._chooser = Chooser(sampling, prompt_tokens)
        self._logprobs: deque[float] = deque()  # of tokens that are chosen and not yet taken
        self._tells_layers = tells_layers  # until the first token
        self._has_prompt = False

    def choose(self, ids: "torch.Tensor", logits: "torch.Tensor") -> "torch.Tensor":
        """Scores that leave one token to take."""
        token = self._chooser.choose(ids, logits)
        self._logprobs.append(float(logits[0, token] - logits[0].logsumexp(-1)))
        only = logits.new_full(logits.shape, float("-inf"))
        only[0, token] = 0.0
        return only

    def put(self, ids: "torch.Tensor") -> None:
        """Take the prompt, which comes first, or a token."""
        if self._has_prompt:
            self._tells_layers = False
            self.queue.put((int(ids), self._logprobs.popleft()))
        self._has_prompt = True

    def go_on(self, *_: Any) -> None:
        """What a layer asks before its work: a long prompt must not be read for nobody."""
        if self.stopped:
            raise _ReaderLeft
        if self._tells_layers:
            self.queue.put((NO_TOKEN, 0.0))

    def end(self) -> None:
        """Tell the reader that no more come."""
        self.queue.put(None)

    def is_stopped(self, ids: "torch.Tensor", scores: Any, **_: Any) -> bool:
        """Whether the reader went away."""
        return self.stopped


def base_of(model: Any) -> Any:
    """The model below an adapter, which writes the answers; without one the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
