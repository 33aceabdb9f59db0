"""The documents as a site: it holds what it should, and asks for nothing outside."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

from medllm.data.registry.specs import read_spec
from medllm.recipe import ROAD

ROOT = Path(__file__).parents[2]
Tag = tuple[str, dict[str, str]]

pytestmark = pytest.mark.skipif(
    find_spec("mkdocs") is None or find_spec("material") is None,
    reason="mkdocs-material is not installed: pip install -c constraints.txt -e '.[dev]'",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built so that a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@cache
def read(path: Path) -> Page:
    return Page(path)


LOADS = {"src", "srcset", "data", "poster", "action", "background"}
"""Attributes whose address a browser loads by itself; so does `href` of a <link>."""
OUTSIDE = re.compile(r"(?:https?:)?//[\w.-]+\.\w+", re.IGNORECASE)


def loaded(page: Page) -> Iterator[str]:
    """What a browser fetches of a page without being asked to."""
    for tag, attributes in page.tags:
        yield from (attributes[name] for name in LOADS & attributes.keys())
        if tag == "link":
            yield attributes.get("href", "")
        yield from re.findall(r"url\(([^)]*)\)", attributes.get("style", ""))


def test_no_page_loads_anything_from_outside(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20

    assert [(p.name, one) for p in pages for one in loaded(read(p)) if OUTSIDE.match(one)] == []


def test_no_style_sheet_loads_anything_from_outside(site: Path) -> None:
    sheets = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    assert sheets
    fetched = re.compile(r"(?:url\(\s*|@import\s+)['\"]?((?:https?:)?//[^)'\"\s]+)")

    assert [found for text in sheets.values() for found in fetched.findall(text)] == []


NEVER_ASKED = {
    "unpkg.com": ("class", "mermaid"),  # of a page with a diagram
    "api.github.com": ("data-md-component", "source"),  # of a site that names its repository
}
"""Addresses in Material's script, and what a page must hold for one to be asked."""
TOLD = {"bit.ly"}
"""In a message of the search to developers."""
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def test_no_script_asks_anything_outside(site: Path) -> None:
    others = ("search_index.js", "tinyseg.js", "wordcut.js")  # words; Japanese, Thai: not loaded
    scripts = [path for path in site.rglob("*.js") if path.name not in others]
    texts = [COMMENT.sub("", path.read_text(encoding="utf-8")) for path in scripts]
    hosts = {host for text in texts for host in re.findall(r"https?://([\w.-]+\.\w+)", text)}
    attributes = {
        (name, word)
        for path in site.rglob("*.html")
        for _, found in read(path).tags
        for name, value in found.items()
        for word in value.split()
    }

    assert hosts <= NEVER_ASKED.keys() | TOLD
    assert attributes & set(NEVER_ASKED.values()) == set()


def test_each_page_forbids_its_browser_to_ask_outside(site: Path) -> None:
    for path in site.rglob("*.html"):
        metas = [found for tag, found in read(path).tags if tag == "meta"]
        (policy,) = (m["content"] for m in metas if m.get("http-equiv"))

        assert policy.startswith("default-src 'self' file: blob: data: 'unsafe-inline';")
        assert "http" not in policy and "*" not in policy


def test_the_search_works_in_a_page_opened_from_disk(site: Path) -> None:
    scripts = [found.get("src", "") for _, found in read(site / "index.html").tags]

    assert "assets/iframe-worker.js" in scripts
    assert (
        (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index")
    )


def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    lost = []
    for path in site.rglob("*.html"):
        for tag, attributes in read(path).tags:
            link = attributes.get("href", "")
            if tag != "a" or path.name == "404.html" or re.match(r"https?:|mailto:|#", link):
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name).resolve() if name else path
            if target.is_dir() or not target.is_file():
                lost.append((path.name, link))
            elif anchor and target.suffix == ".html":
                ids = {found.get("id") for _, found in read(target).tags}
                lost += [] if anchor in ids else [(path.name, link)]

    assert lost == []


def test_no_block_of_code_is_taken_for_prose(site: Path) -> None:
    pages = [path for path in site.glob("*.html") if path.name != "CONTRIBUTING.html"]

    assert [path.name for path in pages if "```" in read(path).text] == []


def test_each_verb_has_a_page(site: Path) -> None:
    named = {"calibrate": "calibration"}

    assert [v for v in ROAD if not (site / f"{named.get(v, v)}.html").is_file()] == []


def test_the_recipes_stand_on_their_page_with_their_comments(site: Path) -> None:
    text = read(site / "recipes.html").text
    files = sorted((ROOT / "configs").rglob("*.yaml"))
    assert len(files) > 10

    assert [f.name for f in files if " ".join(f.read_text("utf-8").split()) not in text] == []


def test_the_limits_have_the_terms_of_each_dataset(site: Path) -> None:
    page = read(site / "limits.html")
    for path in (ROOT / "medllm" / "data" / "catalog").glob("*.yaml"):
        assert f"{path.stem} {' '.join(read_spec(path).licence.split())}" in page.text


def test_each_figure_stands_with_its_machine_and_its_script(site: Path) -> None:
    page = read(site / "figures.html")
    links = {found["href"] for tag, found in page.tags if tag == "a" and "href" in found}
    figures = [path.name for path in (ROOT / "docs" / "benchmarks").glob("*.json")]
    listed = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    scripts = set(re.findall(r"`(scripts/benchmarks/\w+\.py)`", listed))

    assert scripts
    assert [name for name in figures if f"benchmarks/{name}" not in links] == []
    assert [script for script in scripts if f"source/{script}.html" not in links] == []
    assert page.text.count("Machine: ") == len(figures)
