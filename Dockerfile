# Prelabel for hosts without a GPU: docker build --tag prelabel:cpu .
ARG BASE=ubuntu:24.04
ARG ORT=cpu

# From here on Dockerfile and Dockerfile.cuda are identical.
# --target export: the image with torch, for `prelabel train` and `prelabel export`.
FROM ${BASE} AS base
# Ubuntu removes superseded versions from its servers, so builds with pinned versions would soon fail
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --system --gid 10001 prelabel \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /tmp prelabel

FROM base AS build
ARG ORT
WORKDIR /src
COPY pyproject.toml constraints.txt README.md prelabel.py ./
COPY server server
COPY export export
COPY artifacts/imdb-cnn artifacts/imdb-cnn
RUN python3 -m venv /opt/prelabel \
    && /opt/prelabel/bin/python -m pip install --no-cache-dir --constraint constraints.txt ".[${ORT}]"
# Compiles the kernels for the CPU of the build machine; on another CPU they are compiled at startup.
# numba identifies a source file by its modification time. Files from a wheel have whole seconds, as image layers do.
RUN printf 'review\na fine film\n' > /tmp/one.csv \
    && NUMBA_CACHE_DIR=/opt/kernels PRELABEL_ENGINE=tables /opt/prelabel/bin/prelabel predict /tmp/one.csv /tmp/one.json \
    && NUMBA_CACHE_DIR=/opt/kernels /opt/prelabel/bin/python -P -c 'from server.transport.json_slices import warm_up; warm_up()' \
    && rm /tmp/one.csv /tmp/one.json

FROM build AS export
ARG ORT
RUN /opt/prelabel/bin/python -m pip install --no-cache-dir --constraint constraints.txt ".[${ORT},export,transformers]"
USER 10001:10001
ENTRYPOINT ["/opt/prelabel/bin/prelabel"]

FROM base AS serve
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Prelabel" \
      org.opencontainers.image.description="A Label Studio ML backend: exact, fast, batched text classification" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/prelabel /opt/prelabel
COPY --from=build /opt/kernels /opt/kernels
COPY deploy/start.sh deploy/healthcheck.py /opt/deploy/
WORKDIR /app
COPY artifacts/imdb-cnn artifacts/imdb-cnn
ENV NUMBA_CACHE_DIR=/tmp/kernels PYTHONDONTWRITEBYTECODE=1 PRELABEL_HOST=0.0.0.0 PRELABEL_PORT=9090
USER 10001:10001
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/opt/prelabel/bin/python", "/opt/deploy/healthcheck.py"]
ENTRYPOINT ["/bin/sh", "/opt/deploy/start.sh"]
CMD ["serve"]
