"""Which recipes fit a machine, and the last line of doctor."""

import pytest

from medllm.checkup import conclude, fits
from medllm.models.gpu import Card, Facts
from medllm.recipe import list_recipes

ALL_THERE = [
    ("device", "cuda", ""),
    *((part, "1.0", "") for part in ("gptqmodel", "optimum", "bitsandbytes", "optuna", "fastapi")),
    ("llama-cpp-python", "0.3", ""),
    ("GGUF converter", "/somewhere", ""),
]
T4 = Card("T4", (7, 5), 14.7)
RTX_4090 = Card("RTX 4090", (8, 9), 23.5)
H200 = Card("H200", (9, 0), 139.8)


def machine(*cards: Card) -> Facts:
    return Facts("2.13", "13.0", cards=cards)


@pytest.mark.parametrize(
    ("card", "fitting", "lacking"),
    [
        (T4, {"t4-16gb", "edge-cpu"}, {"qlora-8b-24gb", "medgemma-4b-vision", "mixtral-8x7b"}),
        (RTX_4090, {"t4-16gb", "qlora-8b-24gb", "medgemma-4b-vision"}, {"mixtral-8x7b"}),
        (H200, {"mixtral-8x7b", "qlora-8b-24gb"}, {"fsdp-70b", "apple-mps"}),
    ],
    ids=["T4", "4090", "H200"],
)
def test_a_recipe_fits_a_card_as_it_is_sold(
    card: Card, fitting: set[str], lacking: set[str]
) -> None:
    found = fits(machine(card), ALL_THERE)

    assert {name for name in fitting | lacking if not found[name]} == fitting


def test_eight_cards_fit_what_one_does_not() -> None:
    h100 = Card("H100", (9, 0), 79.2)

    assert fits(machine(h100), ALL_THERE)["fsdp-70b"] == ["8 GPUs of 80 GB with bfloat16"]
    assert fits(machine(*[h100] * 8), ALL_THERE)["fsdp-70b"] == []


def test_parts_that_are_missing_are_named() -> None:
    rows = [
        (part, "missing" if part == "bitsandbytes" else state, "") for part, state, _ in ALL_THERE
    ]

    assert fits(machine(RTX_4090), rows)["qlora-8b-24gb"] == ["bitsandbytes"]
    on_cpu = [("device", "cpu", ""), *ALL_THERE[1:]]
    assert fits(machine(), on_cpu)["qlora-8b-24gb"] == ["1 GPU of 24 GB"]


def test_what_needs_nothing_special_is_not_listed() -> None:
    assert fits(machine(), ALL_THERE).keys() < list_recipes().keys()


def test_the_last_line_says_all() -> None:
    assert conclude([("python", "3.11", "")]) == "all is well"
    one = [("python", "3.11", ""), ("optuna", "missing", "pip install x")]
    assert conclude(one) == "1 thing is missing: optuna"
    assert conclude([*one, ("GPU", "none", "y")]) == "2 things are missing: optuna, GPU"
