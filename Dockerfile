# One image, every role: `serve` (the default), `api`, `poller`, `migrate`, `sandbox`, `clients …`.
# The newest 3.13.x, for its security fixes. To pin it: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
# Another package index, for networks where the default one is slow: --build-arg PIP_INDEX_URL=https://…/simple
ARG PIP_INDEX_URL
RUN python -m venv /opt/venv
COPY requirements.lock .
RUN /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
    -r requirements.lock

FROM ${PYTHON_IMAGE}
# A fixed number, so that a mounted data directory can be owned by it. PostgreSQL refuses to run as root.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin asr \
    && install --directory --owner=asr --group=asr --mode=0750 /data
WORKDIR /srv/asr-gateway
COPY --from=build /opt/venv /opt/venv
COPY pyproject.toml ./
COPY migrations ./migrations
COPY app ./app
# Compiled here: the user that runs the code cannot write to it.
RUN /opt/venv/bin/python -m compileall -q app migrations
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data
USER asr
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# Without --start-interval: Docker before 25 and podman before 5 refuse it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/livez', timeout=4)"]
# Last, so that another revision reuses all layers.
ARG VERSION=0.2.0
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title=asr-gateway \
    org.opencontainers.image.version=${VERSION} \
    org.opencontainers.image.revision=${REVISION} \
    org.opencontainers.image.source=${SOURCE}
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]
