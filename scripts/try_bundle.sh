#!/usr/bin/env bash
# Tries a bundle of scripts/bundle.sh without a network: installs it into a temporary folder, serves its model and asks
# it a question, in a network namespace that has nothing but its own loopback (needs unshare of util-linux, and ip).
#
#   scripts/try_bundle.sh bundle
set -euo pipefail
if [ $# -ne 1 ]; then sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2 && exit 2; fi
if [ "${INSIDE:-}" != yes ]; then
  exec env -i INSIDE=yes PATH="$PATH" PYTHON="${PYTHON:-python3}" unshare --map-root-user --net "$0" "$1"
fi

bundle=$(cd "$1" && pwd)
room=$(mktemp -d -t medllm-try.XXXXXX)
server=''
finish() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; fi
  rm -rf "$room"
}
trap finish EXIT
export HOME=$room/home MEDLLM_CONFIG_DIR=$room/state MEDLLM_CACHE_DIR=$room/medllm/cache MEDLLM_API_KEY=try
ip link set lo up
if timeout 5 "$PYTHON" -c 'import socket; socket.create_connection(("192.0.2.1", 80), 3)' 2>/dev/null; then
  echo "error: there is a network here" >&2
  exit 1
fi

began=$SECONDS
"$bundle/install.sh" "$room/medllm" "$room/srv"
echo "installed in $((SECONDS - began)) s, $(du -sh "$room/medllm" | cut -f1)"
model=$(echo "$room"/srv/models/*)
"$room/medllm/bin/medllm" serve --model "$model" --port 8080 >"$room/said" 2>&1 &
server=$!
for _ in $(seq 120); do
  if grep -q "Ctrl-C stops" "$room/said"; then break; fi
  kill -0 "$server" || { cat "$room/said" >&2 && exit 1; }
  sleep 1
done
grep serving "$room/said"
"$room/medllm/bin/python" - <<'PYTHON'
import httpx

headers = {"Authorization": "Bearer try"}
body = {"messages": [{"role": "user", "content": "What is a fever?"}], "max_tokens": 8}
answer = httpx.post("http://127.0.0.1:8080/v1/chat/completions", json=body, headers=headers, timeout=120)
answer.raise_for_status()
print("answered:", answer.json()["usage"])
PYTHON
kill "$server" && wait "$server" || true
server=''
"$room/medllm/bin/medllm" audit verify "$(dirname "$(find "$MEDLLM_CONFIG_DIR/audit" -name '*.jsonl')")"
