"""GGUF files made from a tiny model: converted, quantized, read, and answering."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from random import Random

import pytest
from converted import after_conversion
from pydantic import ValidationError
from unchanged import unchanged

from medllm.artifacts.card import render_card
from medllm.artifacts.manifest import BaseModelRef, DataTerm, Manifest
from medllm.artifacts.serving import serving_lines
from medllm.data.example import Message
from medllm.data.generators import radiology
from medllm.engines.base import GenerateRequest, Piece, Sampling, ScoreRequest
from medllm.engines.llama_cpp import LlamaCppEngine
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.engines.llama_native import read_window
from medllm.engines.many import Written, write_answers
from medllm.engines.open import open_model
from medllm.engines.transformers import TransformersEngine
from medllm.errors import ArtifactError, DataError, SetupError
from medllm.models.chat.template import TokenizerTemplate, encode_text
from medllm.models.load import load_causal_lm, load_tokenizer, resolve_model
from medllm.quantize.config import GgufFormat, QuantizeConfig
from medllm.quantize.gguf import architectures, files
from medllm.quantize.gguf.architectures import check_architecture
from medllm.quantize.gguf.types import QUANTIZATION_TYPES
from medllm.quantize.gguf.window import note_context, read_model_window
from medllm.quantize.verb import quantize
from medllm.quantize.work import title_of

try:
    require_llama_cpp()
    converter_script()
except SetupError as problem:
    pytest.skip(f"{problem.message}: {problem.fix}", allow_module_level=True)

QUESTION = (Message("user", "Which drugs lower blood pressure?"),)


@pytest.fixture(scope="module")
def engine(tiny_f16: Path) -> LlamaCppEngine:
    return LlamaCppEngine(tiny_f16, n_ctx=256)


def copy_with(model: Path, target: Path, file: str, **changes: object) -> Path:
    """A copy of a model folder, with some values of a JSON file changed."""
    shutil.copytree(model, target, copy_function=shutil.copyfile)
    settings = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps(settings | changes))
    return target


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


# Converting and quantizing


def test_type_numbers_are_those_of_llama_cpp() -> None:
    llama = require_llama_cpp()
    for name, number in QUANTIZATION_TYPES.items():
        prefix = "LLAMA_FTYPE_ALL_" if name == "F32" else "LLAMA_FTYPE_MOSTLY_"
        assert number == getattr(llama, prefix + name), name


def test_an_unknown_type_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'Q4_K_M'?"):
        GgufFormat(type="q4_km")
    with pytest.raises(ValidationError, match="cannot be made without an importance matrix"):
        GgufFormat(type="IQ2_XS", imatrix=False)


def test_conversion_keeps_matrices_in_16_bits(tiny_f16: Path) -> None:
    assert {tensor.type for tensor in files.read_tensors(tiny_f16)} == {"f16", "f32"}
    assert [path.name for path in tiny_f16.parent.iterdir()] == [tiny_f16.name], (
        "nothing unfinished is left"
    )


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K_M", "Q2_K", "IQ4_XS"])
def test_quantized_files_are_smaller_and_say_what_fell_back(
    tiny_f16: Path, tmp_path: Path, name: str
) -> None:
    target = tmp_path / f"tiny-{name}.gguf"

    files.quantize_file(tiny_f16, target, name)

    assert target.stat().st_size < 0.75 * tiny_f16.stat().st_size
    matrices = [tensor for tensor in files.read_tensors(tiny_f16) if tensor.type == "f16"]
    odd = {tensor.name for tensor in matrices if tensor.columns % 256}
    expected = set() if name == "Q8_0" else odd
    assert {tensor.name for tensor in files.find_fallbacks(target, name)} == expected
    assert text_of(
        list(LlamaCppEngine(target).generate(GenerateRequest([1, 9, 9], Sampling(max_tokens=8))))
    )


def test_an_architecture_that_llama_cpp_does_not_know(tiny_model: Path, tmp_path: Path) -> None:
    names = ["StethoscopeForCausalLM"]
    model = copy_with(tiny_model, tmp_path / "model", "config.json", architectures=names)

    with pytest.raises(ArtifactError, match=r"not know StethoscopeForCausalLM, but \d{3} others"):
        files.convert_to_f16(model, tmp_path / "out.gguf")
    near = copy_with(tiny_model, tmp_path / "near", "config.json", architectures=["LlamaForCausal"])
    with pytest.raises(ArtifactError, match="such as LlamaForCausalLM"):
        check_architecture(near)

    assert not list(tmp_path.glob("*.gguf*"))


def test_the_converter_is_believed_about_what_it_knows() -> None:
    said = subprocess.run(
        [sys.executable, converter_script(), "--print-supported-models"],
        env=files._converter_environment(converter_script()),
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    text, projectors = said.split("MMPROJ models:")

    known = architectures._known()
    for listed, kind in ((text, architectures.TEXT), (projectors, architectures.PROJECTOR)):
        assert set(re.findall(r"^(?:ERROR:\S+:)?\s+- (\S+)", listed, re.MULTILINE)) == known[kind]


READ_FIELDS = """
import sys, json, gguf
fields = gguf.GGUFReader(sys.argv[1]).fields
print(json.dumps({name: field.contents() for name, field in fields.items()
                  if name.startswith("general.")}))
