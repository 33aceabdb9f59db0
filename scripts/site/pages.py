"""What the site has beside docs/*.md, and how the links of a code host lead somewhere in it.

mkdocs calls the `on_…` functions (`hooks` in mkdocs.yml). Documents are written for a code host:
they link files of the repository, and name what the site shows in its place between two comments,

    <!-- site: recipes -->
    They lie in [configs/](../configs).
    <!-- /site -->

where the first one names the part that is generated in its place (GENERATED).
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
from catalog import render_recipes, render_terms
from figures import render_figures

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "data/README.md": "data/README.md",
}
"""Documents that lie elsewhere in the repository, and where they are in the site."""
INSTEAD = {"configs": "recipes.md", "docs/benchmarks": "figures.md"}
"""Folders, and the page that shows what is in them."""
GENERATED = {"recipes": render_recipes, "terms": render_terms, "figures": render_figures}
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:)([^)\s#]*)(#[^)\s]*)?(?=\))")
INSERTION = re.compile(r"<!-- site: (\S+) -->\n.*?<!-- /site -->\n", re.DOTALL)
FENCE_WITH_NAME = re.compile(r"^(```\w+) ([\w./-]+)$", re.MULTILINE)


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """All files of docs/, and those of the repository that documents link."""
    from mkdocs.structure.files import File, InclusionLevel

    for path, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(REPOSITORY / path)))
    for path in sorted(linked_files(files)):
        source = {"abs_src_path": str(REPOSITORY / path)}
        if path.endswith(".py"):
            source = {"content": render_source(path)}
        inclusion = InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, place_of(path), inclusion=inclusion, **source))
    return files


def linked_files(files: "Files") -> set[str]:
    """The paths of files of the repository that no page is made of, but documents link."""
    found = set()
    for file in files.documentation_pages():
        path = path_of(file.src_uri)
        text = with_insertions((REPOSITORY / path).read_text(encoding="utf-8"))
        found |= {resolve(link, path) for link, _ in LINK.findall(text) if link}
    shown = {*PAGES.values(), *INSTEAD.values()}
    outside = (path for path in found if not path.startswith("docs/"))
    return {p for p in outside if place_of(p) not in shown and (REPOSITORY / p).is_file()}


def on_page_markdown(markdown: str, page: "Page", **_: object) -> str:
    """A document as the site shows it."""
    path = path_of(page.file.src_uri)
    if path.endswith(".py.md"):
        return markdown
    text = with_insertions(markdown)
    text = FENCE_WITH_NAME.sub(r'\1 title="\2"', text)
    text = LINK.sub(lambda link: site_link(link[1], link[2] or "", path, page.file.src_uri), text)
    return with_room_before_lists(text)


def path_of(place: str) -> str:
    """Where a page of the site lies in the repository."""
    paths = {site: path for path, site in PAGES.items()}
    return paths.get(place) or (place[7:] if place.startswith("source/") else f"docs/{place}")


def place_of(path: str) -> str:
    """Where a path of the repository is in the site."""
    if path in PAGES:
        return PAGES[path]
    folders = (folder for folder in INSTEAD if path == folder or path.startswith(f"{folder}/"))
    if (folder := next(folders, None)) and not path.endswith((".md", ".json")):
        return INSTEAD[folder]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}.md" if path.endswith(".py") else f"source/{path}"


def resolve(link: str, path: str) -> str:
    """The path in the repository that a link on the page `path` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) if link else path


def site_link(link: str, anchor: str, path: str, place: str) -> str:
    """The link as it must stand on the page `place` of the site."""
    if not link:
        return anchor
    target = place_of(resolve(link, path))
    if target == "recipes.md" and link.endswith(".yaml"):
        anchor = f"#{posixpath.basename(link).removesuffix('.yaml')}"
    return posixpath.relpath(target, posixpath.dirname(place) or ".") + anchor


def with_insertions(text: str) -> str:
    """The text with its marked parts replaced by what they stand for."""
    return INSERTION.sub(lambda marked: GENERATED[marked[1]](REPOSITORY), text)


def with_room_before_lists(text: str) -> str:
    """An empty line before each list, which Python's Markdown wants and code hosts do not."""
    return "\n".join(spaced(text.splitlines())) + "\n"


def spaced(lines: list[str]) -> Iterator[str]:
    """The lines, with an empty one where a list follows a paragraph; not within code."""
    before, in_code = "", False
    for line in lines:
        in_code ^= line.lstrip().startswith("```")
        is_item = re.match(r"(?:[-*]|\d+\.) ", line)
        if is_item and not in_code and before and not re.match(r"[-*\d ]", before):
            yield ""
        yield line
        before = line


def render_source(path: str) -> str:
    """A page with the text of a script."""
    code = (REPOSITORY / path).read_text(encoding="utf-8")
    return f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n`````python\n{code}`````\n"
