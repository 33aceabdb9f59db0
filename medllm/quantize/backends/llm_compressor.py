"""What FP8 and W8A8 have alike: llm-compressor, silenced, on the calibration set's token ids."""

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medllm import console
from medllm.errors import ArtifactError, SetupError
from medllm.models.foreign import first_line
from medllm.models.hardware import pick_device
from medllm.models.load import load_as_stored, save_companions
from medllm.quantize.work import Made, Work

CANNOT_QUANTIZE = (ValueError, KeyError, TypeError, AttributeError, NotImplementedError)
"""What it raises on a model that it cannot trace, or has no module that it looks for."""
LINEAR = {"targets": "Linear", "ignore": ["lm_head"]}
"""What is quantized: every linear module but the head, as in all of llm-compressor's examples."""


def check_compressor(what: str) -> None:
    """Raise SetupError where llm-compressor is not installed."""
    if find_spec("llmcompressor") is None:
        raise SetupError(f"{what} needs llm-compressor", "pip install 'medllm[fp8]'")


@contextmanager
def silenced_compressor() -> Iterator[None]:
    """llm-compressor may be imported and used: it neither logs nor prints."""
    # read at import; to disable the log would break GPTQ, which writes to a level of its own
    os.environ.setdefault("LLM_COMPRESSOR_LOG_LEVEL", "ERROR")
    with console.quiet():
        yield


def compress(recipe: list[Any], work: Work, folder: Path, *, calibrate: bool) -> Made:
    """Write a model that transformers and vLLM load through compressed-tensors.

    `recipe` is a list of llm-compressor's modifiers.

    Raises:
        ArtifactError: llm-compressor cannot quantize this model; says why.
    """
    from datasets import Dataset
    from llmcompressor.entrypoints.oneshot import oneshot

    token_ids = work.calibration.token_ids if calibrate and work.calibration else []
    options: dict[str, Any] = {}
    if token_ids:
        rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in token_ids]
        options = {
            "dataset": Dataset.from_list(rows),
            "num_calibration_samples": len(rows),
            "max_seq_length": max(map(len, token_ids)),
            "shuffle_calibration_samples": False,
        }
    target = folder.resolve()
    model = load_as_stored(str(work.model.path.resolve()))
    with chdir(work.scratch):  # it leaves logs where it stands
        try:
            oneshot(model=model, recipe=recipe, **options)
        except CANNOT_QUANTIZE as problem:
            message = f"{work.model.location}: llm-compressor cannot quantize it"
            fix = "choose --format gguf or --format bnb"
            raise ArtifactError(f"{message}: {first_line(problem):.200}", fix) from problem
        model.save_pretrained(target, save_compressed=True)
    (folder / "recipe.yaml").unlink(missing_ok=True)  # the manifest says the same
    save_companions(work.model, folder)
    return Made(folder, {"bits": 8}, len(token_ids), pick_device())
