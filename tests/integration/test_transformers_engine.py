"""The transformers engine: what requests share changes no score, and answers end well."""

import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medllm.data.example import Message
from medllm.engines.base import (
    GenerateRequest,
    OnDevice,
    Piece,
    Sampling,
    ScoreRequest,
    likelihoods,
)
from medllm.engines.growing_text import GrowingText
from medllm.engines.many import write_answers
from medllm.engines.open import InProcess, open_model
from medllm.engines.scoring.batches import Batches
from medllm.engines.transformers import TransformersEngine
from medllm.engines.writing.alone import NO_TOKEN, write_tokens
from medllm.errors import ConfigError, DataError
from medllm.measures.divergence import compare_document
from medllm.measures.logprobs import write_with_logprobs
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.load import load_tokenizer, resolve_model


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> InProcess:
    return open_model(resolve_model(str(tiny_model)), n_ctx=64)


def test_a_score_does_not_depend_on_what_else_is_asked(engine: InProcess) -> None:
    long = tuple(range(20, 120))
    requests = [
        ScoreRequest((9, 10), (11,)),
        ScoreRequest((9, 10), (12, 13)),  # the same context
        ScoreRequest((9,), (10, 14)),  # the same input as the first, another context
        ScoreRequest(long, (5,)),
        ScoreRequest(long[:3], (7, 8, 9)),
        ScoreRequest((), (5,)),
        ScoreRequest((), (5, 6)),
    ]

    together = engine.score([*requests, requests[0]])

    alone = [engine.score([request])[0] for request in requests]
    for score, same in zip(together, [*alone, alone[0]], strict=True):
        assert score.logprob == pytest.approx(same.logprob, abs=1e-4)
        assert (score.tokens, score.greedy) == (same.tokens, same.greedy)
    assert [score.tokens for score in together] == [1, 2, 2, 1, 3, 0, 1, 1]


def test_each_token_of_prompt_and_answer_has_the_likelihood_of_its_score(engine: InProcess) -> None:
    prompt = tuple(engine.encode("The chest is", add_special_tokens=True))
    request = GenerateRequest(prompt, Sampling(max_tokens=5), logprobs=3, prompt_logprobs=True)
    *_, last = write_with_logprobs(engine, request)
    assert isinstance(engine, TransformersEngine)
    told = [each.logprob for each in last.logprobs]
    (score,) = engine.score([ScoreRequest(prompt[:1], prompt[1:])])

    assert told[0] is None and len(told) == len(prompt) + 5
    known = [each for each in told if each is not None]
    assert sum(known[: len(prompt) - 1]) == pytest.approx(score.logprob, abs=1e-3)
    for each in last.logprobs[len(prompt) :]:  # greedy: it is the likeliest
        assert each.top[0] == (each.text, each.logprob) and len(each.top) == 3
    assert engine.decode(prompt).endswith("The chest is") and engine.vocabulary > max(prompt)


def test_a_bias_decides_what_is_written(engine: InProcess) -> None:
    prompt = engine.encode("The chest is", add_special_tokens=True)
    token = 20
    sampling = Sampling(max_tokens=3, logit_bias=((token, 100.0),))
    pieces = list(engine.generate(GenerateRequest(prompt, sampling)))
    assert [each for piece in pieces for each in piece.ids] == [token] * 3


def test_answers_end_at_stop_strings_and_limits(engine: InProcess) -> None:
    prompt = engine.encode("The chest is", add_special_tokens=True)
    whole = list(engine.generate(GenerateRequest(prompt, Sampling(max_tokens=12))))
    text = "".join(piece.text for piece in whole)
    stop = text[3:6]

    stopped = list(engine.generate(GenerateRequest(prompt, Sampling(max_tokens=12, stop=(stop,)))))

    assert (whole[-1].finish_reason, sum(piece.tokens for piece in whole)) == ("length", 12)
    assert "".join(piece.text for piece in stopped) == text[: text.find(stop)]
    assert stopped[-1].finish_reason == "stop"


