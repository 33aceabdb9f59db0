"""An F16 GGUF file of a trained model gives the likelihoods that transformers gives."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medllm.engines.base import GenerateRequest, Sampling, ScoreRequest
from medllm.engines.llama_cpp import LlamaCppEngine
from medllm.engines.llama_cpp_setup import converter_script, require_llama_cpp
from medllm.errors import SetupError
from medllm.quantize.gguf.files import quantize_file

SHARED = Path(os.environ.get("MEDLLM_SHARED", Path(__file__).parents[3] / "shared"))
MODEL = SHARED / "models" / "tiny-med"
EOS, END = 2, 6  # both of tiny-med's eos_token_id

if not MODEL.is_dir():
    pytest.skip(f"no shared test data: {MODEL} is absent", allow_module_level=True)
try:
    require_llama_cpp()
    converter_script()
except SetupError as problem:
    pytest.skip(f"{problem.message}: {problem.fix}", allow_module_level=True)


@pytest.fixture(scope="module")
def engine(tiny_med_f16: Path) -> LlamaCppEngine:
    return LlamaCppEngine(tiny_med_f16)


@pytest.fixture(scope="module")
def model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def abstracts(engine: LlamaCppEngine) -> list[tuple[int, ...]]:
    """Token ids of whole PubMed abstracts, BOS first."""
    items = json.loads((SHARED / "data/qa/pubmedqa/ori_pqal.json").read_text())
    texts = [
        "\n".join([item["QUESTION"], *item["CONTEXTS"], item["LONG_ANSWER"]])
        for item in list(items.values())[:24]
    ]
    return [tuple(engine.encode(text, add_special_tokens=True)) for text in texts]


def reference(model: Any, row: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The log-likelihood of each token of a row but the first, by transformers, in float64."""
    import torch

    ids = torch.tensor([row])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, :-1].double()
    chosen = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])
    return np.asarray(chosen[:, 0].numpy())


def test_likelihoods_agree_token_by_token(
    engine: LlamaCppEngine, model: Any, abstracts: list[tuple[int, ...]]
) -> None:
    row = abstracts[0]
    steps = [ScoreRequest(row[:i], row[i : i + 1]) for i in range(1, len(row))]

    ours = np.array([score.logprob for score in engine.score(steps)])

    difference = np.abs(ours - reference(model, row))
    assert difference.mean() < 0.01
    assert difference.max() < 0.1


def test_likelihoods_of_continuations_agree(
    engine: LlamaCppEngine, model: Any, abstracts: list[tuple[int, ...]]
) -> None:
    cuts = [len(row) // 3 for row in abstracts]
    requests = [ScoreRequest(row[:n], row[n:]) for row, n in zip(abstracts, cuts, strict=True)]

    scores = engine.score(list(reversed(requests)))[::-1]

    for row, cut, score in zip(abstracts, cuts, scores, strict=True):
        expected = reference(model, row)[cut - 1 :]
        assert score.tokens == len(expected)
        assert score.logprob / score.tokens == pytest.approx(expected.mean(), abs=0.01)


def test_requests_on_one_row_are_answered_each(
    engine: LlamaCppEngine, model: Any, abstracts: list[tuple[int, ...]]
) -> None:
    row = abstracts[1][:80]
    requests = [
        ScoreRequest(row[:40], row[40:]),
        ScoreRequest(row[:79], (EOS,)),
        ScoreRequest(row[:60], row[60:]),
        ScoreRequest(row[:79], row[79:]),
    ]

    first, eos, second, last = engine.score(requests)

    expected = reference(model, row)
    assert first.logprob == pytest.approx(expected[39:].sum(), abs=0.1)
    assert second.logprob == pytest.approx(expected[59:].sum(), abs=0.1)
    assert last.logprob == pytest.approx(expected[78], abs=0.02)
    other = reference(model, (*row[:79], EOS))
    assert eos.logprob == pytest.approx(other[78], abs=0.02)


def test_quantizing_costs_likelihood_in_order(
    tiny_med_f16: Path, engine: LlamaCppEngine, abstracts: list[tuple[int, ...]], tmp_path: Path
) -> None:
    requests = [ScoreRequest(row[:1], row[1:]) for row in abstracts[:8]]

    def mean(engine: LlamaCppEngine) -> float:
        scores = engine.score(requests)
        return sum(score.logprob for score in scores) / sum(score.tokens for score in scores)

    means = {"F16": mean(engine)}
    for name in ("Q8_0", "Q4_K_M", "Q2_K"):
        quantize_file(tiny_med_f16, tmp_path / name, name)
        means[name] = mean(LlamaCppEngine(tmp_path / name))

    assert means["Q8_0"] == pytest.approx(means["F16"], abs=0.005)
    assert means["F16"] > means["Q4_K_M"] > means["Q2_K"]


def test_greedy_answers_are_those_of_transformers(engine: LlamaCppEngine, model: Any) -> None:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    prompt = engine.encode("Hypertension is a", add_special_tokens=True)
    with torch.inference_mode():
        ids = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0]

    answer = "".join(
        piece.text for piece in engine.generate(GenerateRequest(prompt, Sampling(max_tokens=24)))
    )

    assert answer.strip() == tokenizer.decode(ids[len(prompt) :]).strip()


def test_an_answer_ends_where_the_model_ends_it(
    engine: LlamaCppEngine, abstracts: list[tuple[int, ...]]
) -> None:
    ends = engine.score([ScoreRequest(row, (EOS,)) for row in abstracts])
    finished = [row for row, end in zip(abstracts, ends, strict=True) if end.greedy]
    assert finished, "after a whole abstract, EOS is often the likeliest token"

    pieces = list(engine.generate(GenerateRequest(finished[0], Sampling(max_tokens=20))))

    assert not any(piece.text or piece.tokens for piece in pieces)
    assert [piece.finish_reason for piece in pieces if piece.finish_reason] == ["stop"]


def test_sampled_answers_end_without_writing_special_tokens(engine: LlamaCppEngine) -> None:
    prompt = engine.encode("Asthma is", add_special_tokens=True)
    answers = []
    for seed in range(6):
        sampling = Sampling(max_tokens=600, temperature=1.0, seed=seed)
        answers.append(list(engine.generate(GenerateRequest(prompt, sampling))))

    assert any(answer[-1].finish_reason == "stop" for answer in answers)
    texts = ["".join(piece.text for piece in answer) for answer in answers]
    assert not any(mark in text for text in texts for mark in ("</s>", "<|end|>"))
