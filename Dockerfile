# One image for every process: web is the default, docker-compose.yml names the others.
FROM python:3.12-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/orchestrator
ENV PATH=/opt/orchestrator/bin:$PATH
WORKDIR /src

# The dependencies alone, so that a change of our code does not install them again. `make lock` writes
# the file. A package with another hash is refused.
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY orchestrator ./orchestrator
COPY workers ./workers
COPY webhooks ./webhooks
RUN pip install --no-deps --no-index --no-build-isolation . && pip uninstall --yes setuptools


FROM python:3.12-slim-bookworm

# A user and group with names: Celery warns of ids that have none.
RUN groupadd --gid 10001 orchestrator \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin orchestrator \
    && install --directory --owner 10001 --group 10001 /data
COPY --from=build /opt/orchestrator /opt/orchestrator

ENV PATH=/opt/orchestrator/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORCHESTRATOR_DATA_DIR=/data \
    HOST=0.0.0.0
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8080

CMD ["orchestrator", "web"]
