"""What a GGUF file says of prompts: its tokenizer, its chat template, its context."""

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medllm import console
from medllm.data.example import Message
from medllm.engines.base import choose_context, encodable
from medllm.engines.llama_native import load_llama_cpp, model_parameters, read_settings
from medllm.errors import ArtifactError
from medllm.models.chat.answer_end import answer_end
from medllm.models.chat.rendering import bounded_rendering
from medllm.models.chat.special_tokens import SpecialTokens

DEFAULT_N_CTX = 4096  # the cache for a modern training context (131,072 tokens) would fill memory


class GgufTemplate:
    """A GGUF model's own tokenizer and chat template, from llama.cpp."""

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int | None = None,
        window: int | None = None,
        vocab_only: bool = False,
    ) -> None:
        """Load the model, or with `vocab_only` nothing of it but what is needed here.

        Args:
            path: A .gguf file.
            n_ctx: The most tokens of prompt and answer together; by default what the model was
                trained with, but not more than 4096, nor than `window`.
            window: The tokens of a sliding window that the model was trained with and llama.cpp
                does not know of: beyond it llama.cpp computes another model, which is said.
            vocab_only: Leave the weights where they are.

        Raises:
            ArtifactError: the file is missing, or is no GGUF that llama.cpp can load.
            ConfigError: the model was made for fewer tokens than `n_ctx`.
            SetupError: llama.cpp is not set up.
        """
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file", "give the path of a .gguf file")
        self._path = path
        self._llama, self._log = load_llama_cpp()
        self._model = self._load_model(vocab_only)
        self.context_length = choose_context(
            n_ctx, self._model.n_ctx_train(), min(window or DEFAULT_N_CTX, DEFAULT_N_CTX)
        )
        if window and self.context_length > window:
            console.notice(
                f"llama.cpp has no sliding window for {path.name}: beyond {window:,} tokens it "
                "computes another model"
            )
        self.unused_settings: Mapping[str, Any] = read_settings(self._llama, self._model.model)
        template = self._llama.llama_model_chat_template(self._model.model, None)
        self._chat_template = template.decode() if template else None
        self.has_chat_template = bool(template)
        self.eos_token = self._token_text(self._model.token_eos())
        self.special_tokens = self._find_special_tokens()
        self.vocabulary = int(self._model.n_vocab())
        self._ends = self.encode(answer_end(self), add_special_tokens=False)[-1:]

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages through the GGUF's own chat template.

        Raises:
            ArtifactError: the model has no chat template.
            DataError: its template refuses the messages.
        """
        from jinja2 import TemplateError
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        if self._chat_template is None:
            fix = "use a plain prompt, or a model that was tuned to follow instructions"
            raise ArtifactError(f"{self._path} has no chat template", fix)
        bos = self._token_text(self._model.token_bos())
        mark = self.special_tokens.mark
        turns: list[Any] = [{"role": turn.role, "content": mark(turn.content)} for turn in messages]
        with bounded_rendering():
            formatter = Jinja2ChatFormatter(
                self._chat_template, self.eos_token, bos, add_generation_prompt
            )
            try:
                return str(formatter(messages=turns).prompt)
            except ValueError as problem:  # what `raise_exception` in a template raises here
                raise TemplateError(str(problem)) from problem

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text, special tokens in it recognised unless they are marked.

        With `add_special_tokens`, BOS comes first where the model wants it, and never twice.
        """
        tokens: list[int] = []
        for part, is_text in self.special_tokens.stretches(encodable(text)):
            tokens += self._model.tokenize(part.encode(), add_bos=False, special=not is_text)
        bos = self._model.token_bos()
        wants_bos = add_special_tokens and self._model.add_bos_token()
        return [bos, *tokens] if wants_bos and tokens[:1] != [bos] else tokens

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens as they are spelled."""
        return b"".join(self._token_bytes(each, special=True) for each in ids).decode(
            errors="replace"
        )

    def _token_bytes(self, token: int, size: int = 64, *, special: bool = False) -> bytes:
        """What a token writes, maybe a part of a character; a control token if `special`."""
        buffer = ctypes.create_string_buffer(size)
        vocab = self._model.vocab
        count = self._llama.llama_token_to_piece(vocab, token, buffer, size, 0, special)
        return (
            buffer.raw[:count] if count >= 0 else self._token_bytes(token, -count, special=special)
        )

    def _load_model(self, vocab_only: bool) -> Any:
        parameters = model_parameters(self._llama)
        parameters.vocab_only = vocab_only
        self._log.clear()
        try:
            with console.quiet():
                return self._llama._internals.LlamaModel(
                    path_model=str(self._path), params=parameters, verbose=False
                )
        except ValueError as problem:
            what = f"{self._path} cannot be loaded by llama.cpp: {self._log.reason}"
            raise ArtifactError(what, "make it again: medllm quantize --format gguf") from problem

    def _find_special_tokens(self) -> SpecialTokens:
        """What llama.cpp recognises in a text where it is told to parse special tokens."""
        read, vocab = self._llama.llama_vocab_get_attr, self._model.vocab
        special = self._llama.LLAMA_TOKEN_ATTR_CONTROL | self._llama.LLAMA_TOKEN_ATTR_UNKNOWN
        found = (token for token in range(self._model.n_vocab()) if read(vocab, token) & special)
        return SpecialTokens(map(self._token_text, found))

    def _token_text(self, token: int) -> str:
        exists = token != self._llama.LLAMA_TOKEN_NULL
        return str(self._model.token_get_text(token)) if exists else ""
