"""A soak of `medllm serve`: thousands of requests with faults, and what must hold all the same.

    python scripts/soak.py --model model.gguf [--requests 10000] [--at-once 12] [--out soak.json]

Whole and streamed answers, slow clients, cut connections, bodies that are too long or malformed,
wrong keys; the engine is killed three times, and at the end the server itself while it answers, by
SIGKILL; it is started once more. After it: each answer that a client got has its line
in the audit log, with the digests of what this client asked and got; nobody got another one's
answer; the log is whole; no text stands in it or in what the server printed; memory and open files
have not grown. Prints a table, writes JSON, and ends with 1 where something did not hold. Needs
Linux and llama-server.
"""

import argparse
import asyncio
import hmac
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from soak_clients import CALLERS, QUESTIONS, Soak, ask_all, learn, streamed, whole

from medllm.serve.audit.chain import day_files, read_head
from medllm.serve.audit.verify import verify_log
from medllm.serve.callers.keys import Caller, KeyRing
from medllm.serve.server import bound_socket

JUDGED_FROM = 2000
"""Requests, from which on growth of memory says something."""
MOST_GROWTH_MIB = 16.0
MOST_GROWTH_FILES = 16


def engine_of(server: int) -> int:
    """The llama-server that is a child of the server; 0 while there is none."""
    for folder in Path(f"/proc/{server}/task").iterdir():
        with suppress(OSError):
            for child in (folder / "children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text().startswith("llama-server"):
                    return int(child)
    return 0


def take_sample(pid: int) -> dict[str, float]:
    """Memory (resident, MiB), open files and threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"mib": int(values["VmRSS"].split()[0]) / 1024, "files": files,
            "threads": int(values["Threads"])}  # fmt: skip


async def watch(pid: int, samples: list[dict[str, float]]) -> None:
    """Take a sample of server and engine each half second, until it is cancelled."""
    while True:
        samples.append(take_sample(pid))
        with suppress(OSError):  # an engine that was killed just now
            samples[-1]["engine mib"] = take_sample(engine_of(pid))["mib"]
        await asyncio.sleep(0.5)


def check_log(folder: Path, head: Path, key: bytes, soak: Soak) -> dict[str, Any]:
    """What the audit log says of the answers that clients got."""
    checked = verify_log(folder, read_head(head))
    lines = [json.loads(each) for path in day_files(folder) for each in path.open("rb")]
    by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if "id" in line:
            by_id[line["id"]].append(line)
    prompts: dict[str, set[str]] = defaultdict(set)
    faults = Counter[str]()
    for got in soak.got:
        found = by_id[got.id]
        if len(found) != 1:
            faults[f"an answer with {len(found)} lines"] += 1
            continue
        (line,) = found
        prompts[got.question].add(line["prompt"])
        faults["a line of another caller"] += line["caller"] != got.caller
        if got.is_whole:
            digest = hmac.new(key, got.text.encode("utf-8", "replace"), "sha256").hexdigest()
            faults["a line with another answer"] += line.get("answer") != digest
    faults["a question with several digests"] += sum(len(each) > 1 for each in prompts.values())
    digests = [digest for each in prompts.values() for digest in each]
    faults["two questions with one digest"] += len(digests) - len(set(digests))
    return {
        "lines": checked.lines, "faults of the chain": checked.faults,
        "head checked": checked.head_checked, "faults": {k: v for k, v in faults.items() if v},
        "events": dict(Counter(line["event"] for line in lines)),
        "answers that clients got": len(soak.got),
    }  # fmt: skip


def grown(samples: list[dict[str, float]], what: str) -> dict[str, float]:
    """The median in the second quarter of the time and in the last one."""
    quarter = len(samples) // 4 or 1
    early = statistics.median(each[what] for each in samples[quarter : 2 * quarter] or samples)
    late = statistics.median(each[what] for each in samples[-quarter:])
    return {"early": round(early, 1), "late": round(late, 1), "growth": round(late - early, 1)}


@contextmanager
def served(model: Path, state: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """The server meanwhile; what it prints goes to `server.log` in the state folder."""
    command = [
        sys.executable, "-m", "medllm", "serve", "--model", str(model), "--engine", "llama_server",
        "--n-ctx", "2048", "--port", str(port), "--audit", str(state / "audit" / "soak"),
        "--set", "serve.max_waiting=8",
    ]  # fmt: skip
    with (state / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "MEDLLM_CONFIG_DIR": str(state)}
        )
    try:
        for _ in range(1200):
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/ready").is_success:
                    break
            if process.poll() is not None:
                sys.exit(f"the server ended at its start:\n{(state / 'server.log').read_text()}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


def give_keys(state: Path) -> dict[str, str]:
    """A key for each caller."""
    ring = KeyRing(state / "keys.json")
    return {name: ring.add(Caller(name=name)) for name in CALLERS}


async def soak_server(asked: argparse.Namespace, port: int, pid: int, keys: dict[str, str]) -> Any:
    """All requests; gives what the clients saw, and samples of the server."""
    url = f"http://127.0.0.1:{port}"
    samples: list[dict[str, float]] = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        headers = {"Authorization": f"Bearer {keys[CALLERS[0]]}"}
        models = (await client.get("/v1/models", headers=headers)).json()
        name = models["data"][0]["id"]
        soak = Soak(url, port, keys, name, asked.tokens, client)
        await learn(soak)
        watching = asyncio.create_task(watch(pid, samples))
        began = time.monotonic()
        await ask_all(soak, asked.requests, asked.at_once, lambda: engine_of(pid))
        seconds = time.monotonic() - began
        watching.cancel()
        await asyncio.sleep(1)
        samples.append(take_sample(pid))
        await kill_server(soak, pid)
    return soak, samples, seconds


async def kill_server(soak: Soak, pid: int) -> None:
    """End the server in the middle of answers, as the kernel does where memory runs out."""
    asking = [
        asyncio.create_task(way(soak, kind, question, caller))
        for (way, kind) in ((whole, "chat"), (streamed, "stream"))
        for question in QUESTIONS
        for caller in CALLERS
    ]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    os.kill(pid, signal.SIGKILL)
    for ended in await asyncio.gather(*asking, return_exceptions=True):
        soak.outcomes["as the server was killed"][
            "whole" if ended is None else type(ended).__name__
        ] += 1


def judge(soak: Soak, samples: list[dict[str, float]], log: dict[str, Any], said: str) -> list[str]:
    """What did not hold."""
    requests = sum(sum(each.values()) for each in soak.outcomes.values())
    memory, files = grown(samples, "mib"), samples[-1]["files"] - samples[0]["files"]
    failed = list(soak.strange)
    failed += [f"the audit log: {name} ({count})" for name, count in log["faults"].items()]
    failed += [f"the audit log: {fault}" for fault in log["faults of the chain"]]
    if requests >= JUDGED_FROM and memory["growth"] > MOST_GROWTH_MIB:
        failed.append(f"memory grew by {memory['growth']} MiB")
    if files > MOST_GROWTH_FILES:
        failed.append(f"{files:.0f} more open files at the end")
    if "Traceback" in said or "an answer failed" in said or "Exception in ASGI" in said:
        failed.append("the server told of a bug, see its log")
    return failed


def table(soak: Soak, told: dict[str, Any]) -> None:
    """Print what came of it."""
    for kind, outcomes in sorted(soak.outcomes.items()):
        shown = ", ".join(f"{count} {what}" for what, count in outcomes.most_common())
        print(f"{kind:26} {sum(outcomes.values()):6}  {shown}")
    for name in ("seconds", "engine was killed", "engine, MiB", "memory", "open files", "audit"):
        print(f"{name:26} {told[name]}")
    for each in told["did not hold"][:20]:
        print(f"DID NOT HOLD: {each}")
    print("all of it held" if not told["did not hold"] else "not all of it held")


def main() -> None:
    """Serve, ask, check, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a .gguf file")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    random.seed(asked.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        state = Path(folder)
        with bound_socket("127.0.0.1", 0) as sock:
            port = int(sock.getsockname()[1])
        with served(asked.model, state, port) as server:
            keys = give_keys(state)
            soak, samples, seconds = asyncio.run(soak_server(asked, port, server.pid, keys))
        with served(asked.model, state, port):
            pass  # it goes on with the log that the killed one left
        (head,) = (state / "audit" / "heads").iterdir()
        log = check_log(state / "audit" / "soak", head, (state / "digest.key").read_bytes(), soak)
        said = (state / "server.log").read_text()
        written = [path.read_text() for path in day_files(state / "audit" / "soak")]
        texts = {text for text in (*QUESTIONS, *soak.expected.values()) if len(text) > 12}
        soak.strange += [f"a text in a log: {t!r}" for t in texts if t in said + "".join(written)]
    told = {
        "requests": asked.requests, "at once": asked.at_once, "tokens": asked.tokens,
        "machine": {"processor": platform.processor() or platform.machine(),
                    "cores": os.cpu_count(), "python": platform.python_version(),
                    "system": platform.system()},
        "seconds": round(seconds, 1),
        "engine was killed": said.count("it is started again"), "memory": grown(samples, "mib"),
        "open files": grown(samples, "files"), "threads": grown(samples, "threads"),
        "audit": log,
        "outcomes": {kind: dict(each) for kind, each in sorted(soak.outcomes.items())},
        "did not hold": judge(soak, samples, log, said),
        "engine, MiB": max(each.get("engine mib", 0) for each in samples),
    }  # fmt: skip
    table(soak, told)
    if told["did not hold"]:
        print(said[-4000:], file=sys.stderr)
    if asked.out:
        asked.out.write_text(json.dumps(told, indent=2) + "\n")
    sys.exit(1 if told["did not hold"] else 0)


if __name__ == "__main__":
    main()
