"""How fast `medllm serve` answers, beside the llama-server that it stands before.

    python scripts/benchmarks/serve.py --model model.gguf [--peer PYTHON] [--rounds 5]

Both serve the same GGUF file with the same llama.cpp, slots and threads, and are asked by turns, so
that they meet the same machine. `--peer` names a Python with `llama-cpp-python[server]`, whose
server is asked in the same turns. Greedy decoding, prompts of a sentence; the load generator runs
on the same processors. Writes `docs/benchmarks/serve-<name>.json`.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import measure

from medllm.engines.llama_cpp_setup import find_llama_server
from medllm.serve.server import bound_socket

KEY = "benchmark"
N_CTX, SLOTS = 2048, 8
CONCURRENT = (1, 4, 8)
OTHERS = 3
PAIRS = 30
"""Single answers of each arm in a round."""
PAUSE_S = 0.2
"""After which a person asks again: what spins between two answers is asleep by then."""
NOTE = "The patient reports a cough and a fever of two days; the lungs are clear on both sides. "


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--name", default="tiny-med")
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    rounds = 1 if asked.smoke else asked.rounds
    commands = arms(asked.model, asked.peer)
    with ExitStack() as stack:
        urls = {arm: stack.enter_context(running(arm, *commands[arm])) for arm in commands}
        results = asyncio.run(measure_all(urls, rounds, asked.tokens))
    table(results)
    about = {"model": asked.name, "tokens": asked.tokens, "slots": SLOTS, "rounds": rounds,
             "load": os.getloadavg()[0]}  # fmt: skip
    measure.write(f"serve-{asked.name}", {**about, "arms": results}, smoke=asked.smoke)


def arms(model: Path, peer: Path | None) -> dict[str, tuple[int, list[str], dict[str, str | None]]]:
    """The port, command and environment of each server; None is a variable that it has not."""
    server, _ = find_llama_server()
    threads = str(len(os.sched_getaffinity(0)))
    ports = [free_port() for _ in range(3)]
    as_made = dict.fromkeys(("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"))  # set by importing medllm
    found: dict[str, tuple[int, list[str], dict[str, str | None]]] = {
        "llama-server": (
            ports[0],
            [str(server), "-m", str(model), "-c", str(N_CTX * SLOTS), "-np", str(SLOTS),
             "--no-kv-unified", "-t", threads, "--port", str(ports[0]), "--api-key", KEY,
             "--no-ui", "--offline"],
            as_made,
        ),
        "medllm": (
            ports[1],
            [sys.executable, "-m", "medllm", "serve", "--model", str(model), "--engine",
             "llama_server", "--n-ctx", str(N_CTX), "--parallel", str(SLOTS),
             "--port", str(ports[1])],
            {"MEDLLM_API_KEY": KEY},
        ),
    }  # fmt: skip
    if peer:
        found["llama_cpp.server"] = (
            ports[2],
            [str(peer), "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", str(N_CTX),
             "--n_threads", threads, "--port", str(ports[2]), "--interrupt_requests", "false"],
            as_made,
        )  # fmt: skip
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with bound_socket("127.0.0.1", 0) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def running(
    arm: str, port: int, command: Sequence[str], environ: Mapping[str, str | None]
) -> Iterator[str]:
    """Run a server meanwhile; yields its address once it takes requests."""
    known = {name: value for name, value in {**os.environ, **environ}.items() if value is not None}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=known
    )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                if httpx.get(f"{url}/v1/models", headers=headers()).is_success:
                    break
            except httpx.HTTPError:
                pass
            if process.poll() is not None:
                sys.exit(f"{arm} ended at its start: {' '.join(command)}")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def headers() -> dict[str, str]:
    """The key, which all servers ask for."""
    return {"Authorization": f"Bearer {KEY}"}


async def measure_all(urls: Mapping[str, str], rounds: int, tokens: int) -> dict[str, Any]:
    """Each figure of each arm, the median of the rounds, which the arms take by turns."""
    found: dict[str, dict[str, list[float]]] = {arm: {} for arm in urls}
    for number in range(rounds + 1):
        for arm, url in urls.items():
            async with httpx.AsyncClient(base_url=url, headers=headers(), timeout=300) as client:
                model = (await client.get("/v1/models")).json()["data"][0]["id"]
                figures = await one_round(Asking(client, model, tokens, number))
            if number:  # the first one warms up
                for name, value in figures.items():
                    found[arm].setdefault(name, []).append(value)
                print(f"{arm}: round {number} of {rounds}", file=sys.stderr)
        if number:
            for pause_s in (0.0, PAUSE_S):
                await add_pairs(urls, tokens, number, found, pause_s)
    return {arm: summary(figures) for arm, figures in found.items()}


async def add_pairs(
    urls: Mapping[str, str],
    tokens: int,
    number: int,
    found: dict[str, dict[str, list[float]]],
    pause_s: float,
) -> None:
    """Single answers of 16 tokens, one of each arm after the other, beside the first arm's."""
    when = " after a pause" if pause_s else ""
    async with AsyncExitStack() as stack:
        asking = {}
        for arm, url in urls.items():
            client = httpx.AsyncClient(base_url=url, headers=headers(), timeout=300)
            await stack.enter_async_context(client)
            model = (await client.get("/v1/models")).json()["data"][0]["id"]
            asking[arm] = Asking(client, model, tokens, number)
        for pair in range(PAIRS):
            took = {}
            for arm, one in asking.items():
                await asyncio.sleep(pause_s)
                began = time.perf_counter()
                await one.whole(f"{NOTE}Pair {number}.{pair}{when}: ", 16)
                took[arm] = time.perf_counter() - began
            bare = next(iter(took.values()))
            for arm, seconds in took.items():
                found[arm].setdefault(f"seconds of 16 tokens{when}", []).append(seconds)
                more = found[arm].setdefault(f"seconds more than the first{when}", [])
                more.append(seconds - bare)


