"""Model folders from elsewhere: read without trust, and what is wrong with them is said."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import ArtifactError, SetupError
from medllm.models.hardware import lacks_bfloat16
from medllm.models.memory import gpu_failure, is_out_of_memory
from medllm.models.weights import Stored, read_weights

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

NONSENSE = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError,
            TypeError, ValueError)  # fmt: skip
"""What transformers and torch raise on files and values that make no model, without checking them:
a size of "big", no attention heads, a list where there should be a mapping."""
COMPUTED = re.compile(r"\.(masked_bias|inv_freq|position_ids)$")
"""Ends of names that older releases saved and that are computed now: no weights."""
CONFIGURATIONS = (
    "config.json", "generation_config.json", "tokenizer_config.json", "adapter_config.json"
)  # fmt: skip
NO_WRITERS = ("ForMaskedLM", "ForPreTraining", "ForSequenceClassification",
              "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")  # fmt: skip
"""Ends of the names of architectures that read a text and write none: BERT and its kin."""

BESIDE_TORCH = "torchvision, torchaudio or other packages beside torch"


@contextmanager
def loading(what: str, package: str = "'medllm[standard]'") -> Iterator[None]:
    """Silence; what the libraries find wrong with a model becomes an ArtifactError.

    Raises:
        ArtifactError: its files are broken.
        SetupError: something to read them with is not installed.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        with console.quiet():  # torchao, which gptqmodel brings, complains at import
            yield
    except ImportError as problem:  # of a quantization's package
        raise _lacks(what, package, problem) from problem
    except (*NONSENSE, SafetensorError, StrictDataclassError) as problem:
        if is_out_of_memory(problem) or gpu_failure(problem):
            raise
        if package in str(problem):  # of a processor
            raise _lacks(what, package, problem) from problem
        raise _unreadable(what, problem) from problem
    except Exception as problem:
        if type(problem) is not Exception:  # what the library `tokenizers` raises, as it is
            raise
        raise _unreadable(what, problem) from problem


def _lacks(what: str, package: str, problem: Exception) -> SetupError:
    cause: BaseException = problem
    while cause.__cause__:
        cause = cause.__cause__
    fix = f"pip install {package}"
    if not isinstance(cause, ImportError) and problem is not cause:  # it is there, and breaks
        fix = f"{BESIDE_TORCH} do not fit it: take them from the index that torch came from"
    return SetupError(f"{what}: {first_line(cause).partition('. ')[0]:.200}", fix)


def _unreadable(what: str, problem: Exception) -> ArtifactError:
    said = " ".join(str(problem).split()) or type(problem).__name__
    return ArtifactError(f"{what}: cannot be loaded: {said:.200}", "check the files in it")


def first_line(problem: BaseException) -> str:
    """What a foreign error says first."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file of a model, empty where there is no such file.

    Raises:
        ArtifactError: it cannot be read, or holds something else.
    """
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_read_constant)
    except OSError as problem:
        raise ArtifactError(f"{path} cannot be read: {problem.strerror}", "restore it") from problem
    except (ValueError, RecursionError) as problem:
        raise ArtifactError(f"{path} is broken: {problem}", "restore it") from problem
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} is broken: it holds no mapping", "restore it")
    return found


def _read_constant(name: str) -> float:
    """JSON as Python reads it has NaN, which no setting can be; Mamba's limits are infinite."""
    if name == "NaN":
        raise ValueError("it holds NaN")
    return float(name)


def check_configuration(folder: Path) -> None:
    """Raise ArtifactError where a JSON file beside the weights is broken, or it is no decoder."""
    _check_writes(folder, read_mapping(folder / "config.json"))
    for name in CONFIGURATIONS:
        ends = read_mapping(folder / name).get("eos_token_id")
        listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
        if any(type(end) is not int for end in listed):
            message = f"{folder / name} is broken: eos_token_id is no token id: {ends!r:.60}"
            raise ArtifactError(message, "restore it")