"""


def general_fields(path: Path) -> dict[str, object]:
    """What a GGUF file says of itself, by llama.cpp's own reader."""
    environment = files._converter_environment(converter_script())
    command = [sys.executable, "-c", READ_FIELDS, str(path)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return {name.removeprefix("general."): v for name, v in json.loads(found.stdout).items()}


def test_a_file_says_whose_it_is_and_is_the_same_each_time(
    tiny_model: Path, tmp_path: Path
) -> None:
    term = DataTerm(dataset="pubmedqa", licence="MIT", access="open", hub="qiaojin/PubMedQA")
    manifest = Manifest(
        kind="model", format="safetensors", identity="0", command="merge", settings={},
        config={"recipe": "radiology"}, data_terms=(term,),
        base_model=BaseModelRef(id="google/gemma-3-270m", revision="1" * 40),
    )  # fmt: skip
    model = copy_with(tiny_model, tmp_path / "3f9a", "config.json")
    (model / "README.md").write_text(render_card(manifest), encoding="utf-8")
    known = replace(resolve_model(str(model)), manifest=manifest, base=manifest.base_model)
    title = title_of(known, "edge-cpu")
    for name in ("one", "two"):
        files.convert_to_f16(model, tmp_path / f"{name}.gguf", title=title)
    files.quantize_file(tmp_path / "one.gguf", tmp_path / "q8.gguf", "Q8_0")

    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    found = general_fields(tmp_path / "q8.gguf")
    assert found["name"] == "radiology (gemma-3-270m fine-tuned)"
    assert found["license"] == "other"
    assert found["license.name"] == "of-base-model-and-data"
    assert found["base_model.0.repo_url"] == "https://huggingface.co/google/gemma-3-270m"
    assert found["dataset.0.repo_url"] == "https://huggingface.co/qiaojin/PubMedQA"
    assert {"medical", "research-only", "medllm", "text-generation"} <= set(found["tags"])


# Images


@pytest.fixture(scope="module")
def gemma_f16(gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    target = tmp_path_factory.mktemp("gguf") / "gemma-f16.gguf"
    files.convert_to_f16(gemma, target)
    with unchanged(target):
        yield target


def test_a_model_of_images_carries_its_projector(
    gemma: Path, gemma_f16: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    formats = (GgufFormat(type="F16"), GgufFormat(type="Q8_0"))
    config = QuantizeConfig(model=str(gemma), formats=formats, output=tmp_path / "out")

    manifests = quantize(after_conversion(config, gemma_f16))

    for manifest, choice in zip(manifests, formats, strict=True):
        folder = tmp_path / "out" / choice.folder
        assert manifest.results["projector"] == "mmproj-F16.gguf"
        names = {tensor.name for tensor in files.read_tensors(folder / "mmproj-F16.gguf")}
        assert {"mm.input_projection.weight", "v.patch_embd.weight"} <= names
        assert resolve_model(str(folder)).path.name == f"model-{choice.type}.gguf"
    said = capfd.readouterr().err
    assert "--mmproj mmproj-F16.gguf" in said
    assert said.count("converting what reads images") == 1


def test_the_text_part_of_a_model_of_images_scores_as_before(gemma: Path, gemma_f16: Path) -> None:
    ids = tuple(range(10, 60))
    engines = (
        LlamaCppEngine(gemma_f16, n_ctx=256),
        TransformersEngine(load_causal_lm(str(gemma), device="cpu"), load_tokenizer(str(gemma))),
    )

    ours, theirs = (engine.score([ScoreRequest(ids[:1], ids[1:])])[0] for engine in engines)

    assert ours.logprob == pytest.approx(theirs.logprob, rel=2e-3)


def test_a_projector_that_llama_cpp_does_not_know_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = copy_with(tiny_model, tmp_path / "model", "config.json", vision_config={})

    with pytest.raises(ArtifactError, match="does not know the images or sound of Llama"):
        check_architecture(model)


# Broken models


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda file: file.unlink(), "model.safetensors is missing"),
        (lambda file: file.write_bytes(b""), "cut off or broken"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "cut off or broken"),
        (lambda file: file.with_name("config.json").write_text("{"), "config.json is broken"),
        (lambda file: file.with_name("config.json").write_text("[]"), "holds no mapping"),
    ],
)
def test_a_broken_model_is_refused_at_once(
    tiny_model: Path, tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    model = copy_with(tiny_model, tmp_path / "model", "config.json")
    damage(model / "model.safetensors")

    with pytest.raises(ArtifactError, match=reason):
        quantize(QuantizeConfig(model=str(model), formats=(GgufFormat(),), output=tmp_path / "out"))

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_hidden_layers": 6}, "has no weights for model.layers.4.*and 17 others"),
        ({"vocab_size": 999}, "weights of another size for model.embed_tokens.weight"),
    ],
)
def test_a_config_of_another_model_is_refused(
    tiny_model: Path, tmp_path: Path, change: dict[str, int], reason: str
) -> None:
    model = copy_with(tiny_model, tmp_path / "model", "config.json", **change)

    with pytest.raises(ArtifactError, match=reason):
        load_causal_lm(str(model))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused(
    tiny_model: Path, tmp_path: Path, file: str
) -> None:
    code = {"AutoTokenizer": ["tokenization_x.X", None]}
    model = copy_with(tiny_model, tmp_path / "model", file, auto_map=code)

    with pytest.raises(ArtifactError, match="names Python code"):
        files.convert_to_f16(model, tmp_path / "out.gguf")


