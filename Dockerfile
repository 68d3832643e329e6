# One image for every role: `docker run dfs namenode …`, `… datanode …`, `… put …`.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY namenode namenode
COPY datanode datanode
RUN python -m venv /opt/dfs && /opt/dfs/bin/pip install --no-cache-dir --disable-pip-version-check '.[server]'

FROM python:3.12-slim
# /data is made here with its owner, so that a named volume that is mounted there is writable without root.
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin dfs \
    && install --directory --owner=dfs --group=dfs --mode=0750 /data
COPY --from=build /opt/dfs /opt/dfs
ENV PATH=/opt/dfs/bin:$PATH PYTHONUNBUFFERED=1
USER dfs
WORKDIR /data
VOLUME /data
# The HDFS ports: namenode, datanode.
EXPOSE 9870 9864
STOPSIGNAL SIGTERM
ENTRYPOINT ["dfs"]
CMD ["--help"]
