"""A model named by its hub id, from a cache laid out as the hub's own library leaves it."""

import json
import shutil
from pathlib import Path

import pytest

from medllm.errors import ArtifactError
from medllm.models.adapter import base_of
from medllm.models.load import load_causal_lm, load_tokenizer, resolve_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repository = tmp_path / "hub" / "models--org--tiny"
    shutil.copytree(tiny_model, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_hub_id_is_its_snapshot_and_named_by_its_commit(hub_cache: Path) -> None:
    model = resolve_model("org/tiny")

    assert model.path == hub_cache / "models--org--tiny" / "snapshots" / COMMIT
    assert (model.base.id, model.base.revision) == ("org/tiny", COMMIT)
    assert (model.parent.kind, model.parent.path) == ("hub", "org/tiny")
    assert load_tokenizer(model.location).bos_token == "<s>"
    assert load_causal_lm(model.location).config.hidden_size == 256


def test_a_hub_id_that_is_not_here_is_an_error_when_offline(hub_cache: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        resolve_model("org/other")

    assert caught.value.message.startswith("model: org/other is no folder here")
    assert "offline" in caught.value.message


def test_a_hub_model_can_be_pinned(hub_cache: Path) -> None:
    repository = hub_cache / "models--org--tiny"
    older = "f" * 40
    shutil.copytree(repository / "snapshots" / COMMIT, repository / "snapshots" / older)
    (repository / "refs" / "v1").write_text(older)

    newest, tagged = resolve_model("org/tiny"), resolve_model("org/tiny@v1")

    assert tagged.path.name == older
    assert (tagged.base.id, tagged.base.revision) == ("org/tiny", older)
    assert resolve_model(f"org/tiny@{older}").parent.identity == tagged.parent.identity
    assert resolve_model(f"org/tiny@{COMMIT}").parent.identity == newest.parent.identity
    with pytest.raises(ArtifactError, match="org/tiny@v2 is no folder here"):
        resolve_model("org/tiny@v2")


def test_an_adapter_belongs_to_the_revision_that_it_names(hub_cache: Path, tmp_path: Path) -> None:
    repository = hub_cache / "models--org--tiny"
    older = "f" * 40
    shutil.copytree(repository / "snapshots" / COMMIT, repository / "snapshots" / older)
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": "org/tiny", "revision": older}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    adapter = resolve_model(str(folder))

    assert base_of(adapter).base.revision == older
    assert base_of(adapter, "org/tiny").base.revision == COMMIT, "the one that is named"
