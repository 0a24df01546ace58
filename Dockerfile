# One image for every service: `docker run IMAGE run deliver`, `docker run IMAGE topics apply`.
#
# Images are named by version. A release pins the base by digest (--build-arg PYTHON_IMAGE=python:...@sha256:...), and adds a
# bill of materials and a signature: docs/kubernetes.md says how.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG UV_VERSION=0.13.9
RUN pip install --no-cache-dir "uv==${UV_VERSION}"
ENV UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /app
# Dependencies first: they change less often than the code, and stay in the build's cache.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --extra worker --extra otlp --no-install-project
COPY services services
COPY schemas schemas
COPY examples examples
RUN uv sync --frozen --no-dev --extra worker --extra otlp

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.licenses="Apache-2.0"
# Numbers, because Kubernetes has to see that the user is not root; the chart names the same ones.
RUN groupadd --system --gid 10001 sluice \
 && useradd --system --uid 10001 --gid 10001 --create-home --home-dir /home/sluice sluice \
 && install --directory --owner=sluice --group=sluice --mode=0700 /keys
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SLUICE_HEALTH_HOST=0.0.0.0
# Nothing is written but to /tmp: the root may be read-only.
WORKDIR /home/sluice
USER 10001:10001
ENTRYPOINT ["sluice"]
CMD ["--help"]
# No HEALTHCHECK here: one-shot commands have none, and for services it depends on SLUICE_HEALTH_PORT. Ask /healthz
# (restart when it fails) and /readyz (send no work yet), as docker-compose.kafka.yml does.
