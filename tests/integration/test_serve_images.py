"""Images in chats: read by a model of this process, in no log, and refused where they cannot be."""

import json
from base64 import b64encode
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from PIL import Image
from seeing import PATCHES, write_image_rows, write_seeing

from medllm.artifacts.serving import ServerSettings
from medllm.clinical.settings import ReviewSettings
from medllm.data.example import Message, read_jsonl
from medllm.engines.base import Answers, Generates
from medllm.engines.open import open_seeing
from medllm.engines.prompts import ask_messages
from medllm.engines.sampling import Sampling
from medllm.models.load import resolve_model
from medllm.serve.answering import Around
from medllm.serve.app import build_app
from medllm.serve.audit.record import open_log
from medllm.serve.callers.callers import Callers
from medllm.serve.guard import Guard
from medllm.serve.model.choice import open_for_serving
from medllm.serve.server import running_server


@pytest.fixture(scope="module")
def seeing(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seeing(tiny_model, tmp_path_factory.mktemp("models") / "gemma")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_rows(tmp_path_factory.mktemp("data"))


def url_of(image: bytes, kind: str = "png") -> dict[str, Any]:
    url = f"data:image/{kind};base64,{b64encode(image).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def test_a_chat_about_an_image_is_served(
    seeing: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = (data / "1.png").read_bytes()
    engine = open_for_serving(
        resolve_model(str(seeing)), "transformers", None, "float32", ServerSettings()
    )
    words = {"type": "text", "text": "Is it bright or dark?"}
    turn = {"role": "user", "content": [words, url_of(image)]}
    log = open_log(tmp_path / "log", "m")
    around = Around(audit=log, guard=Guard(ReviewSettings()))
    app = build_app(
        cast(Answers, engine), model_id="m", callers=Callers(), max_tokens=6, around=around
    )
    with running_server(app) as url, httpx.Client(base_url=url, timeout=60) as client:

        def ask(*turns: Any, **more: Any) -> httpx.Response:
            body = {"messages": turns or [turn], **more}
            return client.post("/v1/chat/completions", json=body)

        told, streamed = ask().json(), ask(stream=True).text
        plain = ask({"role": "user", "content": "Hello"}, logprobs=True).json()
        again = ask(
            turn, {"role": "assistant", "content": "It is."}, {"role": "user", "content": "Sure?"}
        )
        deep = BytesIO()
        Image.new("I;16", (4, 4)).save(deep, "png")
        refused = {
            "tools": ask(tools=[{"type": "function", "function": {"name": "f"}}]),
            "temperature": ask(temperature=1),
            "repetition_penalty": ask(repetition_penalty=1.2),
            "logprobs": ask(logprobs=True),
            "later": ask({"role": "user", "content": "Hi"}, turn),
            "16 bits": ask({"role": "user", "content": [words, url_of(deep.getvalue())]}),
            "broken": ask({"role": "user", "content": [words, url_of(image[:40])]}),
            "no room": ask(
                {
                    "role": "user",
                    "content": [words, *[url_of(image)] * 8, words | {"text": "a " * 500}],
                }
            ),
        }
    log.close()

    with closing(cast(Generates, open_seeing(resolve_model(str(seeing)), dtype="float32"))) as own:
        asked = ask_messages(
            own, [Message("user", words["text"])], Sampling(max_tokens=6), [data / "1.png"]
        )
        (expected,) = own.generate(asked)
    (choice,) = told["choices"]
    assert choice["message"]["content"] == expected.text
    assert (
        told["usage"]["prompt_tokens"] > PATCHES
        and told["usage"]["completion_tokens"] == expected.tokens
    )
    events = [json.loads(line[6:]) for line in streamed.split("\n\n") if line.startswith("data: {")]
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events) == expected.text
    assert "image: what images show is not reviewed" in told["safety_report"]["not_checked"]
    assert "image: what images show is not reviewed" not in plain["safety_report"]["not_checked"]
    assert plain["choices"][0]["logprobs"] and again.status_code == 200
    statuses = {name: response.status_code for name, response in refused.items()}
    assert set(statuses.values()) == {400}, statuses
    messages = {name: response.json()["error"]["message"] for name, response in refused.items()}
    assert "more than 8 bits" in messages["16 bits"] and "first message alone" in messages["later"]
    assert "greedy" in messages["temperature"] and "greedy" in messages["repetition_penalty"]
    assert "cannot be read" in messages["broken"] and "tokens" in messages["no room"]
    lines = [line for path in (tmp_path / "log").glob("*.jsonl") for line in read_jsonl(path)]
    answered = [line for line in lines if line["event"] == "answer"]
    assert [line.get("images") for line in answered] == [[log.digest(image)]] * 2 + [None] + [
        [log.digest(image)]
    ]
    logged = "".join(path.read_text() for path in (tmp_path / "log").glob("*.jsonl"))
    logged += "".join(capfd.readouterr())
    assert b64encode(image).decode()[:40] not in logged
