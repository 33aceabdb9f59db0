"""Comparisons, and whatever else was found in the records, as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

Table = tuple[list[str], list[list[str]]]
Found = Mapping[str, Any]


def comparisons_of(rows: Sequence[Found]) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows and title: shares in percent and their differences in points, losses in nats.

    What all rows have alike of baseline, task and number of items stands in the title alone.
    """
    columns = ["model", "beside", "task", "n", "by", "was → is", "difference\n95 %",
               "flips\n+ / −", "p\nby Holm", "could see", "conclusion"]  # fmt: skip
    shown = [_compared(row) for row in rows]
    alike = [i for i in (1, 2, 3, 4) if len({row[i] for row in shown}) == 1]
    told = ", ".join(f"{columns[i]} {shown[0][i]}" for i in alike if columns[i] != "by")
    kept = [i for i, _ in enumerate(columns) if i not in alike]
    title = "paired, item by item" + (f": {told}" if told else "")
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in shown], title


def _compared(row: Found) -> list[str]:
    named = [row["model"], row["baseline"] or "?", row["task"]]
    if "refused" in row:
        return [*named, "", row.get("measure", ""), "", "", "", "", "", "not compared"]
    scale, digits = (100, 1) if row["unit"] == "share" else (1, 3)
    change, flips = row["difference"], ""
    if row["gained"] is not None:
        flips = f"{row['gained']} / {row['lost']}"
    seen = row["detectable"]
    return [
        *named,
        f"{row['items']:,}",
        row.get("measure", ""),
        f"{scale * row['before']:.{digits}f} → {scale * row['after']:.{digits}f}",
        f"{scale * change['value']:+.{digits}f}\n{interval_of(change, scale, digits, '+')}",
        flips,
        shown_p(row["p_holm"]),
        "not known" if seen is None else f"{scale * seen:.{digits}f}",
        "; ".join(filter(None, [row["conclusion"], row.get("verdict"), _how_alike(row)])),
    ]


def _how_alike(row: Found) -> str:
    """That no item differs, and how many may all the same; empty where some do."""
    differing = row["differing"]
    if differing["value"]:
        return ""
    what = "item" if row["units"] == row["items"] else "group"
    return f"no {what} differs, up to {100 * differing['high']:.1f} % may"


def subgroups_of(rows: Sequence[Found]) -> Table:
    """Columns and rows: a row a subgroup, the models side by side."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    cells: dict[tuple[str, ...], dict[str, Found]] = {}
    for row in rows:
        cells.setdefault((row["task"], row["by"], row["group"]), {})[row["model"]] = row
    shown = []
    for (task, by, group), found in cells.items():
        first = next(iter(found.values()))
        size = f"{first['items']:,}" + (" few" if first["few"] else "")
        each = [_scored(found[model]) if model in found else "" for model in models]
        shown.append([task, by.removeprefix("metadata."), group, size, *each])
    return ["task", "by", "group", "n", *models], shown


def scaled_ends(estimate: Found, scale: float) -> tuple[float, float, float]:
    """A value with its ends; of one without an interval the value alone."""
    value = estimate["value"]
    low, high = (value if estimate[end] is None else estimate[end] for end in ("low", "high"))
    return scale * value, scale * low, scale * high


def _scored(row: Found) -> str:
    """A score with its interval: a share in percent, a loss in nats."""
    scale, digits = (100, 1) if row["unit"] == "share" else (1, 3)
    return f"{scale * row['value']:.{digits}f}\n{interval_of(row, scale, digits)}"


def interval_of(estimate: Found, scale: float, digits: int, sign: str = "") -> str:
    """The ends of an interval, or that there is none."""
    if estimate["low"] is None:
        return "no interval"
    low, high = (f"{scale * estimate[end]:{sign}.{digits}f}" for end in ("low", "high"))
    return f"{low} to {high}" if sign else f"{low}–{high}"


def shown_p(p: float) -> str:
    """A p-value; what is smaller than any that matters has no digits of its own."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


EXPLAINED = (
    "A difference is of the model less the one beside it, on the same items. p is of the exact "
    "McNemar test for right and wrong answers (of random signs of patients or other groups where "
    "these repeat), of random signs for means, of documents that both exchange at random for "
    "precision, recall and F1; adjusted by Holm for all comparisons that are shown. “Could see” is "
    "about the smallest true difference that so many items find four times in five; a "
    "smaller one is not ruled out by “no difference shown”. A mean of which fewer than six "
    "items differ has no interval: of all such items up to so many may differ as stands there (the "
    "upper end of an exact 95 % interval), but not by how much."
)
OF_SUBGROUPS = (
    "Few: less than {} items or patients. Of many subgroups the lowest is low by chance, too: look "
    "at its interval before its place."
)
