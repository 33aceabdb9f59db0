"""What an adapter calls its base, for programs that know no manifest of medllm's."""

import json
from pathlib import Path

from medllm.artifacts.manifest import BaseModelRef, Parent
from medllm.finetune.base_name import base_name, write_base_name
from medllm.models.load import TINY, ModelRef

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def model(ref: str, path: Path, base: BaseModelRef | None = None) -> ModelRef:
    parent = Parent(kind="hub" if base else "model", path=ref, identity="0")
    return ModelRef(ref, path, None, parent, base or BaseModelRef(id=ref))


def test_a_model_of_the_hub_is_called_by_its_id(tmp_path: Path) -> None:
    base = BaseModelRef(id="google/gemma-3-270m", revision=COMMIT)
    assert base_name(model("google/gemma-3-270m", tmp_path, base)) == (base.id, COMMIT)

    kept = tmp_path / "models--google--gemma-3-270m/snapshots" / COMMIT
    assert base_name(model(str(kept), kept)) == (base.id, COMMIT), "by a path into its cache"


def test_a_folder_is_called_by_the_way_from_the_working_folder(own_places: Path) -> None:
    inside, outside = own_places / "models/gemma", own_places.parent / "gemma"

    assert base_name(model("models/gemma", Path("models/gemma"))) == ("./models/gemma", None)
    assert base_name(model(str(inside), inside)) == ("./models/gemma", None)
    assert base_name(model(str(outside), outside)) == (str(outside), None)


def test_the_built_in_model_has_no_address(tmp_path: Path) -> None:
    assert base_name(model(TINY, tmp_path / "cache/tiny")) == (None, None)


def test_the_name_stands_where_peft_reads_it(own_places: Path) -> None:
    path = own_places / "adapter_config.json"
    path.write_text(json.dumps({"r": 8, "base_model_name_or_path": "/home/me/base"}))

    write_base_name(own_places, model("base", own_places / "base"))

    settings = json.loads(path.read_text())
    assert settings == {"base_model_name_or_path": "./base", "r": 8, "revision": None}
