# A served model for the processor; what compiles it stays behind. Never built by Docker here: each of its steps was run
# by scripts/deploy/clean_root.py on Debian 12, and the server's health check found it well.
#   docker build -t medllm .
#   docker run --rm -p 127.0.0.1:8080:8080 -e MEDLLM_API_KEY -v "$PWD/model:/srv/medllm/current:ro" -v medllm:/var/lib/medllm medllm
# Without MEDLLM_API_KEY or named keys, a fresh key is shown once in its log. For the other commands there is an image
# with a compiler, because gptqmodel compiles a kernel at its first use; PyTorch's CPU index makes both much smaller:
#   docker build --target tools --build-arg PIP_EXTRA_INDEX_URL=<the CPU index named on pytorch.org> -t medllm:tools .
#   docker run --rm --network none -v "$PWD/runs:/home/medllm/runs" -v "$PWD/raw:/data:ro" medllm:tools run --config quickstart
# Folders that are mounted for writing must belong to user 1000, and the model's must be readable for it. At run time the
# hub is never asked.
# --build-arg BASE=python:3.11-slim-bookworm@sha256:… pins the base by the digest that your registry tells.
# For an NVIDIA GPU (untested): BASE and BUILDER of the same Debian or Ubuntu with Python 3.11 to 3.13, BUILDER with the
# headers of Python and the CUDA toolkit, BASE with its runtime libraries, and
# --build-arg LLAMA_CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_CUDA=ON".
ARG BASE=python:3.11-slim-bookworm
ARG BUILDER=${BASE}

FROM ${BUILDER} AS builder

RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 \
    PATH=/opt/medllm/bin:$PATH \
    MEDLLM_CACHE_DIR=/opt/medllm/cache

COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY scripts/readme_for_pypi.py scripts/
COPY configs configs
COPY medllm medllm

ARG PIP_EXTRA_INDEX_URL
RUN python3 -m venv /opt/medllm \
    && pip install -c constraints.txt '.[standard]'

# For any x86-64 processor with AVX2, not only for the one that built the image. The wheel brings llama-server and its
# libraries into site-packages/bin and lib, and the cache holds the converter; what was compiled on the way is removed.
ARG LLAMA_CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF"
RUN CMAKE_ARGS="${LLAMA_CMAKE_ARGS}" medllm doctor --set-up-llama-cpp \
    && find /opt/medllm/cache -name '*.whl' -delete

FROM ${BASE} AS runtime

RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 medllm \
    && install -d -o medllm -g medllm -m 0700 /var/lib/medllm \
    && install -d -o medllm -g medllm /data /srv/medllm /home/medllm/runs /home/medllm/.cache/medllm

COPY --from=builder /opt/medllm /opt/medllm
COPY --from=builder --chown=medllm:medllm /opt/medllm/cache /home/medllm/.cache/medllm

ENV PATH=/opt/medllm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MEDLLM_DATA_DIR=/data \
    MEDLLM_CONFIG_DIR=/var/lib/medllm \
    HF_HUB_OFFLINE=1 \
    HF_DATASETS_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1

USER medllm
WORKDIR /home/medllm
VOLUME /var/lib/medllm
ENTRYPOINT ["medllm"]

FROM runtime AS tools
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
USER medllm
CMD ["--help"]

FROM runtime AS server
EXPOSE 8080
# Of the default command, over plain HTTP; with a certificate of yours, `--health-cmd` names https.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
CMD ["serve", "--model", "/srv/medllm/current", "--host", "0.0.0.0", "--port", "8080"]
