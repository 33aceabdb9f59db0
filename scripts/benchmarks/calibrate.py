"""Sampling before tokenizing, against tokenizing everything: 512 texts out of 200,000 documents.

    python scripts/benchmarks/calibrate.py MODEL [DOCUMENTS]

The peer is the loop of a well-known calibration guide: it tokenizes every document, one at a time,
keeps those between 256 and 4,096 tokens, and draws from them. Both run in processes of their own,
imports included, on the same file; the documents are generated, about 430 words each. The peer is
timed on as many documents as PEER_DOCUMENTS says and its loop, not its start, is scaled up.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

import measure

from medllm.data.generators.radiology import build_example

DOCUMENTS = 200_000
PEER_DOCUMENTS = 20_000
SAMPLES = 512
REPORTS_A_DOCUMENT = 8

PEER = """
import json, random, sys, time
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
began = time.perf_counter()
kept = []
for number, line in enumerate(open(sys.argv[1], encoding="utf-8")):
    if number == int(sys.argv[3]):
        break
    sample = json.loads(line)
    length = tokenizer(sample["text"], return_tensors="pt").input_ids.shape[1]
    if 256 <= length <= 4096:
        kept.append(sample)
random.seed(42)
drawn = random.sample(kept, min(512, len(kept)))
with open(sys.argv[4], "w") as file:
    for sample in drawn:
        file.write(json.dumps(sample) + "\\n")
print(time.perf_counter() - began)
"""


def main() -> None:
    """Measure both, print a table, write the JSON."""
    model = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else DOCUMENTS
    with tempfile.TemporaryDirectory() as room:
        corpus = Path(room) / "documents" / "documents.jsonl"
        corpus.parent.mkdir()
        declared = "title: Generated documents\nshape: local\nlicence: Apache-2.0\naccess: open\n"
        corpus.with_name("dataset.yaml").write_text(declared, encoding="utf-8")
        write_documents(corpus, count)
        ours = [measure.run(our_command(room, corpus, model, n)) for n in range(3)]
        peer_count = min(PEER_DOCUMENTS, count)
        whole = measure.run(peer_command(room, corpus, model, peer_count))
        start = measure.run(peer_command(room, corpus, model, 1))
        mib = corpus.stat().st_size / 2**20
    loop = (whole.seconds - start.seconds) * count / peer_count
    seconds = measure.median_seconds(ours)
    results = {
        "documents": count,
        "corpus_mib": round(mib),
        "samples": SAMPLES,
        "medllm": {"seconds": round(seconds, 1), "peak_mib": round(ours[0].peak_mib)},
        "peer": {
            "what": "tokenize every document, one at a time (calibration guide)",
            "seconds": round(start.seconds + loop, 1),
            "measured_documents": peer_count,
            "measured_seconds": round(whole.seconds, 1),
            "start_seconds": round(start.seconds, 1),
        },
        "ratio": round((start.seconds + loop) / seconds, 1),
        "exit_codes": [run.exit_code for run in (*ours, whole, start)],
    }
    print(json.dumps(results, indent=1))
    measure.write("calibrate", results)


def write_documents(path: Path, count: int) -> None:
    """Documents of eight generated reports, drawn from 4,000 so that writing them is quick."""
    reports = [build_example(7, 2 * number).text for number in range(4000)]
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = "\n\n".join(rng.sample(reports, REPORTS_A_DOCUMENT))
            file.write(json.dumps({"id": number, "text": text}) + "\n")


def our_command(room: str, corpus: Path, model: str, number: int) -> list[str]:
    """`medllm calibrate` on the corpus as a mix of one dataset."""
    mix = "calibrate.mix={shares: {documents: 1}}"
    return [
        *(sys.executable, "-m", "medllm", "--offline", "calibrate", "--set", mix),
        *("--samples", str(SAMPLES), "--tokenizer", model),
        *("--data-dir", room, "--output", f"{room}/ours-{number}"),
    ]


def peer_command(room: str, corpus: Path, model: str, count: int) -> list[str]:
    """The guide's loop over the first `count` documents."""
    return [sys.executable, "-c", PEER, str(corpus), model, str(count), f"{room}/peer.jsonl"]


if __name__ == "__main__":
    main()
