"""Look-alike names in sentences that one of them fits: each sentence with both names."""

from medllm.clinical.look_alikes import LOOK_ALIKES, look_alikes
from medllm.data.example import Example
from medllm.data.generators.base import Generator

DATASET = "look_alike_pairs"
LISTS = {"FDA": "drug names, FDA and ISMP", "ISMP": "drug names, ISMP", "clinical": "terms"}
"""What a pair is of, by the first word of its source."""


def build_example(seed: int, number: int) -> Example:
    """Sentence `number`, whatever the seed; both sentences of a pair of names share a group.

    All are for testing: whoever trains on them learns the answers.
    """
    each = look_alikes()[number]
    fits, other = each.names
    return Example(
        id=f"{DATASET}/{number}-{fits}",
        dataset=DATASET,
        group="/".join(sorted(each.names)),
        prompt=(),
        completion=each.fitting,
        choices=(each.fitting, each.mistaken),
        target=each.fitting,
        metadata={"split": "test", "fits": fits, "other": other,
                  "list": LISTS[each.source.split()[0]]},
    )  # fmt: skip


GENERATOR = Generator(build_example, (LOOK_ALIKES,))
