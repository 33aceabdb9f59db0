"""Prompts that come again with another answer: labels that contradict each other, or a leak."""

import numpy as np

from medllm import console
from medllm.prepare.verdicts import Verdicts


def count_repeats(verdicts: Verdicts) -> dict[str, int]:
    """How many training rows have the prompt of another one, and how many that of a held-out row.

    Rows with the same answer, too, are left out before. `show_held_out_images` are those whose
    first image is that of a held-out row, under whatever name.
    """
    prompts, train = verdicts.columns["prompt"], verdicts.in_split("train")
    trained = prompts[train & (prompts > 0)]
    _, place, times = np.unique(trained, return_inverse=True, return_counts=True)
    kept = ~train & (verdicts.reason == 0)
    images = verdicts.columns["image"]
    return {
        "in_training": int((times[place] > 1).sum()),
        "of_held_out_rows": int(np.isin(trained, prompts[kept]).sum()),
        "show_held_out_images": int((np.isin(images, images[kept]) & train & (images > 0)).sum()),
    }


def announce_repeats(repeats: dict[str, int]) -> None:
    """Say how many training rows contradict each other, or ask what a model is tested on."""
    others = {"in_training": "another one", "of_held_out_rows": "a held-out row"}
    for where, other in others.items():
        if count := repeats[where]:
            rows = console.counted(count, "training row")
            console.notice(f"prepare: {rows} with the prompt of {other}, and another answer")
    if count := repeats["show_held_out_images"]:
        rows = console.counted(count, "training row")
        console.notice(f"prepare: {rows} with the image of a held-out row, which a test then knows")
