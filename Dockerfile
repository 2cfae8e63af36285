# One image, every role: `serve` (the default), `api`, `poller`, `migrate`, `sandbox`, `clients …`.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
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
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/livez', timeout=4)"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]
