"""A conversation, or a text → a request in the form that an engine takes, and its token ids."""

from collections.abc import Sequence
from pathlib import Path

from medllm.data.example import Message
from medllm.engines.base import Engine, GenerateRequest, Sampling, TakesChats
from medllm.engines.servers.chat import Chat, UnfitChat
from medllm.errors import DataError
from medllm.models.chat.prompts import check_bytes, check_room, encode_messages, encode_raw
from medllm.models.chat.template import Template

BYTES_A_TOKEN = 2
"""Of a text whose tokens are not known: less than a token of clinical text has with the tokenizers
of today, be it full of numbers."""


def takes_messages(engine: Engine) -> bool:
    """Whether conversations go through a chat template: the engine's own, or behind its address."""
    return not isinstance(engine, Template) or engine.has_chat_template


def ask_messages(
    engine: Engine, messages: Sequence[Message], sampling: Sampling, images: Sequence[Path] = ()
) -> GenerateRequest:
    """A conversation as token ids where the engine has some, else as it is.

    With `images` it stays as it is, too: what an image takes is known to the engine alone.

    Raises:
        UnfitPrompt: it is empty, or leaves no room for an answer.
        DataError: the chat template refuses it.
    """
    if isinstance(engine, Template) and not images:
        ids = encode_messages(engine, messages, engine.context_length)
        return GenerateRequest(ids, sampling)
    check_bytes((turn.role + turn.content for turn in messages), engine.context_length)
    return GenerateRequest((), sampling, tuple(messages), tuple(images))


def ask_chat(engine: Engine, chat: Chat, sampling: Sampling) -> GenerateRequest:
    """A conversation with tools or images, with its token ids where they are known.

    Raises:
        UnfitPrompt: it leaves no room for an answer.
        UnfitSampling: tokens cannot be chosen so where images are.
        UnfitChat: the engine does not take it.
        DataError: the chat template refuses it.
        EngineDown: the engine, which knows its template, is not there now.
    """
    if isinstance(engine, TakesChats):
        return GenerateRequest(tuple(engine.read_chat(chat, sampling)), sampling, chat=chat)
    if chat.has_images:
        message = f"images: the engine {engine.name} reads none"
        fix = "serve the folder of a model that reads them; a .gguf file comes without projector"
        raise UnfitChat("messages", message, fix)
    message = f"tools: the engine {engine.name} reads no calls in what a model writes"
    fix = (
        "serve a .gguf file with llama-server, a folder with vLLM, or an --upstream that reads them"
    )
    raise UnfitChat("tools" if chat.tools else "messages", message, fix)


def ask_text(engine: Engine, text: str, sampling: Sampling) -> GenerateRequest:
    """A text to go on from, as token ids where the engine has some, else as it is.

    Raises:
        UnfitPrompt: it is empty, or leaves no room for an answer.
    """
    if isinstance(engine, Template):
        ids = encode_raw(engine, text, engine.context_length)
        return GenerateRequest(ids, sampling)
    check_bytes([text], engine.context_length)
    return GenerateRequest(text, sampling)


def leaves_room(engine: Engine, request: GenerateRequest, *, may_split: bool = True) -> bool:
    """Whether the longest answer fits behind a prompt, or at least one of half the context.

    Where the engine alone knows the tokens of a prompt, as at an address, a text that may be split
    has one for each `BYTES_A_TOKEN`, as some servers cut what is too long without a word; any other
    one is taken to fit.
    """
    used = request.prompt_tokens
    if used is None:
        texts = [turn.content for turn in request.messages] or [str(request.prompt)]
        size = sum(len(text.encode(errors="replace")) for text in texts)
        used = size // BYTES_A_TOKEN if may_split else 0
    wanted = min(request.sampling.max_tokens, engine.context_length // 2)
    return engine.context_length - used >= wanted


def prompt_ids(template: Template, request: GenerateRequest, context_length: int) -> list[int]:
    """The token ids of any request, for an engine that reads no images.

    Raises:
        UnfitPrompt: it is empty, or leaves no room for an answer.
        DataError: it has images; or the chat template refuses it.
    """
    if request.images:
        message = f"this engine reads no images, and the prompt has {len(request.images)}"
        raise DataError(message, "leave the images out, or ask a model that reads images")
    if request.messages:
        return encode_messages(template, request.messages, context_length)
    if isinstance(request.prompt, str):
        return encode_raw(template, request.prompt, context_length)
    check_room(request.prompt, context_length)
    return list(request.prompt)
