# API, relay and migrations: everything but the science, so no torch. Build from the root of the project:
#   docker build --file docker/api.Dockerfile --tag lustral-api .
FROM python:3.13.7-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md ./
COPY app app
COPY gpu_jobs gpu_jobs
COPY migrations migrations
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/lustral && /opt/lustral/bin/pip install --constraint constraints.txt '.[tracing]'

FROM python:3.13.7-slim-bookworm
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/lustral lustral \
    && install --directory --owner lustral --group lustral /var/lib/lustral
COPY --from=build /opt/lustral /opt/lustral
ENV PATH=/opt/lustral/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LUSTRAL_WORK_DIR=/var/lib/lustral
USER 10001
WORKDIR /var/lib/lustral
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["uvicorn", "--factory", "app.main:create_app", "--host", "0.0.0.0", "--port", "8000"]
