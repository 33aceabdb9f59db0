#!/usr/bin/env bash
# What is installed in an environment, as a bill of materials in the form of CycloneDX (JSON), with licences.
#
#   scripts/sbom.sh .venv/bin/python build/sbom.json
#
# Needs `cyclonedx-py` on the PATH (pip install cyclonedx-bom, into an environment of its own).
set -euo pipefail
if [ $# -ne 2 ]; then sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2 && exit 2; fi
if ! command -v cyclonedx-py >/dev/null; then
  echo "error: no cyclonedx-py; pip install cyclonedx-bom, into an environment of its own" >&2
  exit 5
fi
mkdir -p "$(dirname "$2")"
cyclonedx-py environment --output-format JSON --output-file "$2" "$1"
python3 - "$2" <<'PYTHON'
import json, sys

parts = json.load(open(sys.argv[1]))["components"]
unnamed = sorted(part["name"] for part in parts if not part.get("licenses"))
print(f"{len(parts)} packages in {sys.argv[1]}, {len(unnamed)} of them name no licence: {', '.join(unnamed)}")
PYTHON