def test_an_answer_can_be_ended_while_its_prompt_is_read(tiny_model: Path) -> None:
    engine = open_model(resolve_model(str(tiny_model)))
    assert isinstance(engine, TransformersEngine)
    first, *_, last = engine.model.model.layers
    passes: list[int] = []
    slow = first.register_forward_hook(lambda *_: time.sleep(0.3))
    last.register_forward_hook(lambda *_: passes.append(1))

    pieces = engine.generate(GenerateRequest(list(range(20, 120)), Sampling(max_tokens=4)))
    assert next(pieces) == Piece("", 0)
    pieces.close()  # type: ignore[attr-defined]
    assert passes == []

    slow.remove()
    whole = list(engine.generate(GenerateRequest(list(range(20, 120)), Sampling(max_tokens=4))))
    assert whole[0] == Piece("", 0) and sum(piece.tokens for piece in whole) > 0
    assert whole[-1].finish_reason and passes


def test_what_fails_while_writing_is_raised_where_it_is_read(engine: InProcess) -> None:
    with pytest.raises(IndexError):
        list(engine.generate(GenerateRequest([10**7], Sampling(max_tokens=2))))


def test_messages_that_a_template_refuses_are_the_users_error(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"

    with pytest.raises(DataError, match="refuses the messages: System role not supported"):
        TokenizerTemplate(tokenizer).render([Message("system", "Be brief.")])


# Answers, token by token


def saying(tiny_model: Path, text: str) -> tuple[TransformersEngine, list[int]]:
    """An engine that answers a prompt of one token with this text, whatever it is, and its tokens.

    Its position embeddings are the answer; there is nothing else in it.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = load_tokenizer(str(tiny_model))
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    size = len(ids) + len(ids) % 2
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=size, n_layer=1, n_head=1, n_positions=size + 2,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.transformer.ln_f.weight.fill_(1)
        model.transformer.wpe.weight[: len(ids)] = torch.eye(size)[: len(ids)]
        for position, token in enumerate(ids):
            model.lm_head.weight[token, position] = 10
    return TransformersEngine(model, tokenizer), ids


WITHOUT_BLANKS = [
    "ยาลดไข้พาราเซตามอล",
    "ちりょうは手術です",
    "______________",
    "🩺👩‍⚕️💊🤒",
    "Ödeme,größer.",
    "......-----",
]


@pytest.mark.parametrize("text", WITHOUT_BLANKS)
def test_text_without_blanks_comes_token_by_token(tiny_model: Path, text: str) -> None:
    engine, ids = saying(tiny_model, text)

    pieces = list(engine.generate(GenerateRequest([9], Sampling(max_tokens=len(ids)))))

    assert "".join(piece.text for piece in pieces) == text
    assert pieces[-1] == Piece("", 0, "stop", ids=(ids[-1],))
    assert len(pieces) == len(ids)
    longest_wait = max(
        len(run) for run in "".join("x" if p.text else "." for p in pieces).split("x")
    )
    assert longest_wait <= 4  # the bytes of a character


@pytest.mark.parametrize("text", WITHOUT_BLANKS[:5])
def test_a_stop_string_ends_the_work_where_it_is_written(tiny_model: Path, text: str) -> None:
    engine, _ = saying(tiny_model, text)
    stop = text[-3]
    passes: list[int] = []
    engine.model.register_forward_hook(lambda *_: passes.append(1))
    engine.model.register_forward_hook(lambda *_: time.sleep(0.03))  # no longer than a real pass

    pieces = list(engine.generate(GenerateRequest([9], Sampling(max_tokens=100, stop=(stop,)))))

    end = text.index(stop)
    assert "".join(piece.text for piece in pieces) == text[:end]
    assert pieces[-1].finish_reason == "stop"
    needed = len(engine.encode(text[: end + 1], add_special_tokens=False))
    assert sum(piece.tokens for piece in pieces) == pytest.approx(needed, abs=1)
    assert len(passes) <= needed + 2


def test_a_reader_that_goes_away_ends_the_work(tiny_model: Path) -> None:
    engine, _ = saying(tiny_model, "_" * 200)
    passes: list[int] = []
    engine.model.register_forward_hook(lambda *_: passes.append(1))

    answer = engine.generate(GenerateRequest([9], Sampling(max_tokens=200)))
    first = list(islice(answer, 3))
    answer.close()  # type: ignore[attr-defined]

    assert len(first) == 3
    assert len(passes) < 20
    assert (
        "".join(p.text for p in engine.generate(GenerateRequest([9], Sampling(max_tokens=2))))
        == "__"
    )


def test_the_end_as_the_last_allowed_token_is_a_stop(tiny_model: Path) -> None:
    engine, ids = saying(tiny_model, "Paracetamol.")

    def ending(tokens: int) -> tuple[int, str | None]:
        pieces = list(engine.generate(GenerateRequest([9], Sampling(max_tokens=tokens))))
        return sum(piece.tokens for piece in pieces), pieces[-1].finish_reason

    assert ending(len(ids)) == (len(ids) - 1, "stop")
    assert ending(len(ids) - 1) == (len(ids) - 1, "length")
    assert ending(len(ids) + 50) == (len(ids) - 1, "stop")


BYTES = "Ödem: ยาลดไข้ 😀👩‍⚕️ ___ 治療. <eot> end"


def test_bytes_of_characters_become_text_when_they_are_whole() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {character: number for number, character in enumerate(alphabet)}
    merges = [("à", "¸"), ("Ģ", "à")]  # the second holds an end of a character and a beginning
    words |= {"".join(pair): len(words) + n for n, pair in enumerate(merges)}
    inner = Tokenizer(models.BPE(words, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eot>")
    text = GrowingText(tokenizer)
    ids = tokenizer(BYTES)["input_ids"]

    shown = ""
    for token in ids:
        shown += text.add(token)
        assert BYTES.replace("<eot>", "").startswith(shown)

    assert shown == BYTES.replace("<eot>", "")
    assert len(ids) > len(BYTES)


def test_bytes_that_are_no_character_hold_up_nothing(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    broken = tokenizer.convert_tokens_to_ids(["<0xE0>", "<0xE0>", "<0xE0>", "<0xE0>", "<0xE0>"])
    word = tokenizer("fever", add_special_tokens=False)["input_ids"]
    text = GrowingText(tokenizer)

    shown = "".join(text.add(token) for token in [*broken, *word])

    assert shown.endswith("fever")
    assert set(shown.removesuffix("fever").strip()) == {"\N{REPLACEMENT CHARACTER}"}


# What decides an answer


def test_generation_settings_of_the_model_decide_nothing(tiny_model: Path) -> None:
    from transformers import GenerationConfig

    from medllm.models.load import load_causal_lm

    model = load_causal_lm(str(tiny_model))
    model.generation_config = GenerationConfig(
        eos_token_id=[2], do_sample=True, temperature=0.1, top_k=1, repetition_penalty=5.0,
        no_repeat_ngram_size=1, max_length=3,
    )  # fmt: skip
    engine = TransformersEngine(model, load_tokenizer(str(tiny_model)))
    plain = open_model(resolve_model(str(tiny_model)))
    prompt = engine.encode("The chest is", add_special_tokens=True)

    def answers(which: InProcess) -> list[str]:
        asked = [Sampling(12), Sampling(12, 1.0, seed=1), Sampling(12, 0.7, 0.9, seed=2)]
        return [
            "".join(p.text for p in which.generate(GenerateRequest(prompt, each))) for each in asked
        ]

    assert answers(engine) == answers(plain)
    assert engine.unused_settings == {
        "do_sample": True, "temperature": 0.1, "top_k": 1, "repetition_penalty": 5.0,
        "no_repeat_ngram_size": 1,
    }  # fmt: skip
    assert plain.unused_settings == {}


def test_sampling_draws_of_all_tokens_not_of_the_likeliest_50(engine: Any) -> None:
    prompt = engine.encode("The chest is", add_special_tokens=True)
    (expected,) = engine.log_probs(prompt)
    likeliest = set(np.argsort(expected[-1])[-50:].tolist())

    drawn = {
        next(write_tokens(engine.model, prompt, Sampling(1, temperature=2.0, seed=seed), 1))[0]
        for seed in range(20)
    }

    assert drawn - likeliest


def test_without_a_seed_answers_differ_and_with_one_they_are_the_same(engine: InProcess) -> None:
    prompt = engine.encode("The chest is", add_special_tokens=True)

    def answer(seed: int | None) -> str:
        sampling = Sampling(12, temperature=2.0, seed=seed)
        return "".join(piece.text for piece in engine.generate(GenerateRequest(prompt, sampling)))

    assert answer(3) == answer(3) == answer(3 + 2**32 - 1)
    assert answer(-1) == answer(-1)
    assert len({answer(None) for _ in range(4)}) > 1
    assert answer(2**70) == answer(2**70)


def test_a_temperature_next_to_nothing_is_greedy(engine: InProcess) -> None:
    prompt = engine.encode("The chest is", add_special_tokens=True)

    answers = [
        list(engine.generate(GenerateRequest(prompt, Sampling(8, t)))) for t in (0.0, 1e-320, 1e-9)
    ]

    assert answers[0] == answers[1] == answers[2]


def test_more_context_than_the_model_was_made_for_is_refused(
    tiny_model: Path, engine: InProcess
) -> None:
    with pytest.raises(ConfigError, match=r"n_ctx 1,000,000 is more than the [\d,]+ tokens"):
        open_model(resolve_model(str(tiny_model)), n_ctx=1_000_000)
    with pytest.raises(DataError, match="the prompt has 64 tokens, the context holds 64"):
        engine.generate(GenerateRequest([5] * 64, Sampling()))
    with pytest.raises(DataError, match="the prompt is empty"):
        engine.generate(GenerateRequest([], Sampling()))
    whole, _ = saying(tiny_model, "_" * 20)
    small = TransformersEngine(whole.model, whole.tokenizer, n_ctx=10)
    pieces = list(small.generate(GenerateRequest([9] * 6, Sampling(max_tokens=99))))
    assert (sum(piece.tokens for piece in pieces), pieces[-1].finish_reason) == (4, "length")


# Many answers


def test_answers_written_together_are_those_written_alone(engine: Any) -> None:
    texts = ["The chest is", "A", "Sodium is 131 mmol/l and potassium", "x " * 20, "Fever", "1 2 3"]
    prompts = [engine.encode(text, add_special_tokens=True) for text in texts]
    asked = [
        Sampling(12), Sampling(7, stop=("e",)), Sampling(12, 1.0, seed=5),
        Sampling(9, repetition_penalty=1.3, frequency_penalty=0.5),
        Sampling(9, 1.5, 0.9, seed=6, top_k=40, min_p=0.01), Sampling(12, num_beams=2),
    ]  # fmt: skip
    requests = [GenerateRequest(*pair) for pair in zip(prompts, asked, strict=True)]
    passes: list[int] = []
    hook = engine.model.register_forward_hook(lambda *_: passes.append(1))
    alone = [next(iter(write_answers(engine, [request])))[1] for request in requests]
    count = len(passes)
    too_long = GenerateRequest([5] * engine.context_length, Sampling())
    together = dict(write_answers(engine, [requests[0], too_long, *requests[1:]]))
    hook.remove()

    assert isinstance(together.pop(1), DataError)
    for written, (_, found) in zip(alone, sorted(together.items()), strict=True):
        assert asdict(written) == pytest.approx(asdict(found), abs=1e-4)
    assert {each.finish_reason for each in alone} == {"stop", "length"}
    assert len(passes) - count < count * 0.7  # the beams are written alone


def test_likelihoods_are_those_of_scoring(engine: Any) -> None:
    prompt = engine.encode("The chest is", add_special_tokens=True)
    asked = [Sampling(20), Sampling(20, num_beams=3), Sampling(20, 1.2, seed=4)]
    for sampling in asked:
        told = write_tokens(engine.model, prompt, sampling, 20)
        pieces = [(token, logprob) for token, logprob in told if token != NO_TOKEN]
        written = tuple(token for token, _ in pieces)
        (score,) = engine.score([ScoreRequest(tuple(prompt), written)])
        assert sum(logprob for _, logprob in pieces) == pytest.approx(score.logprob, abs=1e-3)


def test_memory_that_is_short_makes_batches_smaller_and_is_told(
    engine: Any, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = TransformersEngine(engine.model, engine.tokenizer)
    requests = [GenerateRequest([5, 6, 7 + n], Sampling(4)) for n in range(6)]
    expected = [next(iter(write_answers(own, [request])))[1] for request in requests]
    hook = engine.model.register_forward_pre_hook(
        lambda *given: _refuse_more_than(3, given[2]["input_ids"]), with_kwargs=True
    )
    found = dict(write_answers(own, requests))
    hook.remove()

    assert [found[place].text for place in range(6)] == [each.text for each in expected]
    assert "memory is short: 3 answers are written together from now on" in capsys.readouterr().err
    assert own.batch_size == 3


def test_a_model_that_counts_padding_writes_its_answers_one_after_another(
    engine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    own = TransformersEngine(engine.model, engine.tokenizer)
    requests = [GenerateRequest([5, 6, 7, 8, 9 + n], Sampling(4)) for n in range(3)]

    def lose(_: Any, inputs: Any, given: Any) -> Any:
        return inputs, {**given, "position_ids": None, "attention_mask": None}

    hook = engine.model.register_forward_pre_hook(lose, with_kwargs=True)
    found = dict(write_answers(own, requests))
    hook.remove()

    assert [found[n] for n in range(3)] == [
        next(iter(write_answers(own, [request])))[1] for request in requests
    ]
    assert own.batch_size == 1
    assert "cannot write answers together" in capsys.readouterr().err


def _refuse_more_than(rows: int, ids: Any) -> None:
    import torch

    if len(ids) > rows:
        raise torch.OutOfMemoryError("CUDA out of memory")


# Windows and states


def build(kind: str, tokens: int) -> Any:
    """A small random model whose window of 32 tokens, or whose state, matters."""
    import torch
    import transformers as hub

    size = {
        "vocab_size": tokens, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512,
        "initializer_range": 0.3,
    }  # fmt: skip
    window = {"sliding_window": 32}
    state = {"state_size": 8, "vocab_size": tokens, "hidden_size": 32, "num_hidden_layers": 2}
    linear = dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16)
    linear |= dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2)
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
    experts |= {"shared_expert_intermediate_size": 16, "head_dim": 16}
    layers = {"layer_types": ["linear_attention", "full_attention"]}
    mixed = {"layer_types": ["sliding_attention", "full_attention"], "head_dim": 16}
    torch.manual_seed(0)
    made = {
        "mistral": lambda: hub.MistralForCausalLM(hub.MistralConfig(**size, **window)),
        "qwen2": lambda: hub.Qwen2ForCausalLM(
            hub.Qwen2Config(**size, **window, use_sliding_window=True, max_window_layers=1)
        ),
        "gemma3": lambda: hub.Gemma3ForCausalLM(hub.Gemma3TextConfig(**size, **window, **mixed)),
        "mamba": lambda: hub.MambaForCausalLM(hub.MambaConfig(**state)),
        "qwen3-next": lambda: hub.Qwen3NextForCausalLM(
            hub.Qwen3NextConfig(**size, **linear, **experts, **layers)
        ),
    }
    return made[kind]().eval()


@pytest.mark.filterwarnings("ignore:.*implicitly cleaned up:ResourceWarning")
@pytest.mark.parametrize("kind", ["mistral", "qwen2", "gemma3", "mamba", "qwen3-next"])
def test_models_with_windows_and_states_score_and_write_as_in_one_pass(
    kind: str, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    tokenizer = load_tokenizer(str(tiny_model))
    model = build(kind, len(tokenizer))
    engine = TransformersEngine(model, tokenizer)
    ids = torch.randint(10, len(tokenizer), (300,)).tolist()

    def plain(row: list[int]) -> Any:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
        return torch.log_softmax(logits.float(), dim=-1).numpy()

    choices = [tuple(ids[-3:]), (7, 8, 9, 10), (5,)]
    for length in (20, 290):  # within the window, and beyond it
        context = tuple(ids[:length])
        scores = engine.score([ScoreRequest(context, choice) for choice in choices])
        for choice, score in zip(choices, scores, strict=True):
            expected = plain([*context, *choice])[length - 1 : -1]
            logprob = sum(expected[n, token] for n, token in enumerate(choice))
            assert score.logprob == pytest.approx(logprob, abs=1e-3)
    np.testing.assert_allclose(np.concatenate(list(engine.log_probs(ids))), plain(ids), atol=1e-3)

    answer = [token for token, _ in write_tokens(model, ids[:50], Sampling(max_tokens=4), 4)]
    row = ids[:50]
    for _ in answer:
        row.append(int(plain(row)[-1].argmax()))
    assert answer == row[50:]

    requests = [
        GenerateRequest(ids[:length], Sampling(max_tokens=most))
        for length, most in ((100, 6), (9, 30), (33, 12), (1, 3), (60, 6))
    ]
    together = dict(write_answers(engine, requests))
    for place, request in enumerate(requests):
        ((_, alone),) = write_answers(engine, [request])
        assert (asdict(together[place]), place) == (pytest.approx(asdict(alone), abs=1e-3), place)
    told = capsys.readouterr().err
    assert ("cannot write answers together" in told) == (kind in {"mamba", "qwen3-next"})


# Passes that fill a GPU, computed on a processor


def filling(engine: TransformersEngine, tokens: int, positions: int) -> TransformersEngine:
    """The same model, read as on a GPU whose passes hold so much."""
    filled = TransformersEngine(engine.model, engine.tokenizer, engine.context_length)
    filled.batches = Batches(tokens, positions)
    return filled


@pytest.mark.filterwarnings("ignore:.*implicitly cleaned up:ResourceWarning")
@pytest.mark.parametrize("kind", ["mistral", "qwen2", "gemma3", "mamba", "qwen3-next"])
def test_what_is_read_together_changes_no_number(kind: str, tiny_model: Path) -> None:
    import torch

    tokenizer = load_tokenizer(str(tiny_model))
    engine = TransformersEngine(build(kind, len(tokenizer)), tokenizer)
    ids = torch.randint(10, len(tokenizer), (700,)).tolist()
    asked = [
        ScoreRequest(tuple(ids[:20]), tuple(ids[20:25])),
        ScoreRequest(tuple(ids[:20]), (7,)),
        ScoreRequest(tuple(ids[:20]), (8,)),
        ScoreRequest(tuple(ids[:19]), (ids[19], 9)),  # the same input, another continuation
        ScoreRequest(tuple(ids[100:190]), tuple(ids[190:230])),
        ScoreRequest((), tuple(ids[300:330])),
        ScoreRequest((5,), (6,)),
        ScoreRequest((), (5,)),
        ScoreRequest(tuple(ids[:600]), (9, 10, 11)),  # longer than the context
    ]
    alone = [engine.score([each])[0] for each in asked]
    for tokens, positions in ((10_000, 10_000), (250, 60), (1, 1)):
        found = filling(engine, tokens, positions).score([*asked, asked[0]])
        for score, expected in zip(found, [*alone, alone[0]], strict=True):
            assert score.logprob == pytest.approx(expected.logprob, abs=1e-3)
            assert (score.tokens, score.greedy) == (expected.tokens, expected.greedy)

    whole = np.concatenate(list(engine.log_probs(ids[:500])))
    for positions in (256, 512, 1024):
        blocks = list(filling(engine, 1000, positions).log_probs(ids[:500]))
        assert [len(block) for block in blocks] == [256, 244]
        np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-3)
        targets = ids[257:500]
        expected = blocks[1][range(243), targets]
        np.testing.assert_array_equal(likelihoods(blocks[1], targets), expected)


@pytest.mark.filterwarnings("ignore:.*implicitly cleaned up:ResourceWarning")
@pytest.mark.parametrize("kind", ["mistral", "qwen2", "gemma3", "mamba", "qwen3-next"])
def test_beginnings_in_common_change_no_number(
    kind: str, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Worked examples before questions of unlike length, each with answers of some tokens."""
    import torch

    tokenizer = load_tokenizer(str(tiny_model))
    engine = TransformersEngine(build(kind, len(tokenizer)), tokenizer)
    ids = torch.randint(10, len(tokenizer), (900,)).tolist()
    examples = tuple(ids[:60])  # longer than the window
    asked = [
        ScoreRequest((*examples, *ids[at : at + 40 + at // 30]), (*ids[at - n : at], answer))
        for at in range(100, 700, 30)
        for n, answer in ((0, 5), (1, 6), (3, 7), (5, 8))
    ]
    alone = [engine.score([each])[0] for each in asked]
    assert not engine.batches.proven

    for tokens, kept in ((1024, 2**29), (300, 2**20), (1, 1)):
        engine.batches = Batches(tokens, 4096, kept)
        found = engine.score(asked)
        for score, expected in zip(found, alone, strict=True):
            assert score.logprob == pytest.approx(expected.logprob, abs=1e-3)
            assert (score.tokens, score.greedy) == (expected.tokens, expected.greedy)
        assert engine.shares_prefixes == (kind not in {"mamba", "qwen3-next"})
        assert bool(engine.batches.proven) == engine.shares_prefixes
    told = "this model cannot go on from a beginning that it has read"
    assert (told in capfd.readouterr().err) is not engine.shares_prefixes


def test_worked_examples_are_read_once(engine: Any) -> None:
    whole = TransformersEngine(engine.model, engine.tokenizer, 512)
    examples = tuple(range(10, 110))
    asked = [ScoreRequest((*examples, 200, number), (5,)) for number in range(200, 260)]
    passes: list[int] = []
    hook = engine.model.register_forward_pre_hook(
        lambda _, __, given: passes.append(given["input_ids"].numel()), with_kwargs=True
    )
    try:
        whole.score(asked[:30])
        begun = sum(passes)
        whole.score(asked[30:])
    finally:
        hook.remove()

    assert begun <= 100 + 2 * 102 + 30 * 2 + 4  # the examples, the proof, and the questions' ends
    assert sum(passes) - begun <= 30 * 2


def test_a_model_that_counts_padding_as_context_is_read_as_a_whole(
    engine: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever an architecture makes of positions and masks shows in the scores."""
    wrong = TransformersEngine(engine.model, engine.tokenizer, 512)
    examples = tuple(range(10, 110))
    asked = [ScoreRequest((*examples, number, 9), (5,)) for number in range(200, 240)]
    expected = [wrong.score([each])[0].logprob for each in asked]

    def lose(_: Any, inputs: Any, given: Any) -> Any:
        if given.get("past_key_values") is not None:
            for layer in given["past_key_values"].layers:
                layer.keys = layer.keys * 0 if layer.is_initialized else layer.keys
        return inputs, given

    hook = engine.model.register_forward_pre_hook(lose, with_kwargs=True)
    try:
        found = wrong.score(asked)
    finally:
        hook.remove()

    assert [score.logprob for score in found] == pytest.approx(expected, abs=1e-4)
    assert not wrong.shares_prefixes
    assert "every prompt is read as a whole" in capfd.readouterr().err


def test_short_memory_makes_passes_smaller_and_is_told(
    engine: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    asked = [ScoreRequest(tuple(range(10, 30 + n)), (40, 41)) for n in range(16)]
    expected, filled = engine.score(asked), filling(engine, 4096, 4096)

    def small(module: Any, inputs: Any) -> None:
        if inputs[0].numel() > 150 * inputs[0].shape[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = engine.model.model.layers[0].mlp.register_forward_pre_hook(small)
    try:
        found = filled.score(asked)
    finally:
        hook.remove()

    assert [score.logprob for score in found] == pytest.approx([s.logprob for s in expected])
    assert filled.batch_tokens <= 150
    told = capfd.readouterr().err.splitlines()
    assert told[-1] == (
        f"memory is short: {filled.batch_tokens} tokens are read at once from now on"
    )


def test_what_fits_follows_from_the_shapes_of_a_model(engine: Any) -> None:
    found = Batches.fitting(engine.model)

    assert 1 <= found.tokens <= 16_384
    assert found.positions % 256 == 0 and 256 <= found.positions <= 16_384


def test_two_models_are_compared_on_a_device_as_in_an_array(engine: Any) -> None:
    import torch

    torch.manual_seed(0)
    ours, theirs = (torch.randn(300, 40).log_softmax(-1) for _ in range(2))
    theirs = torch.cat([theirs, theirs.new_full((300, 2), -torch.inf)], dim=1)  # padded
    ids = torch.randint(0, 40, (301,)).tolist()

    class Told:
        def __init__(self, values: torch.Tensor, on_device: bool) -> None:
            self.values, self.on_device = values, on_device

        def log_probs(self, ids: Any) -> Any:
            for block in self.values.split(256):
                yield OnDevice(block) if self.on_device else block.numpy()

    expected = compare_document(Told(ours, False), Told(theirs, False), "a", ids)
    for mine, other in ((True, True), (False, True), (True, False)):
        found = compare_document(Told(ours, mine), Told(theirs, other), "a", ids)
        np.testing.assert_allclose(found.divergence, expected.divergence, rtol=1e-12)
        np.testing.assert_array_equal(found.agreement, expected.agreement)
        np.testing.assert_array_equal(found.parent, expected.parent)
        np.testing.assert_array_equal(found.quantized, expected.quantized)
        assert found.agreement.dtype == expected.agreement.dtype == bool
