#!/usr/bin/env bash
# Gathers all that a closed machine needs to serve a model, with a digest of each file, and what installs it there:
# wheels, llama.cpp's converter and llama-server (in the wheel of llama-cpp-python), the model, licences, an SBOM.
#
#   scripts/bundle.sh --model runs/lora/quantize/gguf-q4_k_m --out bundle [--extras serve,age] [--portable]
#   … carry the folder over, and there, as root or as any user:
#   bundle/install.sh /opt/medllm [/srv/medllm]
#
# The closed machine needs the same Linux, kind of processor and Python with venv as this one, and OpenMP's library, which
# is put in on Debian and Ubuntu (libgomp1): no compiler and no network. With --portable llama.cpp is compiled for any x86-64 processor with AVX2 (ten minutes), else for this one; a
# wheel that `medllm doctor --set-up-llama-cpp` compiled before is taken. `python3`, or what $PYTHON names, is used.
# pip's own settings say where wheels come from: PIP_EXTRA_INDEX_URL=<PyTorch's CPU index> makes the bundle much smaller.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
model='' out='' extras=serve,age
python=${PYTHON:-python3}
while [ $# -gt 0 ]; do
  case $1 in
    --model) model=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    --extras) extras=$2 && shift 2 ;;
    --portable)
      export CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON"
      shift ;;
    *) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//' >&2 && exit 2 ;;
  esac
done
if [ ! -f "$model/medllm.json" ] || [ -z "$out" ]; then
  echo "error: --model names a folder that medllm made, --out one for the bundle" >&2
  exit 2
fi
if [ -e "$out" ]; then echo "error: $out is there already" >&2 && exit 2; fi
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
room=$(mktemp -d "$out.partial.XXXXXX") # it gets its name when it is complete
scratch=$(mktemp -d -t medllm-bundle.XXXXXX)
trap 'rm -rf "$room" "$scratch"' EXIT

say() { printf '\n== %s\n' "$*"; }

say "wheels"
"$python" -m pip wheel --quiet -c "$root/constraints.txt" -w "$room/wheels" "${root}[$extras]"

say "an environment of these wheels alone, which compiles llama.cpp unless that was done"
"$python" -m venv "$scratch/venv"
here=$scratch/venv/bin
"$here/pip" install --quiet --no-index --find-links "$room/wheels" "medllm[$extras]"
"$here/medllm" doctor --set-up-llama-cpp
read -r cache key version < <("$here/python" -c '
from medllm.engines.llama_cpp_setup import VERSION, cpu_key
from medllm.places import cache_dir
print(cache_dir(), cpu_key(), VERSION)')
"$python" -m pip wheel --quiet -c "$root/constraints.txt" -w "$room/wheels" \
  "$cache/llama.cpp/$version/$key/"llama_cpp_python-*.whl
mkdir -p "$room/cache/llama.cpp/$version"
cp -r "$cache/llama.cpp/$version/converter" "$room/cache/llama.cpp/$version/"

say "the model"
"$here/medllm" verify "$model"
mkdir "$room/models"
cp -rL "$model" "$room/models/$(basename "$(cd "$model" && pwd -P)")"

say "licences, and what is in it"
mkdir "$room/licences"
cp "$root/LICENSE" "$root/NOTICE" "$room/licences/"
cp "$room/cache/llama.cpp/$version/converter/LICENSE" "$room/licences/llama.cpp"
"$here/python" - "$room/wheels" "$room/licences" <<'PYTHON'
import pathlib, re, sys, zipfile

wheels, licences = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as content:
        for name in content.namelist():
            if re.search(r"\.dist-info/(licenses/.+|(LICEN[CS]E|NOTICE|COPYING)[^/]*)$", name, re.I):
                target = licences / wheel.name.split("-")[0] / name.split(".dist-info/")[1].replace("/", "-")
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(content.read(name))
PYTHON
"$root/scripts/sbom.sh" "$here/python" "$room/sbom.json" || echo "without an SBOM: see scripts/sbom.sh"
"$here/pip" freeze --exclude-editable >"$room/versions.txt"
"$python" -c 'import platform, sys; print(*sys.version_info[:2], platform.machine(), sep=".")' >"$room/made-for"

cat >"$room/install.sh" <<'INSTALL'
#!/usr/bin/env bash
# Installs this bundle without a network: bundle/install.sh [/opt/medllm [/srv/medllm]]
set -euo pipefail
bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${1:-/opt/medllm} models=${2:-/srv/medllm}
python=${PYTHON:-python3}
cd "$bundle"
sha256sum --check --quiet --strict SHA256SUMS
here=$("$python" -c 'import platform, sys; print(*sys.version_info[:2], platform.machine(), sep=".")')
if [ "$here" != "$(cat made-for)" ]; then
  echo "error: made for Python and processor $(cat made-for), and here is $here" >&2
  exit 1
fi
if ! "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; then
  echo "error: libgomp.so.1 is missing, which llama-server needs" >&2
  echo "  fix: as root, dpkg --install $bundle/debian/libgomp1_*.deb, or the package of your Linux" >&2
  exit 1
fi
"$python" -m venv "$target"
"$target/bin/pip" install --quiet --no-index --find-links wheels "$(cat requirement)" llama-cpp-python
install -d "$target/cache"
cp -r cache/. "$target/cache/"
install -d "$models/models"
for model in models/*/; do
  cp -r "$model" "$models/models/"
  "$target/bin/medllm" --offline verify "$models/$model"
done
echo "medllm is in $target/bin, the model in $models/models."
echo "What follows (keys, certificate, service) stands in docs/deploy.md; the converter is found with"
echo "  export MEDLLM_CACHE_DIR=$target/cache"
INSTALL
chmod +x "$room/install.sh"
echo "medllm[$extras]" >"$room/requirement"

if command -v apt-get >/dev/null; then
  mkdir "$room/debian"
  (cd "$room/debian" && apt-get download -q libgomp1)
fi

say "digests"
(cd "$room" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum >SHA256SUMS)
chmod 0755 "$room"
mv "$room" "$out"
du -sh "$out" "$out"/*