def test_files_that_cannot_be_used(tiny_f16: Path, tmp_path: Path) -> None:
    half, text, none = (tmp_path / name for name in ("half.gguf", "text.gguf", "none.gguf"))
    half.write_bytes(tiny_f16.read_bytes()[: tiny_f16.stat().st_size // 2])
    text.write_text("Take two tablets with water. " * 10)

    for path, reason in ((half, "not within the file"), (text, "magic"), (none, "no such file")):
        with pytest.raises(ArtifactError, match=reason):
            LlamaCppEngine(path)
        with pytest.raises(ArtifactError, match=reason):
            files.quantize_file(path, tmp_path / "out.gguf", "Q8_0")
    assert not (tmp_path / "out.gguf").exists()


def test_weights_that_are_no_numbers_are_refused(tiny_f16: Path, tmp_path: Path) -> None:
    q8 = tmp_path / "q8.gguf"
    files.quantize_file(tiny_f16, q8, "Q8_0")
    raw = bytearray(q8.read_bytes())
    raw[-34:-32] = b"\x00\x7e"  # the scale of the last block, in float16: NaN
    q8.write_bytes(raw)

    with pytest.raises(ArtifactError, match="has invalid data"):
        LlamaCppEngine(q8, n_ctx=64)


def test_a_quantized_file_is_not_quantized_again(tiny_f16: Path, tmp_path: Path) -> None:
    files.quantize_file(tiny_f16, tmp_path / "q8.gguf", "Q8_0")

    with pytest.raises(ArtifactError, match="requantizing") as caught:
        files.quantize_file(tmp_path / "q8.gguf", tmp_path / "q4.gguf", "Q4_0")

    assert "F16" in caught.value.fix


# Scoring


def test_scores_come_in_the_order_asked_and_add_up(engine: LlamaCppEngine) -> None:
    tokens = tuple(range(20, 60))
    whole = ScoreRequest(tokens[:10], tokens[10:])
    steps = [ScoreRequest(tokens[:i], tokens[i : i + 1]) for i in range(39, 9, -1)]

    scores = engine.score([*steps, whole])

    alone = [engine.score([request])[0] for request in (*steps, whole)]
    for score, same in zip(scores, alone, strict=True):
        assert score.logprob == pytest.approx(same.logprob, abs=0.01)
        assert (score.tokens, score.greedy) == (same.tokens, same.greedy)
    assert sum(score.logprob for score in scores[:-1]) == pytest.approx(
        scores[-1].logprob, abs=0.02
    )


def test_the_answers_to_one_question_share_its_evaluation(engine: LlamaCppEngine) -> None:
    question = tuple(range(20, 40))
    answers = [ScoreRequest(question, (token,)) for token in (7, 50, 51)]

    together = engine.score([*answers, answers[0]])

    assert together == [*engine.score(answers), together[0]]
    assert all(score.logprob < 0 for score in together)


def test_exactly_the_likeliest_token_is_greedy(engine: LlamaCppEngine) -> None:
    context = tuple(range(20, 40))
    vocabulary = engine.vocabulary

    scores = engine.score([ScoreRequest(context, (token,)) for token in range(vocabulary)])

    best = max(range(vocabulary), key=lambda token: scores[token].logprob)
    assert [token for token in range(vocabulary) if scores[token].greedy] == [best]


def test_what_is_too_long_loses_its_beginning(
    engine: LlamaCppEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = tuple(10 + i % 50 for i in range(400))
    kept = tokens[398 - 256 : 398]

    cut, same = engine.score([ScoreRequest(tokens[:398], (5,)), ScoreRequest(kept, (5,))])

    assert cut == same
    assert "1 inputs lost their beginning" in capsys.readouterr().err
    assert engine.score([ScoreRequest((), tokens)])[0].tokens == 256
    assert engine.score([ScoreRequest((), (5,)), ScoreRequest((5,), ())])[0].tokens == 0


def test_token_ids_of_another_tokenizer_are_refused(engine: LlamaCppEngine) -> None:
    with pytest.raises(ArtifactError, match="cannot evaluate"):
        engine.score([ScoreRequest((10_000_000,), (5,))])


# Generating


def test_greedy_answers_repeat_and_count_their_tokens(engine: LlamaCppEngine) -> None:
    prompt = engine.encode("Blood pressure is", add_special_tokens=True)

    first = list(engine.generate(GenerateRequest(prompt, Sampling(max_tokens=12))))
    engine.score([ScoreRequest((9, 8), (7,))])
    second = list(engine.generate(GenerateRequest(prompt, Sampling(max_tokens=12))))

    assert first == second
    assert sum(piece.tokens for piece in first) <= 12
    assert [piece.finish_reason for piece in first[:-1]] == [None] * (len(first) - 1)
    assert first[-1].finish_reason in {"stop", "length"}


@pytest.mark.parametrize(
    "penalties",
    [{"repetition_penalty": 1.5}, {"presence_penalty": 1.0, "frequency_penalty": 0.7},
     {"repetition_penalty": 0.8, "presence_penalty": -0.5}],
)  # fmt: skip
def test_penalties_mean_the_same_on_both_engines(
    engine: LlamaCppEngine, tiny_model: Path, penalties: dict[str, float]
) -> None:
    other = open_model(resolve_model(str(tiny_model)))
    prompt = engine.encode("Blood pressure is high, blood pressure", add_special_tokens=True)
    request = GenerateRequest(prompt, Sampling(max_tokens=16, **penalties))  # type: ignore[arg-type]
    (_, here), (_, there) = (next(write_answers(each, [request])) for each in (engine, other))
    (_, plain) = next(write_answers(engine, [GenerateRequest(prompt, Sampling(max_tokens=16))]))
    assert isinstance(here, Written) and isinstance(there, Written)
    assert here.text == there.text != plain.text  # type: ignore[union-attr]
    assert here.logprob == pytest.approx(there.logprob, abs=0.02)


def test_a_seed_fixes_the_dice(engine: LlamaCppEngine) -> None:
    prompt = engine.encode("Blood pressure is", add_special_tokens=True)

    def answer(seed: int) -> str:
        sampling = Sampling(max_tokens=12, temperature=1.0, top_p=0.95, seed=seed)
        return text_of(list(engine.generate(GenerateRequest(prompt, sampling))))

    assert answer(1) == answer(1)
    assert len({answer(seed) for seed in range(4)}) > 1


def test_interleaved_answers_do_not_disturb_each_other(engine: LlamaCppEngine) -> None:
    prompts = [engine.encode(text, add_special_tokens=True) for text in ("Fever and", "The dose")]
    alone = [
        text_of(list(engine.generate(GenerateRequest(prompt, Sampling(max_tokens=8)))))
        for prompt in prompts
    ]

    started = [
        engine.generate(GenerateRequest(prompt, Sampling(max_tokens=8))) for prompt in prompts
    ]
    turns = list(zip_longest(*started))

    together = [
        text_of([piece for piece in pieces if piece]) for pieces in zip(*turns, strict=True)
    ]
    assert together == alone


def test_stop_strings_end_the_answer_and_never_show(engine: LlamaCppEngine) -> None:
    prompt = engine.encode("Blood pressure is", add_special_tokens=True)
    whole = text_of(list(engine.generate(GenerateRequest(prompt, Sampling(max_tokens=40)))))
    middle = len(whole) // 2
    stop = whole[middle : middle + 4]

    pieces = list(
        engine.generate(GenerateRequest(prompt, Sampling(max_tokens=40, stop=("never said", stop))))
    )

    assert text_of(pieces) == whole[: whole.find(stop)]
    assert pieces[-1].finish_reason == "stop"


def test_prompts_must_leave_room(engine: LlamaCppEngine) -> None:
    with pytest.raises(DataError, match="context holds 256"):
        engine.generate(GenerateRequest([5] * 256, Sampling()))
    with pytest.raises(DataError, match="empty"):
        engine.generate(GenerateRequest([], Sampling()))
    pieces = list(engine.generate(GenerateRequest([5] * 250, Sampling(max_tokens=99))))
    assert sum(piece.tokens for piece in pieces) <= 6


def test_characters_come_whole_and_stop_strings_not_in_part(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(data: bytes, *stop: str) -> list[Piece]:
        """What is said where every token writes one byte of `data`."""
        written = iter([data[i : i + 1] for i in range(len(data))])
        monkeypatch.setattr(engine, "_token_bytes", lambda token: next(written))
        no_end = ((20, 100.0),)  # always that token: which one ends an answer by chance differs
        sampling = Sampling(max_tokens=len(data), stop=stop, logit_bias=no_end)
        return list(engine.generate(GenerateRequest([20, 21], sampling)))

    pieces = said("Temp 38°C <END no <END> gone".encode(), "<END>", "EN!", "")

    assert text_of(pieces) == "Temp 38°C <END no "
    assert all("\ufffd" not in piece.text for piece in pieces)
    assert pieces[-1].finish_reason == "stop"
    assert sum(piece.tokens for piece in pieces) == len("Temp 38°C <END no <END>".encode())
    assert text_of(said(b"a\xc2")) == "a", "half a character is dropped"


# Chats


def test_the_chat_template_is_the_models_own(engine: LlamaCppEngine, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    turns = [{"role": turn.role, "content": turn.content} for turn in QUESTION]
    rendered = engine.render(QUESTION)

    assert engine.has_chat_template
    assert rendered == tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    expected = tokenizer.encode(rendered, add_special_tokens=False)
    assert engine.encode(rendered, add_special_tokens=False) == expected


def test_plain_llama_cpp_python_knows_the_template_and_where_answers_end(
    tiny_f16: Path, tiny_model: Path
) -> None:
    from transformers import GenerationConfig

    library = require_llama_cpp()
    tokenizer = load_tokenizer(str(tiny_model))

    with closing(library.Llama(str(tiny_f16), vocab_only=True, verbose=False)) as model:
        assert model.metadata["tokenizer.chat_template"] == tokenizer.chat_template
        assert model.token_bos() == tokenizer.bos_token_id
        assert model.token_eos() == tokenizer.eos_token_id
        vocabulary = library.llama_model_get_vocab(model.model)
        ends = {
            token
            for token in range(len(tokenizer))
            if library.llama_vocab_is_eog(vocabulary, token)
        }
        assert ends == set(GenerationConfig.from_pretrained(tiny_model).eos_token_id)


def test_conversations_are_the_same_text_and_ids_in_both_worlds(
    engine: LlamaCppEngine, tiny_model: Path
) -> None:
    template = TokenizerTemplate(load_tokenizer(str(tiny_model)))
    for number in range(100):
        report = radiology.build_report(Random(f"chat-{number}")).text
        turns = [Message("user", f"  {report}\n≥ 38.5 °C <|end|>"), Message("assistant", report)]
        turns = [*turns, Message("user", "No.")] if number % 2 else turns

        for asks in (True, False):
            text = template.render(turns, add_generation_prompt=asks)
            assert engine.render(turns, add_generation_prompt=asks) == text
            assert encode_text(engine, text) == encode_text(template, text)


def test_bos_comes_once(engine: LlamaCppEngine) -> None:
    bare = engine.encode("Fever", add_special_tokens=False)
    with_bos = engine.encode("Fever", add_special_tokens=True)
    rendered = engine.encode(engine.render(QUESTION), add_special_tokens=True)

    assert with_bos[-len(bare) :] == bare
    assert len(with_bos) - len(bare) in {0, 1}
    if len(with_bos) > len(bare):
        assert rendered[0] == with_bos[0]
        assert rendered[1] != with_bos[0]


def test_a_template_that_refuses_is_reported(tiny_model: Path, tmp_path: Path) -> None:
    template = "{{ raise_exception('Only one turn, please') }}"
    path = tmp_path / "model"
    copy_with(tiny_model, path, "tokenizer_config.json", chat_template=template)
    for other in chain(path.glob("chat_template*"), path.glob("additional_chat_templates")):
        other.unlink()
    files.convert_to_f16(path, tmp_path / "strict.gguf")

    with pytest.raises(DataError, match="Only one turn, please"):
        LlamaCppEngine(tmp_path / "strict.gguf").render(QUESTION)


# Sliding windows


def windowed(model: Path, tiny_model: Path) -> Path:
    """A Mistral model whose window is smaller than its context."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from medllm.models.load import read_config, save_tokenizer

    tokens = read_config(tiny_model)["vocab_size"]
    config = MistralConfig(
        vocab_size=tokens, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512,
        sliding_window=96,
    )  # fmt: skip
    torch.manual_seed(0)
    MistralForCausalLM(config).save_pretrained(model)
    save_tokenizer(resolve_model(str(tiny_model)), model)
    return model


def test_a_window_that_llama_cpp_does_not_know_bounds_the_context(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = windowed(tmp_path / "mistral", tiny_model)
    config = QuantizeConfig(
        model=str(model), formats=(GgufFormat(type="F16"),), output=tmp_path / "out"
    )

    (manifest,) = quantize(config)

    said = capsys.readouterr().err
    assert "llama.cpp has no sliding window for MistralForCausalLM: beyond 96 tokens" in said
    assert manifest.results["lost_window"] == manifest.results["context_tokens"] == 96
    folder = tmp_path / "out/gguf-f16"
    assert "PARAMETER num_ctx 96\n" in (folder / "Modelfile").read_text()
    assert serving_lines(manifest)[0].endswith(" -c 96")
    with closing(open_model(resolve_model(str(folder)))) as engine:
        assert engine.context_length == 96
    with closing(open_model(resolve_model(str(folder)), n_ctx=200)) as engine:
        assert engine.context_length == 200
    assert "beyond 96 tokens it computes another model" in capsys.readouterr().err


def test_a_window_that_llama_cpp_knows_bounds_nothing(
    gemma: Path, tiny_f16: Path, tmp_path: Path
) -> None:
    assert read_window(tiny_f16) == 0
    folder = copy_with(gemma, tmp_path / "gemma", "config.json")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"sliding_window": 96, "max_position_embeddings": 32_768}
    (folder / "config.json").write_text(json.dumps(config))
    target = tmp_path / "gemma.gguf"
    files.convert_to_f16(folder, target)

    assert read_model_window(folder) == 96
    assert read_window(target) == 96
    assert note_context(folder, target) == {"context_tokens": 32_768}, "as its config.json says"