def summary(figures: Mapping[str, list[float]]) -> dict[str, Any]:
    """Median, and all rounds beside it."""
    return {
        name: {
            "median": round(statistics.median(values), 5),
            "rounds": [round(v, 5) for v in values],
        }
        for name, values in figures.items()
    }


class Asking:
    """Asks one server."""

    def __init__(self, client: httpx.AsyncClient, model: str, tokens: int, number: int) -> None:
        self.client, self.model, self.tokens, self.number = client, model, tokens, number

    def body(self, prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
        """A request of greedy decoding."""
        asked = {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
        return asked | more

    async def whole(self, prompt: str, tokens: int) -> int:
        """Ask for a whole answer; gives its tokens."""
        response = await self.client.post("/v1/completions", json=self.body(prompt, tokens))
        response.raise_for_status()
        return int(response.json()["usage"]["completion_tokens"])

    async def chunks(self, prompt: str, tokens: int) -> AsyncIterator[float]:
        """When each piece of a streamed answer came."""
        body = self.body(prompt, tokens, stream=True)
        async with self.client.stream("POST", "/v1/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    yield time.perf_counter()


async def one_round(asking: Asking) -> dict[str, float]:
    """Throughput, the time of one answer, the first token, and a second turn on a long note."""
    found: dict[str, float] = {}
    for several in CONCURRENT:
        prompts = [f"{NOTE}Case {asking.number}.{several}.{n}: " for n in range(several)]
        began = time.perf_counter()
        written = sum(await asyncio.gather(*(asking.whole(p, asking.tokens) for p in prompts)))
        seconds = time.perf_counter() - began
        found[f"tokens per second, {several} at once"] = written / seconds
    found |= await first_tokens(asking)
    note = f"Round {asking.number}. " + NOTE * 50  # new from its first word: nothing is known of it
    for turn in ("first", "second"):
        began = time.perf_counter()
        await asking.whole(note, 4)
        found[f"seconds of a {turn} turn on a long note"] = time.perf_counter() - began
        note += "Summary: cough. Again: "
    return found


async def first_tokens(asking: Asking) -> dict[str, float]:
    """The first token and the time between tokens, alone and beside three long answers."""

    async def times(label: str) -> list[float]:
        began = time.perf_counter()
        return [at - began async for at in asking.chunks(f"{NOTE}{label} {asking.number}: ", 32)]

    alone = await times("Alone")
    long = [asyncio.create_task(asking.whole(f"{NOTE}Long {asking.number}.{n}: ", asking.tokens))
            for n in range(OTHERS)]  # fmt: skip
    await asyncio.sleep(0.3)  # they are being written by then
    beside = await times("Beside")
    await asyncio.gather(*long)
    gaps = [b - a for a, b in zip(alone, alone[1:], strict=False)]
    return {
        "seconds to the first token": alone[0],
        "seconds to the first token beside three answers": beside[0],
        "seconds between tokens": statistics.median(gaps),
    }


def table(results: Mapping[str, Any]) -> None:
    """Print the medians."""
    names = list(next(iter(results.values())))
    print(f"{'':52}" + "".join(f"{arm:>18}" for arm in results))
    for name in names:
        print(f"{name:52}" + "".join(f"{r[name]['median']:18.4g}" for r in results.values()))


if __name__ == "__main__":
    main()
