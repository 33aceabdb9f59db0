"""A study on screen, as a page, and as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from medllm import console
from medllm.reports.page import Page
from medllm.study.outcome import find_knee

Outcome = Mapping[str, Any]
Table = tuple[list[str], list[list[str]]]

SHOWN = ("kl all", "kl medical", "kl general", "perplexity medical", "perplexity general")
VERDICT = (
    "An arm is called better or worse where both hold: the paired interval over the documents "
    "leaves out 0, and all its draws lie on one side of all draws of {reference}. With {draws} "
    "draws each, the latter alone happens by chance in {chance:.0%} of comparisons where there is "
    "no difference; and many comparisons stand here. Everything else cannot be told apart by this "
    "study, which is no proof that there is no difference."
)
KNEE = (
    "The knee is the smallest set whose mean KL is not above {limit}, {where}; nor is that of any "
    "larger set."
)


def show_study(outcome: Outcome) -> None:
    """Print what each format came to, the differences, and for a sweep the knees."""
    for name, found in outcome["formats"].items():
        console.table(*figures_of(outcome, name), title=name)
        if found["differences"] and not is_sweep(outcome):
            console.table(*differences_of(outcome, name))
    for line in (*_knees(outcome), *_unable(outcome)):
        console.say(f"  {line}")
    if not is_sweep(outcome):
        console.say(f"  {verdict_of(outcome)}")


def is_sweep(outcome: Outcome) -> bool:
    """Whether its arms are numbers of samples."""
    return all(name.isdigit() for name in outcome["arms"])


def figures_of(outcome: Outcome, name: str) -> Table:
    """A row an arm: the mean over the draws and their range."""
    arms = outcome["formats"][name]["arms"]
    known = next(iter(arms.values()))["mean"]
    tasks = sorted(outcome["parent_scores"].keys() & known.keys() - {*SHOWN})
    last = ["seconds"] if is_sweep(outcome) and "seconds" in known else []
    columns = [figure for figure in (*SHOWN, "rare terms, nats lost") if figure in known]
    columns += [*tasks, *last]
    rows = [
        [arm, _tokens(found), *(_mean_and_range(found, column) for column in columns)]
        for arm, found in arms.items()
    ]
    own = outcome["parent_scores"]
    scores = [console.rounded(own[each]) if each in own else "" for each in columns]
    rows.append(["the model", "", *scores])
    return ["samples" if is_sweep(outcome) else "arm", "tokens", *columns], rows


def differences_of(outcome: Outcome, name: str) -> Table:
    """A row an arm and loss: how it differs from the reference."""
    rows = []
    for arm, losses in outcome["formats"][name]["differences"].items():
        for loss, found in losses.items():
            estimate = found["estimate"]
            interval = "none from so few texts"
            if estimate["low"] is not None:
                interval = f"{estimate['low']:+.3g} – {estimate['high']:+.3g}"
            each = ", ".join(f"{value:+.3g}" for value in found["draws"])
            rows.append([arm, loss, f"{estimate['value']:+.4g}", interval, each, found["verdict"]])
    title = f"less {outcome['reference']}"
    return [title, "nats per token", "difference", "95 % over texts", "each draw", "arm is"], rows


def verdict_of(outcome: Outcome) -> str:
    """What the verdicts mean."""
    return VERDICT.format(**{key: outcome[key] for key in ("reference", "draws", "chance")})


def _unable(outcome: Outcome) -> list[str]:
    """The tasks that tell no arms apart, and why."""
    return [f"{name} says nothing here: {why}." for name, why in outcome.get("unable", {}).items()]


def _mean_and_range(found: Mapping[str, Any], column: str) -> str:
    if column not in found["mean"]:
        return "not measured"
    mean, low, high = (console.rounded(found[which][column]) for which in ("mean", "low", "high"))
    return mean if low == high else f"{mean} ({low} – {high})"


def _tokens(found: Mapping[str, Any]) -> str:
    """The calibration tokens of a set, or their range."""
    known = sorted({tokens for tokens in found["tokens"] if tokens})
    return " – ".join(f"{tokens:,}" for tokens in [*known[:1], *known[1:][-1:]])


def _knees(outcome: Outcome) -> Iterator[str]:
    if not is_sweep(outcome):
        return
    several = outcome["draws"] > 1
    for name, found in outcome["formats"].items():
        if found["arms"].keys() != outcome["arms"].keys():
            continue  # a format that uses no calibration
        knee, limit = find_knee(found["arms"])
        yield f"{name}: the knee is at {knee} samples."
        largest = "the largest set's" if not several else "of the largest set's draws"
        where = f"the highest {largest}" if several else f"the upper end of {largest} 95 % interval"
        yield KNEE.format(limit=console.rounded(limit), where=where)


def build_page(outcome: Outcome, recipe: str) -> Page:
    """The same as an HTML page, with a plot a format."""
    title = "Calibration size" if is_sweep(outcome) else "Calibration study"
    about = {
        "model": outcome["model"],
        "formats": ", ".join(outcome["formats"]),
        "arms": ", ".join(outcome["arms"]),
        "recipe": recipe,
    }
    page = Page(title, _lead(outcome), about)
    page.text(
        f"The same model, quantized with calibration sets that differ: {outcome['draws']} draw(s) "
        f"of each. {_budget(outcome)} All are judged on the same held-out text. KL is in nats a "
        "token; ranges are over the draws."
    )
    for name, found in outcome["formats"].items():
        page.heading(name)
        page.table(*figures_of(outcome, name))
        each = {arm: values["draws"]["kl all"] for arm, values in found["arms"].items()}
        if len(each) > 1:
            page.dots(f"{name}: mean KL divergence, a dot per draw", each, "nats per token")
        if found["differences"] and not is_sweep(outcome):
            page.table(*differences_of(outcome, name))
    page.heading("How to read it")
    for line in _unable(outcome):
        page.check(False, line)
    page.text(verdict_of(outcome) if not is_sweep(outcome) else " ".join(_knees(outcome)))
    return page


def _lead(outcome: Outcome) -> str:
    """The knees of a sweep, or which arms differ from the reference by mean KL on all texts."""
    if is_sweep(outcome):
        return " ".join(line for line in _knees(outcome) if "samples." in line)
    told = (f"{name}: {_differing(found)}" for name, found in outcome["formats"].items())
    return f"Beside {outcome['reference']}, by mean KL: {'; '.join(told)}."


def _differing(found: Mapping[str, Any]) -> str:
    """The arms of a format by their verdict."""
    arms: dict[str, list[str]] = {}
    for arm, losses in found["differences"].items():
        arms.setdefault(losses["kl all"]["verdict"], []).append(arm)
    return ", ".join(f"{' and '.join(named)} {verdict}" for verdict, named in arms.items()) or "-"


def render_markdown(outcome: Outcome) -> str:
    """The tables and what they mean, as Markdown."""
    parts = []
    for name, found in outcome["formats"].items():
        parts.append(f"### {name}\n\n{_as_markdown(figures_of(outcome, name))}")
        if found["differences"]:
            parts.append(_as_markdown(differences_of(outcome, name)))
    return "\n".join([*parts, *(f"{line}\n" for line in _unable(outcome)), verdict_of(outcome), ""])


def _as_markdown(table: Table) -> str:
    columns, rows = table
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _budget(outcome: Outcome) -> str:
    if outcome["budget"] is None:
        return ""
    windows, tokens = outcome["budget"]
    return f"Each set has {windows} windows of {tokens} tokens, {windows * tokens:,} in all."
