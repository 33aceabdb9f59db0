"""Sampling means the same on every engine, or the engine refuses it."""

import pytest

from medllm.engines.sampling import Sampling, UnfitSampling, check_sampling


def test_only_what_differs_from_greedy_decoding_is_named() -> None:
    assert Sampling().named == {}
    assert Sampling(temperature=0.7, top_k=50).named == {"temperature": 0.7, "top_k": 50}
    assert Sampling(frequency_penalty=0.1).has_penalties and not Sampling(top_p=0.5).has_penalties


@pytest.mark.parametrize(
    ("engine", "sampling", "told"),
    [
        ("transformers", Sampling(length_penalty=2.0), "length_penalty weighs beams"),
        ("transformers", Sampling(num_beams=4, temperature=1.0), "chosen by likelihood"),
        ("llama_cpp", Sampling(num_beams=4), "num_beams: the engine llama_cpp cannot heed it"),
        ("llama_server", Sampling(presence_penalty=1.0), "counts the tokens of the prompt"),
        ("openai", Sampling(top_k=40), "may leave it unheeded"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_with_the_reason(
    engine: str, sampling: Sampling, told: str
) -> None:
    with pytest.raises(UnfitSampling, match=told):
        check_sampling(engine, sampling)


@pytest.mark.parametrize(
    ("engine", "sampling"),
    [
        ("transformers", Sampling(num_beams=4, length_penalty=2.0, repetition_penalty=1.1)),
        ("llama_cpp", Sampling(temperature=1.0, top_k=40, min_p=0.1, presence_penalty=0.5)),
        ("llama_server", Sampling(temperature=1.0, top_k=40, repetition_penalty=1.1)),
        ("openai", Sampling(frequency_penalty=0.5, seed=1)),
        ("fake", Sampling(num_beams=2)),
    ],
)
def test_what_an_engine_can_do_is_not(engine: str, sampling: Sampling) -> None:
    check_sampling(engine, sampling)
