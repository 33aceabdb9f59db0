# medllm for the processor; PyTorch's CPU index makes the image much smaller:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=<the CPU index named on pytorch.org> -t medllm .
#   docker run --rm --network none -v "$PWD/runs:/home/medllm/runs" -v "$PWD/raw:/data:ro" medllm run --config quickstart
# Results belong to user 1000. At run time the hub is never asked.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 medllm \
    && install -d -o medllm -g medllm /data /home/medllm/runs /home/medllm/source

USER medllm
WORKDIR /home/medllm
ENV PATH=/home/medllm/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    MEDLLM_DATA_DIR=/data

COPY --chown=medllm:medllm pyproject.toml README.md LICENSE NOTICE constraints.txt source/
COPY --chown=medllm:medllm scripts/readme_for_pypi.py source/scripts/
COPY --chown=medllm:medllm configs source/configs
COPY --chown=medllm:medllm medllm source/medllm

ARG PIP_EXTRA_INDEX_URL
RUN python -m venv venv \
    && pip install -c source/constraints.txt './source[standard]'

# For any x86-64 processor with AVX2, not only for the one that built the image.
RUN CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF" medllm doctor --set-up-llama-cpp

ENV HF_HUB_OFFLINE=1 \
    HF_DATASETS_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1

ENTRYPOINT ["medllm"]
CMD ["--help"]
