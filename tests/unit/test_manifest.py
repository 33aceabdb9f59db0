"""What an artifact's manifest says, and what its identity depends on."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id

from medllm.artifacts.card import render_card
from medllm.artifacts.manifest import (
    NAME,
    Access,
    BaseModelRef,
    Counts,
    DataTerm,
    FileEntry,
    Manifest,
    Parent,
    file_problems,
    identify,
    is_volatile,
    join_terms,
    list_files,
    strictest,
    without_credentials,
    write_atomically,
)
from medllm.errors import ArtifactError

FILES = (FileEntry(path="a.txt", bytes=3, sha256="aa"),)
PARENTS = (Parent(kind="hub", path="org/base", identity="11"),)


def term(dataset: str, access: Access, agreement: str | None = None) -> DataTerm:
    return DataTerm(dataset=dataset, licence="MIT", access=access, agreement=agreement)


def manifest(**changes: Any) -> Manifest:
    known: dict[str, Any] = {
        "kind": "model",
        "format": "safetensors",
        "identity": identify("model", {"r": 8}, PARENTS, FILES),
        "created": "2024-05-01T00:00:00Z",
        "command": "merge",
        "config": {},
        "settings": {"r": 8},
        "parents": PARENTS,
        "files": FILES,
    }
    return Manifest.model_validate_json(
        json.dumps({**known, **changes}, default=lambda model: model.model_dump())
    )


# Identity


def test_identity_depends_on_kind_settings_parents_and_contents() -> None:
    same = identify("model", {"r": 8}, PARENTS, FILES)
    others = [
        identify("adapter", {"r": 8}, PARENTS, FILES),
        identify("model", {"r": 16}, PARENTS, FILES),
        identify("model", {"r": 8}, (PARENTS[0].model_copy(update={"identity": "12"}),), FILES),
        identify("model", {"r": 8}, PARENTS, (FILES[0].model_copy(update={"sha256": "ab"}),)),
        identify("model", {"r": 8}, PARENTS, (FILES[0].model_copy(update={"path": "b.txt"}),)),
        identify("model", {"r": 8}, PARENTS, ()),
    ]

    assert len(same) == 64
    assert len({same, *others}) == 7


def test_identity_does_not_depend_on_where_a_parent_lay_or_how_keys_are_ordered() -> None:
    moved = (PARENTS[0].model_copy(update={"path": "/elsewhere"}),)

    assert identify("model", {"a": 1, "b": 2}, moved, FILES) == identify(
        "model", {"b": 2, "a": 1}, PARENTS, FILES
    )


# Writing and reading


def test_a_manifest_comes_back_as_it_was_and_is_the_owners_alone() -> None:
    written = manifest(counts={"examples": 5, "rejected": {"no answer": 2}}, results={"loss": 1.5})

    written.write(Path())

    assert Manifest.read(Path()) == written
    assert json.loads(Path(NAME).read_text())["schema"] == 1
    assert stat.S_IMODE(Path(NAME).stat().st_mode) == 0o600
    assert [path.name for path in Path().iterdir()] == [NAME]  # no partial file is left


def test_a_folder_without_a_manifest_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"has no medllm\.json"):
        Manifest.read(Path())


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"schema": 1, "kind": "soup"}'])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    Path(NAME).write_text(text)

    with pytest.raises(ArtifactError, match=r"medllm\.json: not a valid manifest"):
        Manifest.read(Path())


def test_writing_replaces_a_file_at_once() -> None:
    Path("a").write_text("old")

    write_atomically(Path("a"), "new")

    assert Path("a").read_text() == "new"


# Files


def test_files_are_listed_with_size_and_digest_but_not_what_changes_by_itself() -> None:
    for name in ("b.txt", "sub/a.txt", "logs/events", "logs/deep/er", "run.log", "README.md", NAME):
        Path("x", name).parent.mkdir(parents=True, exist_ok=True)
        Path("x", name).write_text("abc")

    files = list_files(Path("x"))

    assert [(file.path, file.bytes) for file in files] == [("b.txt", 3), ("sub/a.txt", 3)]
    assert files[0].sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("name", ["sub/README.md", "sub/medllm.json", "sub/logs/a", "my/run.log"])
def test_only_the_top_folders_own_files_change_by_themselves(name: str) -> None:
    assert not is_volatile(Path(name))


def test_each_altered_file_is_named() -> None:
    for name in ("gone", "short", "other", "same"):
        Path(name).write_text("0123456789")
    entries = list_files(Path())
    Path("gone").unlink()
    Path("short").write_text("0123")
    Path("other").write_text("012345678x")

    assert file_problems(Path(), manifest(files=entries)) == [
        "gone is missing",
        "other was altered",
        "short has 4 bytes instead of 10",
    ]


def test_a_file_that_can_have_no_such_name_is_missing() -> None:
    entry = FileEntry(path="a" * 5000, bytes=1, sha256="11")

    assert file_problems(Path(), manifest(files=(entry,))) == [f"{'a' * 200} is missing"]


# Terms


@pytest.mark.parametrize(
    ("classes", "worst"),
    [
        (["open"], "open"),
        (["open", "non-commercial"], "non-commercial"),
        (["credentialed", "non-commercial", "open"], "credentialed"),
        (["credentialed", "private"], "private"),
        ([], None),
    ],
)
def test_the_strictest_term_counts(classes: list[Access], worst: Access | None) -> None:
    assert strictest([term("x", access) for access in classes]) == worst


def test_terms_are_joined_once_each_in_order() -> None:
    pubmedqa, mimic = term("pubmedqa", "open"), term("mimic", "credentialed", "mimic-dua")

    assert join_terms([pubmedqa, mimic], [pubmedqa], []) == (mimic, pubmedqa)


@pytest.mark.parametrize(
    ("access", "answer"),
    [
        ("open", "**May I share it?** As far as the data go, yes, under the licences above"),
        ("non-commercial", "**May I share it?** Only for non-commercial purposes"),
        ("credentialed", "**May I share it?** No: only with people who have signed"),
        ("private", "**May I share it?** No: this contains data of your own"),
    ],
)
def test_the_card_says_whether_it_may_be_shared(access: Access, answer: str) -> None:
    card = render_card(manifest(data_terms=[term("open-one", "open"), term("other", access)]))

    assert answer in card
    assert f"| other | MIT | {access} |" in card


def test_the_card_says_what_it_is_for_and_where_it_came_from() -> None:
    made = manifest(
        base_model=BaseModelRef(id="org/base"),
        counts=Counts(examples=5),
        results={"max_difference": 1.234567e-6, "calibration": {"texts": "16 pubmedqa"}},
    )

    card = render_card(made)

    assert "This is not a medical device" in card
    assert "- hub: `11`" in card
    assert "- max_difference: 1.235e-06" in card
    assert "## Calibration\n\n- texts: 16 pubmedqa" in card
    assert "None recorded. **May I share it?** Not known" in card


HUB, FOLDER = ("hub", "org/base@main"), ("model", "runs/x/merge")
OF = {
    "adapter": ("adapter", "lora", HUB, "peft", "adapter", "lora"),
    "trained": ("model", "safetensors", HUB, "transformers", "finetune", None),
    "merged": ("model", "safetensors", HUB, "transformers", "finetune", None),
    "gptq": ("quantized", "gptq", HUB, "transformers", "quantized", "gptq"),
    "gguf": ("quantized", "gguf", FOLDER, "llama-cpp-python", "finetune", "gguf"),
}
"""Kind, format, parent, and what the hub is to read: library, relation to the base, tag."""
RELATIONS = {"adapter", "finetune", "merge", "quantized"}
"""Of the hub's documentation of model cards."""


