"""The examples of docs/python.md, run as a notebook runs its cells."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import interrupted_once_served

import medllm
from medllm.artifacts.verify import verify_artifact
from medllm.recipe import ROAD

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
MADE = ("calibrate", "prepare", "finetune", "merge", "quantize/bnb-nf4", "evaluate", "generate")

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore::DeprecationWarning:triton"
)


def test_the_examples_of_the_page_run(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cells = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    served: list[int] = []

    def ask(url: str, printed: str) -> None:
        (key,) = re.findall(r"MEDLLM_API_KEY=(\S+)", printed)
        answer = httpx.get(f"{url}/models", headers={"Authorization": f"Bearer {key}"})
        served.append(answer.status_code)

    async def run_cells() -> None:  # a notebook runs an event loop
        for cell in cells:
            if "serve(" in cell:
                with pytest.raises(KeyboardInterrupt), interrupted_once_served(capfd, ask):
                    exec(cell, names)
            else:
                exec(cell, names)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(run_cells())  # asyncio.run would take the interrupt to itself
    loop.close()

    assert [verb for verb in ROAD if names.get(verb) is not getattr(medllm, verb)] == []
    for name in MADE:
        verify_artifact(Path("work") / name)
    assert served == [200]
    assert names["adapter"].results["steps"] == 2
    assert {row["items"] for row in names["scores"].results["scores"]} == {4}
