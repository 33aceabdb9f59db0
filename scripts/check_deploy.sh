#!/usr/bin/env bash
# Checks the files for deploying with the tools whose formats they are, as far as these tools are here, and says what it
# could not check. Ends with 1 where a check fails; with --strict also where one could not be made.
#
#   python3 -m venv build/checkers && build/checkers/bin/pip install check-jsonschema kubernetes-validate
#   apt-get install prometheus systemd nginx-light shellcheck      # promtool comes with prometheus
#   PATH=$PWD/build/checkers/bin:$PATH scripts/check_deploy.sh
#
# Needs no network. Nothing is started or installed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deploy=$root/configs/deploy
room=$(mktemp -d -t medllm-check.XXXXXX)
trap 'rm -rf "$room"' EXIT
failed=0 unchecked=0

check() { # check WHAT TOOL COMMAND...
  local what=$1 tool=$2
  shift 2
  if ! command -v "$tool" >/dev/null; then
    echo "not checked  $what: no $tool on this machine"
    unchecked=$((unchecked + 1))
  elif "$@" >"$room/said" 2>&1; then
    echo "ok           $what ($tool)"
  else
    echo "FAILS        $what ($tool)"
    sed 's/^/               /' "$room/said"
    failed=$((failed + 1))
  fi
}

verify_unit() { # the unit, with a program in the place of medllm, which is not installed here
  sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "$deploy/medllm.service" >"$room/medllm.service"
  systemd-analyze verify --man=no "$room/medllm.service" 2>&1 | tee "$room/unit"
  ! grep -q "medllm.service" "$room/unit"
}

verify_exposure() { # how much the unit may do: 0 is nothing, 10 is all
  systemd-analyze security --offline=yes --threshold=20 "$deploy/medllm.service"
}

verify_proxy() { # what passes the metrics on in a pod
  python3 - "$deploy/kubernetes/medllm.yaml" >"$room/proxy.conf" <<'PYTHON'
import pathlib, re, sys, textwrap

text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
block = re.search(r"  default\.conf: \|\n((?:    .*\n|\n)+)", text)
print(textwrap.dedent(block[1]))
PYTHON
  printf 'pid %s/pid;\nerror_log stderr;\nevents {}\nhttp { access_log off; include %s; }\n' \
    "$room" "$room/proxy.conf" >"$room/nginx.conf"
  nginx -t -q -c "$room/nginx.conf"
}

check compose.yaml check-jsonschema \
  check-jsonschema --builtin-schema vendor.compose-spec "$deploy/compose.yaml"
for file in "$deploy"/kubernetes/*.yaml; do
  check "kubernetes/${file##*/}" kubernetes-validate kubernetes-validate --strict "$file"
done
check prometheus.yaml promtool promtool check config "$deploy/prometheus.yaml"
check alerts.yaml promtool promtool check rules --lint=all --lint-fatal "$deploy/alerts.yaml"
check "alerts.yaml, on series made up for it" promtool \
  promtool test rules "$root/scripts/deploy/alerts_test.yaml"
check grafana.json python3 python3 -m json.tool "$deploy/grafana.json"
check medllm.service systemd-analyze verify_unit
check "medllm.service, what it may do" systemd-analyze verify_exposure
check "the proxy of metrics in kubernetes/medllm.yaml" nginx verify_proxy
check serve.yaml medllm medllm recipes show "$deploy/serve.yaml"
for file in "$root"/scripts/*.sh "$root"/scripts/deploy/*.sh; do
  check "${file#"$root"/}" bash bash -n "$file"
  check "${file#"$root"/}" shellcheck shellcheck --severity=warning "$file"
done
echo "not checked  Dockerfile as a whole: its steps are run by scripts/deploy/clean_root.py"
echo "not checked  that a cluster, Compose or a GPU runs any of it"

echo "$failed failed, $unchecked could not be made"
if [ "$failed" -gt 0 ]; then exit 1; fi
if [ "${1:-}" = --strict ] && [ "$unchecked" -gt 0 ]; then exit 1; fi
