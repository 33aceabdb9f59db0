"""What clinicians correct goes back into training, past a gate, to the next served model."""

import json
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from trainings import small
from typed import Typed

from medllm.artifacts.manifest import Manifest
from medllm.engines.fake import FakeEngine
from medllm.finetune.verb import finetune
from medllm.serve.answering import Around
from medllm.serve.app import build_app
from medllm.serve.callers.callers import Callers
from medllm.serve.config import ServeConfig
from medllm.serve.feedback.store import FeedbackStore
from medllm.serve.metrics import Metrics
from medllm.serve.server import running_server
from medllm.serve.verb import serve_once

KEY = "of an admin"
CORRECTION = "yes, it is"
GATE = "thresholds:\n- {figure: loss, of: difference, max: 0}\n"
STRICT = "thresholds:\n- {figure: loss, max: 0.000001}\n"


def collect(folder: Path) -> str:
    """Forty answers that were corrected, as an admin gets them."""
    metrics = Metrics()
    with closing(FeedbackStore(folder / "feedback")) as store:
        app = build_app(
            FakeEngine(), model_id="old", callers=Callers(KEY), max_tokens=64,
            around=Around(feedback=store, metrics=metrics),
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {KEY}"}
        with running_server(app) as url, httpx.Client(base_url=url, headers=headers) as client:
            for number in range(40):
                messages = [{"role": "user", "content": f"Is {2 * number} an even number?"}]
                answered = client.post("/v1/chat/completions", json={"messages": messages}).json()
                answer = answered["choices"][0]["message"]["content"]
                said = {"response_id": answered["id"], "helpfulness": 2, "messages": messages,
                        "answer": answer, "correction": CORRECTION}  # fmt: skip
                assert client.post("/feedback", json=said).is_success
            exported = client.get("/feedback").text
    marks = metrics.registry.get_sample_value("medllm_feedback_total", {"helpfulness": "2"})
    assert marks == 40
    return exported


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_feedback_is_prepared_trained_on_held_against_a_gate_and_served(
    tiny_model: Path, typed: Typed, tmp_path: Path
) -> None:
    Path("feedback.jsonl").write_text(collect(tmp_path))
    Path("gate.yaml").write_text(GATE)
    Path("strict.yaml").write_text(STRICT)

    prepared = typed(
        "prepare", "--dataset", "feedback.jsonl", "--output", "data",
        "--set", "prepare.split={validation: 0.2, test: 0.2}",
    )  # fmt: skip
    assert prepared.returncode == 0, prepared.stderr
    finetune(small(tiny_model, Path("data"), Path("tuned"), num_train_epochs=4))
    held = ("evaluate", "--model", tiny_model, "--model", "tuned", "--tasks", "answers",
            "--data", "data", "--output", "scored")  # fmt: skip
    passed, failed = typed(*held, "--gate", "gate.yaml"), typed(*held, "--gate", "strict.yaml")
    answer = serve_once(ServeConfig(model="tuned", max_tokens=4, no_auth=True))

    rows = Path("data/train.jsonl").read_text().splitlines()
    assert {json.loads(row)["completion"] for row in rows} == {CORRECTION}
    (terms,) = Manifest.read(Path("data")).data_terms
    assert terms.access == "private"  # and so is whatever is trained on it
    assert [each.access for each in Manifest.read(Path("tuned")).data_terms] == ["private"]
    assert passed.returncode == 0, passed.stderr
    assert failed.returncode == 6, failed.stderr
    assert isinstance(answer, str)
