"""GGUF for llama.cpp, with an importance matrix where there is a calibration set."""

import shutil
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.gguf_files import IMATRIX, PROJECTOR
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.models.hardware import pick_device
from medllm.models.load import load_tokenizer, read_config
from medllm.quantize.config import GgufFormat
from medllm.quantize.gguf import files
from medllm.quantize.gguf.architectures import has_projector
from medllm.quantize.gguf.imatrix import check_is_enough, name_tensors, write_imatrix
from medllm.quantize.gguf.modelfile import end_note, write_companions
from medllm.quantize.gguf.types import WITHOUT_IMPORTANCE
from medllm.quantize.gguf.window import note_context
from medllm.quantize.work import Made, Work


def check_ahead(choice: GgufFormat) -> None:
    """Raise SetupError where llama.cpp or its converter is missing."""
    require_llama_cpp()
    converter_script()


def make(choice: GgufFormat, work: Work, folder: Path) -> Made:
    """Write `model-<type>.gguf`, the matrix that it was made with, and the projector if it has one.

    Raises:
        ArtifactError: llama.cpp does not know the architecture, or the type needs more importance
            than could be measured.
        SetupError: llama.cpp is not set up, or ran out of memory.
    """
    target = folder / f"model-{choice.type}.gguf"
    _check_tokenizer(choice, work)
    results: dict[str, Any] = {"type": choice.type, "importance_matrix": "none"}
    results |= _carry_projector(work, target)
    whole = work.whole  # before the matrix, and after the projector: they fail sooner
    results |= note_context(work.model.path, whole)
    write_companions(work.model, target, results.get("context_tokens"))
    notes = end_note(work.model)
    if choice.type == "F16":
        if notes:
            files.quantize_file(whole, target, choice.type, notes=notes)
        else:
            shutil.copyfile(whole, target)
        return Made(target, results)
    matrix = None
    if choice.uses_calibration and work.calibration:
        matrix = name_tensors(work.matrix, whole)
        check_is_enough(matrix, choice.type)
        write_imatrix(matrix, folder / IMATRIX)
        results |= {"importance_matrix": IMATRIX, **matrix.figures}
    gains = choice.type not in WITHOUT_IMPORTANCE
    how = ", without an importance matrix" if gains and not matrix else ""
    console.notice(f"quantize: GGUF {choice.type}{how}")
    given = matrix.parameters if matrix else {}
    given["notes"] = {**given.get("notes", {}), **notes}
    files.quantize_file(whole, target, choice.type, **given)
    results["fallback_tensors"] = _find_fallbacks(choice, target)
    if not matrix:
        return Made(target, results)
    return Made(target, results, matrix.texts, pick_device())


def _check_tokenizer(choice: GgufFormat, work: Work) -> None:
    """Raise ArtifactError where the tokenizer is broken, or not that of the calibration set."""
    if choice.uses_calibration and work.calibration:
        len(work.calibration.token_ids)  # they are cut now, and kept
    else:
        load_tokenizer(work.model.location)


def _carry_projector(work: Work, target: Path) -> dict[str, str]:
    """Put the part of the model that reads images beside it, and say how it is used."""
    if not has_projector(work.model.path):
        return {}
    if (read_config(work.model.path).get("vision_config") or {}).get("model_type") == "pixtral":
        # the converter skips the embedding of [IMG_BREAK], and llama.cpp then loads none of it
        console.notice("quantize: what reads images is left out: llama.cpp would not load it")
        return {}
    made = work.scratch / PROJECTOR
    if not made.is_file():
        console.notice("quantize: converting what reads images or sound")
        files.convert_to_f16(work.model.path, made, title=work.title, projector=True)
    shutil.copyfile(made, target.with_name(PROJECTOR))
    console.notice(
        f"quantize: with images: `llama-mtmd-cli` or `llama-server`, -m {target.name} "
        f"--mmproj {PROJECTOR}; medllm itself reads text alone"
    )
    return {"projector": PROJECTOR}


def _find_fallbacks(choice: GgufFormat, target: Path) -> int:
    """How many tensors have another type than asked for, because of their rows; says which."""
    fallbacks = files.find_fallbacks(target, choice.type)
    if fallbacks:
        named = ", ".join(tensor.name for tensor in fallbacks[:3])
        console.notice(
            f"quantize: {console.counted(len(fallbacks), 'tensor')} got a larger type, as rows do "
            f"not fit the blocks of {choice.type}: {named}{' …' if len(fallbacks) > 3 else ''}"
        )
    return len(fallbacks)
