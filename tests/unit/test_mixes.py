"""The mixes that ship, and those that are refused."""

import pytest

from medllm.calibrate.config import CalibrateConfig
from medllm.config.loader import list_named
from medllm.data.mix import SHIPPED, Mix, find_mix
from medllm.data.registry.datasets import known_specs
from medllm.data.sample import largest_remainder

MIXES = {name: find_mix(name) for name in list_named(SHIPPED, None)}


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_a_shipped_mix_names_what_the_catalog_has(mix: Mix) -> None:
    assert mix.description
    assert mix.shares.keys() <= known_specs().keys()
    assert set(mix.pack) <= mix.shares.keys()


def test_the_mixes_of_the_documentation_ship() -> None:
    assert {"radiology", "general_medical", "clinical_notes", "balanced", "pubmedqa"} <= set(MIXES)


def test_the_quotas_of_the_radiology_mix() -> None:
    assert largest_remainder(MIXES["radiology"].shares, 512) == {
        "pubmedqa": 307,
        "pmc_patients": 154,
        "synthetic_radiology": 51,
    }


def test_what_is_packed_has_a_share() -> None:
    with pytest.raises(ValueError, match="`pack` names medqaa, which has no share"):
        Mix(shares={"medqa": 1}, pack=("medqaa",))


def test_bounds_that_no_text_can_meet_are_refused() -> None:
    with pytest.raises(ValueError, match="`min_tokens` is more than `max_tokens`"):
        CalibrateConfig(min_tokens=500, max_tokens=100)
