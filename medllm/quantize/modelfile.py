"""What lies beside a GGUF file for those who serve it: Ollama's Modelfile, template, settings."""

import json
import shutil
from pathlib import Path

from medllm.artifacts.serving import MODELFILE
from medllm.models.load import GENERATION, ModelRef, load_tokenizer

HEAD = """# ollama create my-model -f Modelfile
# There is no TEMPLATE: Ollama takes the chat template in the GGUF file where it knows it, and else
# sends the prompt as it is; compare with chat_template.jinja, and write one where it differs.
"""


def write_companions(model: ModelRef, weights: Path, context_tokens: int) -> None:
    """Write the Modelfile, the chat template and the generation settings beside a GGUF file."""
    tokenizer, folder = load_tokenizer(model.location), weights.parent
    lines = [f"FROM ./{weights.name}", f"PARAMETER num_ctx {context_tokens}"]
    if (model.path / GENERATION).is_file():
        shutil.copyfile(model.path / GENERATION, folder / GENERATION)
    ends = tokenizer.convert_ids_to_tokens(_end_ids(model.path / GENERATION))
    ends += [tokenizer.eos_token] if tokenizer.eos_token else []
    lines += [f"PARAMETER stop {json.dumps(end)}" for end in dict.fromkeys(ends)]
    (folder / MODELFILE).write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    if isinstance(tokenizer.chat_template, str):
        template = folder / "chat_template.jinja"
        template.write_text(tokenizer.chat_template, encoding="utf-8")


def _end_ids(settings: Path) -> list[int]:
    """The tokens that end an answer."""
    if not settings.is_file():
        return []
    ids = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id")
    return ids if isinstance(ids, list) else [] if ids is None else [ids]
