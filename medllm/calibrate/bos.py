"""The beginning of a calibration text, for programs that tokenize it plainly."""

from medllm.models.chat.template import TokenizerTemplate, encode_text

BEGINNING = 64
"""Characters that show whether a tokenizer reads the beginning of a text in its own way."""


def without_bos(template: TokenizerTemplate, text: str) -> str:
    """Rendered text without the BOS that the chat template wrote at its beginning.

    Tokenizers put one before a text, so that plain tokenizing would double it. `encode_text` gives
    the same ids for both; where it would not (the tokenizer adds none, or begins a text otherwise
    than what follows a special token), the text stays as it is.
    """
    bos = str(template.tokenizer.bos_token or "")
    if not bos or not text.startswith(bos):
        return text
    begin = text[: len(bos) + BEGINNING]
    same = encode_text(template, begin.removeprefix(bos)) == encode_text(template, begin)
    return text.removeprefix(bos) if same else text