def _check_writes(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise ArtifactError for what would see the end of its answer: BERT, PaliGemma; and T5."""
    names = [name for name in config.get("architectures") or () if isinstance(name, str)]
    is_pair = config.get("is_encoder_decoder") is True
    both_ways = config.get("model_type") == "paligemma"
    if is_pair or both_ways or any(name.endswith(NO_WRITERS) for name in names):
        called = names[0] if names else config.get("model_type", "its model")
        what = "an encoder with a decoder" if is_pair else "an encoder, which writes no text"
        if both_ways:
            what = "a model that reads in both directions, and would see the end of an answer"
        message = f"model of {folder}: {called} is {what}; only decoders can be used here"
        fix = "take one that continues a text: Llama, Mistral, Qwen, Gemma, Phi, GPT-2 …"
        raise ArtifactError(message, fix)


def check_fits(folder: Path, auto_class: Any) -> None:
    """See that the weights of a folder are those that its config.json describes, all of them.

    The model is built without memory, from the headers of its files; nothing of the weights is
    read. `auto_class` is transformers' class that chooses the model's.

    Raises:
        ArtifactError: they are not, or config.json makes no model.
    """
    tensors = read_weights(folder)
    _check_is_possible(folder, tensors)
    with loading(f"model of {folder}"):
        import torch
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        shapes = {
            name: torch.empty(
                tensor.shape, dtype=tensor.dtype if tensor.is_float else torch.uint8, device="meta"
            )
            for name, tensor in tensors.items()
        }
        _, found = auto_class._model_mapping[type(config)].from_pretrained(
            None,
            config=config,
            state_dict=shapes,
            device_map="meta",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    check_is_whole(folder, found)


def _check_is_possible(folder: Path, tensors: Mapping[str, Stored]) -> None:
    """Raise ArtifactError for more layers than tensors: a million would take hours to build."""
    config = read_mapping(folder / "config.json")
    text = config.get("text_config")
    layers = (text if isinstance(text, dict) else config).get("num_hidden_layers")
    if isinstance(layers, int) and layers > len(tensors):
        message = f"it has {layers:,} layers, and its files {len(tensors):,} tensors"
        raise _misfit(folder, message)


def check_is_whole(location: Path | str, found: Mapping[str, Any]) -> None:
    """Raise ArtifactError where weights are missing, left over, or of other sizes.

    `found` is transformers' loading info; what it knows to be of no use is not in it, such as a
    head that is one with the embedding.
    """
    differing = [name for name, *_ in found["mismatched_keys"]]
    if wrong := sorted(found["missing_keys"]) + sorted(differing):
        what = "has no weights" if found["missing_keys"] else "has weights of another size"
        raise _misfit(location, f"it {what} for {_named(wrong)}")
    if left := sorted(name for name in found["unexpected_keys"] if not COMPUTED.search(name)):
        raise _misfit(location, f"it has no place for the weights {_named(left)}")


def _named(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} others" if len(names) > 1 else "")


def _misfit(location: Path | str, message: str) -> ArtifactError:
    what = f"model of {location}: config.json does not fit: {message}"
    return ArtifactError(what, "restore the config.json of this model")


def check_finite(model: "PreTrainedModel", location: str) -> None:
    """Raise ArtifactError where a weight in memory, or a turn by position, is NaN or infinite."""
    for name, tensor in model.state_dict().items():
        if tensor.device.type != "meta" and not _is_finite(tensor):
            raise _not_finite(location, name)
    for name, buffer in model.named_buffers():  # attention as it is computed fast hides a NaN
        if name.endswith("inv_freq") and buffer.device.type != "meta" and not _is_finite(buffer):
            raise _misfit(location, "its rope settings give NaN or infinite angles")


def check_files_finite(folder: Path) -> None:
    """Raise ArtifactError where a weight in the files of a model is NaN or infinite."""
    for name, tensor in read_weights(folder).items():
        if tensor.is_float and not all(map(_is_finite, tensor.in_rows())):
            raise _not_finite(str(folder), name)


def _is_finite(tensor: "Tensor") -> bool:
    if not tensor.numel() or not tensor.is_floating_point() or tensor.element_size() < 2:
        return True
    # NaN is the least and the largest of all that it is among; no copy is made
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _not_finite(location: str, name: str) -> ArtifactError:
    return ArtifactError(
        f"model of {location}: weights are NaN or infinite: {name}",
        "get it again from its source; if it was trained or merged here, that went wrong",
    )


def leave_float16(model: "PreTrainedModel", device: str) -> None:
    """Let an AWQ model compute in bfloat16, as its files say, where the device has that.

    transformers puts any into float16 where there is a GPU, for kernels that are not taken here;
    Gemma 3 overflows in it. The scales of the quantized layers stay as they are.
    """
    if lacks_bfloat16(device):
        return
    for weight in model.parameters():
        if weight.dtype.itemsize == 2:
            weight.data = weight.data.bfloat16()