def front_of(**fields: Any) -> dict[str, Any]:
    """The front matter of a card, as the hub's own library reads it."""
    card = ModelCard(render_card(manifest(**fields)))
    assert card.content.startswith("---\n") and card.text.startswith("\n# ")
    read: dict[str, Any] = card.data.to_dict()
    assert ModelCardData(**read).to_dict() == read
    return read


@pytest.mark.parametrize("what", OF)
def test_the_hub_reads_what_an_artifact_is(what: str) -> None:
    kind, form, (parent, path), library, relation, tag = OF[what]
    front = front_of(
        kind=kind,
        format=form,
        base_model=BaseModelRef(id="org/base", revision="a" * 40),
        parents=[Parent(kind=parent, path=path, identity="11")],
        data_terms=[term("pubmedqa", "open").model_copy(update={"hub": "qiaojin/PubMedQA"})],
    )

    assert front == {
        "library_name": library,
        "pipeline_tag": "text-generation",
        "license": "other",
        "license_name": "of-base-model-and-data",
        "base_model": "org/base",
        "base_model_relation": relation,
        "datasets": ["qiaojin/PubMedQA"],
        "tags": ["medical", "research-only", "medllm", *([tag] if tag else [])],
    }
    assert front["base_model_relation"] in RELATIONS
    for name in (front["base_model"], *front["datasets"]):
        validate_repo_id(name)


