"""The shipped recipes with their comments, and the terms of the datasets, as parts of pages."""

from pathlib import Path

import yaml

from medllm.data.registry.specs import read_spec

GROUPS = {
    "recipes": "Whole walks",
    "finetune": "Fine-tuning",
    "quantize": "Quantizing",
    "evaluate/gates": "Gates of evaluate: what a score must be",
    "deploy": "Deploying a server",
    "deploy/kubernetes": "Deploying on Kubernetes",
    "finetune/accelerate": "Several processes: files of accelerate",
}
"""Folders of configs/, and what is in them."""


def render_recipes(repository: Path) -> str:
    """Each file of configs/ under its name, as it is."""
    parts = []
    for folder, title in GROUPS.items():
        parts.append(f"## {title}\n")
        for path in sorted((repository / "configs" / folder).glob("*.yaml")):
            parts.append(render_recipe(path, path.relative_to(repository).as_posix()))
    return "\n".join(parts)


def render_recipe(path: Path, name: str) -> str:
    """A recipe's description and its text."""
    text = path.read_text(encoding="utf-8")
    first = next(yaml.safe_load_all(text))  # a manifest of Kubernetes may hold several documents
    description = first.get("description")
    told = f"{description}.\n\n" if description else ""
    return f'### {path.stem}\n\n{told}```yaml title="{name}"\n{text.rstrip()}\n```\n'


def render_terms(repository: Path) -> str:
    """A table of the licence and access of each dataset that medllm knows by name."""
    rows = ["| dataset | licence | access | agreement |", "|---|---|---|---|"]
    for path in sorted((repository / "medllm/data/catalog").glob("*.yaml")):
        spec = read_spec(path)
        name = f"[`{path.stem}`]({spec.homepage})" if spec.homepage else f"`{path.stem}`"
        agreement = f"`{spec.agreement}`" if spec.agreement else ""
        rows.append(f"| {name} | {spec.licence} | {spec.access} | {agreement} |")
    return "\n".join(rows) + "\n"
