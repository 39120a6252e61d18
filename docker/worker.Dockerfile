# Workers, with the science. Build from the root of the project:
#   docker build --file docker/worker.Dockerfile --tag lustral-worker .
# What the default package index calls torch is a CUDA build on Linux; the image runs without a GPU as well. For a smaller
# image without CUDA, name the index of torch's CPU builds: --build-arg TORCH_INDEX=https://…
FROM python:3.13.7-slim-bookworm AS build
ARG TORCH_INDEX=""
WORKDIR /build
COPY pyproject.toml constraints.txt README.md ./
# Alone, because it is by far the largest and changes least.
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/lustral \
    && /opt/lustral/bin/pip install --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY app app
COPY gpu_jobs gpu_jobs
COPY migrations migrations
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/lustral/bin/pip install --constraint constraints.txt '.[gpu,tracing]'

FROM python:3.13.7-slim-bookworm
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/lustral lustral \
    && install --directory --owner lustral --group lustral /var/lib/lustral
COPY --from=build /opt/lustral /opt/lustral
ENV PATH=/opt/lustral/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    LUSTRAL_WORK_DIR=/var/lib/lustral
USER 10001
WORKDIR /var/lib/lustral
# Healthy while its main process takes commands from the broker.
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s \
    CMD ["python", "-m", "workers.health"]
CMD ["python", "-m", "workers"]