def in_language(dataset: str, *codes: str) -> DataTerm:
    return term(dataset, "open").model_copy(update={"language": codes})


@pytest.mark.parametrize(
    ("terms", "codes", "told"),
    [
        ([], None, "None recorded."),
        ([in_language("a", "en"), in_language("b", "de", "en")], ["de", "en"],
         "| b | MIT | open |  | de, en |\n"),
        ([in_language("a", "en"), in_language("ward")], None,
         "| ward | MIT | open |  | not declared |\n"),
        ],
)  # fmt: skip
def test_a_card_names_the_languages_of_its_data_where_all_are_known(
    terms: list[DataTerm], codes: list[str] | None, told: str
) -> None:
    assert front_of(data_terms=terms).get("language") == codes
    assert told in render_card(manifest(data_terms=terms))


def test_a_term_without_a_language_is_written_as_before_there_were_any() -> None:
    written = term("ward", "private").model_dump(mode="json")

    assert written == {"dataset": "ward", "licence": "MIT", "access": "private", "agreement": None}
    assert join_terms([in_language("ward")], [in_language("ward", "de")]) == (
        in_language("ward", "de"),
    )


@pytest.mark.parametrize("base", ["/home/me/base", "runs/base", "medllm/tiny"])
def test_what_is_not_on_the_hub_is_no_link_in_the_front_matter(base: str) -> None:
    front = front_of(base_model=BaseModelRef(id=base), data_terms=[term("mine", "private")])

    assert not front.keys() & {"base_model", "base_model_relation", "datasets"}


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (BaseModelRef(id="/home/me/models/gemma"), "`gemma`, a folder"),
        (BaseModelRef(id="medllm/tiny"), "`medllm/tiny`, which medllm builds itself"),
        (BaseModelRef(id="org/base", revision="a" * 40), "(https://huggingface.co/org/base)"),
    ],
)
def test_a_card_names_the_base_and_no_place_of_this_machine(base: BaseModelRef, said: str) -> None:
    card = render_card(manifest(base_model=base))

    assert "- Base model: " in card
    assert said in card
    assert "/home/me" not in card


def test_a_model_that_reads_images_says_so() -> None:
    entry = FileEntry(path="preprocessor_config.json", bytes=1, sha256="11")

    assert front_of(files=[entry])["pipeline_tag"] == "image-text-to-text"


@pytest.mark.parametrize(
    ("access", "name"),
    [
        (None, "unknown"),
        ("open", "of-base-model-and-data"),
        ("non-commercial", "non-commercial-data"),
        ("credentialed", "data-use-agreement"),
        ("private", "private-data"),
    ],
)
def test_no_licence_is_claimed(access: Access | None, name: str) -> None:
    front = front_of(data_terms=[term("x", access)] if access else [])

    assert (front["license"], front["license_name"]) == ("other", name)


def test_a_term_without_a_name_on_the_hub_is_written_as_before() -> None:
    """So the seals of artifacts that are there still hold."""
    assert json.loads(term("x", "open").model_dump_json()).keys() == {
        "dataset", "licence", "access", "agreement"
    }  # fmt: skip


# Secrets


def test_credentials_in_urls_are_not_written_down() -> None:
    config = {
        "model": "https://me:secret@host/v1",
        "mirrors": ["s3://key@bucket/x", "https://host/a@b"],
        "deep": {"url": "see https://u:p@h:8080/ and http://v:q@i"},
        "mail": "me@example.org",
        "n": 5,
    }

    assert without_credentials(config) == {
        "model": "https://host/v1",
        "mirrors": ["s3://bucket/x", "https://host/a@b"],
        "deep": {"url": "see https://h:8080/ and http://i"},
        "mail": "me@example.org",
        "n": 5,
    }
