# One image for every service: `docker run IMAGE run deliver`, `docker run IMAGE topics apply`.
#
# Images are named by version. Pinning them by digest, and signing what is built, is left to the release.
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
RUN uv sync --frozen --no-dev --extra worker --no-install-project
COPY services services
COPY schemas schemas
COPY examples examples
RUN uv sync --frozen --no-dev --extra worker

FROM ${PYTHON_IMAGE}
RUN useradd --system --uid 10001 --create-home --home-dir /home/sluice sluice \
 && install --directory --owner=sluice --mode=0700 /keys
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SLUICE_HEALTH_HOST=0.0.0.0
# Faust makes a folder in the working directory, so it has to be one that the user may write.
WORKDIR /home/sluice
USER 10001
ENTRYPOINT ["sluice"]
CMD ["--help"]
# No HEALTHCHECK here: one-shot commands have none, and for services it depends on SLUICE_HEALTH_PORT. Ask /healthz
# (restart when it fails) and /readyz (send no work yet), as docker-compose.kafka.yml does.
