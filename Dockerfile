# syntax=docker/dockerfile:1
# Debian, not Alpine: the wheels of the JVM bridge, the embedded PostgreSQL and squawk are built for glibc; with musl
# they would have to be compiled, or are not to be had at all.
FROM python:3.13-slim-bookworm@sha256:f13a6b7565175da40695e8109f64cbc4d2e65f4c9ef2e3b321c3a44fa3c06fe7 AS build
COPY pyproject.toml requirements-run.lock README.md LICENSE migrator.toml /src/
COPY migrator /src/migrator
COPY changelogs /src/changelogs
COPY checks /src/checks
COPY .github/workflows /src/.github/workflows
COPY .github/scripts /src/.github/scripts
COPY docker/build.sh /src/docker/build.sh
RUN /src/docker/build.sh /src /opt/migrator

FROM python:3.13-slim-bookworm@sha256:f13a6b7565175da40695e8109f64cbc4d2e65f4c9ef2e3b321c3a44fa3c06fe7
LABEL org.opencontainers.image.title="migrator" \
      org.opencontainers.image.description="Takes a PostgreSQL database safely through a Liquibase changelog, or brings it back." \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --home-dir /work --shell /usr/sbin/nologin migrator \
    && install -d -o migrator -g migrator -m 0700 /work
COPY --from=build /opt/migrator /opt/migrator
# The caches hold the Liquibase jars and the JVM's start-up archive: nothing is fetched when a container starts.
ENV PATH=/opt/migrator/bin:$PATH \
    XDG_CACHE_HOME=/opt/migrator/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
# migrator.toml, changelogs and checks are mounted here; .migrator (journal, reports) and TMPDIR are what it writes.
WORKDIR /work
HEALTHCHECK --interval=60s --timeout=10s CMD ["migrator", "--version"]
ENTRYPOINT ["migrator"]
CMD ["--help"]
