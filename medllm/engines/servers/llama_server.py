"""The engine for GGUF files that answers many at once: llama-server in a process of its own."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medllm import SPINS, console
from medllm.artifacts.serving import ServerSettings
from medllm.engines.base import EngineDown, GenerateRequest, Piece, Sampling, TokenLogprob
from medllm.engines.gguf_template import GgufTemplate
from medllm.engines.llama_cpp_setup import find_llama_server
from medllm.engines.prompts import prompt_ids
from medllm.engines.sampling import check_sampling
from medllm.engines.servers import llama_chat
from medllm.engines.servers.chat import Chat, UnfitChat, check_texts
from medllm.engines.servers.http import lines_of
from medllm.engines.servers.openai import one_call
from medllm.engines.servers.private import PrivateServer
from medllm.engines.servers.process import OF_LLAMA
from medllm.engines.servers.slots import Slot, Slots
from medllm.errors import DataError
from medllm.models.chat.prompts import check_room
from medllm.models.hardware import count_cpus

PARALLEL = 4
KEY_VARIABLE = "LLAMA_API_KEY"
SPINS_OF_SERVER = "30000"
"""How often a thread of llama.cpp looks whether there is work before it sleeps, about 0.3 ms. With
as few as medllm's own `SPINS` an answer after a pause takes four times as long: threads that fall
asleep between two steps wake on one processor, and stay there. `GOMP_SPINCOUNT=3001` in the
environment of `scripts/benchmarks/serve.py` shows it."""


class LlamaServerEngine(GgufTemplate):
    """A GGUF model behind a llama-server that only this process can reach.

    It listens on a socket in a folder of this user's, with a random key. What one owner asked is
    never used for another's answer: a slot of the cache that changes hands is read anew.
    """

    name = "llama_server"
    reads_images = False

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int | None = None,
        window: int | None = None,
        settings: ServerSettings | None = None,
    ) -> None:
        """Start llama-server with the model, and return when it takes requests.

        Args:
            path: A .gguf file.
            n_ctx: The tokens of prompt and answer together, of each of the answers at once.
            window: See `GgufTemplate`.
            settings: How llama-server runs.

        Raises:
            ArtifactError: the file is missing, or is no GGUF that llama.cpp can load.
            ConfigError: the model was made for fewer tokens than `n_ctx`.
            LlamaServerMissing: this machine has none.
            SetupError: it does not start.
        """
        find_llama_server()
        super().__init__(path, n_ctx=n_ctx, window=window, vocab_only=True)
        self._settings = settings or ServerSettings()
        self.parallel = self._settings.parallel or PARALLEL
        self._slots = Slots(self.parallel)
        self._free = asyncio.Semaphore(self.parallel)
        self.reused_tokens = 0
        """Tokens of the last answered prompt that were not read anew."""
        self._knows_end = self._is_end_known()
        self._start()

    @property
    def is_ready(self) -> bool:
        """Whether llama-server runs and takes requests."""
        return self.server.process.ready

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """The answer as it comes, or in one piece where `request.whole` asks for no more.

        Raises:
            DataError: the prompt is empty, leaves no room for an answer, or comes with images.
            EngineDown: llama-server has died, or died meanwhile; it is being started again.
        """
        check_sampling(self.name, request.sampling)
        ids = prompt_ids(self, request, self.context_length)
        async with self._free:
            if not self.is_ready:
                raise EngineDown
            slot, is_kept = self._slots.take(ids, request.owner)
            try:
                async with aclosing(self._ask(slot, ids, request, is_kept)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                self._slots.give_back(slot)

    def read_chat(self, chat: Chat, sampling: Sampling) -> list[int]:
        """The token ids of a conversation with tools, as llama-server renders it.

        Raises:
            UnfitPrompt: it leaves no room for an answer.
            UnfitChat: there are images in it, or a text spells a special token.
            DataError: the chat template refuses it.
            EngineDown: llama-server is not there now.
        """
        if chat.has_images:
            message = "images: a .gguf file is served without its projector (mmproj)"
            fix = "serve the folder that the file was made of, with transformers"
            raise UnfitChat("messages", message, fix)
        check_texts(chat, self.special_tokens, self.context_length)
        if not self._knows_tools:
            message = "tools: this model's chat template leaves them out"
            fix = "serve a model that was tuned to call them"
            raise UnfitChat("tools" if chat.tools else "messages", message, fix)
        if chat.needs_calls and not self._knows_calls:
            message = (
                "this model's chat template leaves calls out: none can be sent back or required"
            )
            fix = "leave tool_choice at auto, and say in the user's words what a tool told"
            raise UnfitChat("messages", f"messages: {message}", fix)
        rendered = llama_chat.render(self.server, llama_chat.body_of(chat))
        ids = self.encode(rendered, add_special_tokens=True)
        check_room(ids, self.context_length)
        return ids

    def close(self) -> None:
        """End llama-server and free what it held."""
        self.server.close()
        self._model.close()

    def _start(self) -> None:
        server, is_own = find_llama_server()
        environ = dict[str, str]()
        if os.environ.get("GOMP_SPINCOUNT") == SPINS:  # nobody has chosen another
            environ["GOMP_SPINCOUNT"] = SPINS_OF_SERVER
        if is_own:
            libraries, known = str(server.parents[1] / "lib"), os.environ.get("LD_LIBRARY_PATH")
            environ["LD_LIBRARY_PATH"] = f"{libraries}:{known}" if known else libraries

        if left := ", ".join(sorted(name for name in os.environ if name.startswith(OF_LLAMA))):
            console.notice(f"{left}: not passed on to llama-server; only medllm's settings count")
        self.server = PrivateServer("llama-server", KEY_VARIABLE, environ)
        command = [
            str(server), "--model", str(self._path), "--host", str(self.server.socket),
            "--ctx-size", str(self.context_length * self.parallel), "--parallel",
            str(self.parallel), "--no-kv-unified", "--threads",
            str(self._settings.n_threads or count_cpus()), "--cache-ram", "0", "--no-ui",
            "--no-slots", "--offline", "--log-verbosity", "1",
        ]  # fmt: skip
        if self._settings.n_gpu_layers is not None:
            command += ["--n-gpu-layers", str(self._settings.n_gpu_layers)]
        if not is_own:
            command.append("--no-repack")  # see `llama_native.model_parameters`
        self.server.start(command)

    def _is_end_known(self) -> bool:
        """Whether llama.cpp by itself stops where this chat template ends an answer."""
        is_end, vocab = self._llama.llama_vocab_is_eog, self._model.vocab
        return all(is_end(vocab, token) for token in self._ends)

    @cached_property
    def _knows_tools(self) -> bool:
        """Whether its template tells the model of tools; else llama-server drops them unsaid."""
        asked = {"messages": [{"role": "user", "content": "?"}]}
        return llama_chat.render(self.server, asked) != llama_chat.render(
            self.server, {**asked, "tools": [llama_chat.A_TOOL]}
        )

    @cached_property
    def _knows_calls(self) -> bool:
        """Whether its template tells the model of calls, as that of LFM2 does not."""
        try:
            return llama_chat.A_NAME in llama_chat.render(self.server, llama_chat.WITH_CALL)
        except DataError:  # it knows no messages of tools
            return False

    async def _ask(
        self, slot: Slot, ids: list[int], request: GenerateRequest, is_kept: bool
    ) -> AsyncGenerator[Piece, None]:
        is_single = request.chat is not None and request.chat.parallel_tool_calls is False
        whole = request.whole and (self._knows_end or request.chat is not None) and not is_single
        room = self.context_length - len(ids)
        given = llama_chat.body_of(request.chat) if request.chat else {"prompt": ids}
        path = llama_chat.PATH if request.chat else "/completion"
        body = {
            **given, "id_slot": slot.number, "cache_prompt": is_kept, "stream": not whole,
            "return_tokens": not self._knows_end, "n_probs": _probabilities(request),
            **_sampled(request.sampling, room, self.context_length),
        }  # fmt: skip
        async with self.server.requests.post(path, body) as told:
            if whole or told.status != 200:
                yield self._last(_checked(told.status, await told.read()), request)
                return
            written = 0
            async for line in lines_of(told):
                if piece := self._piece(line, request, written):
                    written += piece.tokens
                    piece = one_call(piece) if is_single else piece
                    yield piece
                    if piece.finish_reason:
                        return
        raise EngineDown  # what came may not be whole

    def _piece(self, line: str, request: GenerateRequest, written: int) -> Piece | None:
        """What an event tells; `written` tokens were told before it."""
        if request.chat:
            return llama_chat.read_line(line, written)
        if not line.startswith("data: "):
            return None
        event = json.loads(line[6:])
        if "error" in event:
            raise EngineDown
        if not self._knows_end and set(event.get("tokens", ())) & set(self._ends):
            return Piece("", 0, "stop")
        if event["stop"]:
            # half a character, and what may begin a stop string, came without text
            last = self._last(event, request)
            return replace(last, tokens=max(last.tokens - written, 0), logprobs=())
        # without text it may be the token that ends the answer, which does not count
        tokens = int(bool(event["content"]))
        return Piece(
            event["content"],
            tokens,
            None,
            _likelihood(event),
            logprobs=self._logprobs(event, request),
        )

    def _last(self, answer: Any, request: GenerateRequest) -> Piece:
        self.reused_tokens = answer["timings"]["cache_n"]
        if request.chat:
            return llama_chat.read_answer(answer)
        reason = "length" if answer["stop_type"] == "limit" else "stop"
        has_end = answer["stop_type"] == "eos"
        return Piece(
            answer["content"],
            answer["tokens_predicted"] - has_end,
            reason,
            _likelihood(answer, has_end),
            logprobs=self._logprobs(answer, request),
        )

    def _logprobs(self, answer: Any, request: GenerateRequest) -> tuple[TokenLogprob, ...]:
        """By token ids: in a stream llama-server tells a token by the text that it sends with it.

        That lacks what may begin a stop string, and has it at a later token.
        """
        count = request.logprobs
        if count is None:
            return ()

        def told(each: Any) -> tuple[str, float]:
            return self.decode([each["id"]]), each["logprob"]

        return tuple(
            TokenLogprob(*told(each), tuple(map(told, each["top_logprobs"][:count])))
            for each in answer.get("completion_probabilities", ())
        )


def _likelihood(answer: Any, has_end: bool = False) -> float | None:
    """The log-likelihood of the tokens of a part, before penalties and temperature."""
    told = answer.get("completion_probabilities")
    if not told:
        return None
    return float(sum(each["logprob"] for each in told[: len(told) - has_end]))


def _probabilities(request: GenerateRequest) -> int:
    """How many tokens llama-server tells the probability of, for each token of the answer."""
    return max(request.logprobs or 0, request.likelihood or request.logprobs is not None)


SAMPLERS = ["penalties", "temperature", "top_k", "top_p", "min_p"]
GREEDY = ["penalties", "top_k"]
"""The likeliest token is taken before all of a large vocabulary are weighed, which takes time."""


def _sampled(sampling: Sampling, room: int, window: int) -> dict[str, Any]:
    """The sampling in llama-server's words, in the order of `Sampling`, and nothing else.

    `window` are the tokens of the context: a repetition counts wherever it is.
    """
    return {
        "n_predict": min(sampling.max_tokens, room),
        "samplers": GREEDY if sampling.is_greedy else SAMPLERS,
        "temperature": 0.0 if sampling.is_greedy else sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 1 if sampling.is_greedy else sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": window,
        "seed": -1 if sampling.seed_32 is None else sampling.seed_32,
        "logit_bias": [list(each) for each in sampling.logit_bias],
        "stop": list(sampling.stop),
        **({"json_schema": json.loads(sampling.json_schema)} if sampling.json_schema else {}),
    }


def _checked(status: int, content: bytes) -> Any:
    answer = json.loads(content)
    if status == 200:
        return answer
    if status == 400:
        message = "llama-server refused the request: it cannot use its JSON schema or token ids"
        raise DataError(message, "llama.cpp's documents say which schemas it knows")
    raise EngineDown
