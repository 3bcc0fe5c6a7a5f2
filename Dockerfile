# syntax=docker/dockerfile:1
# walcast in a container: docker build -t walcast . && docker run -v ./walcast.toml:/etc/walcast/walcast.toml:ro -v walcast:/var/lib/walcast walcast
#
# The configuration says [log] dir = "/var/lib/walcast/log", and [http] listen = "0.0.0.0:9464" for those outside of the container.
FROM rust:1.88-slim-bookworm AS build
WORKDIR /walcast
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/walcast/target \
    cargo build --release --locked --package walcast \
    && cp target/release/walcast /usr/local/bin/walcast

FROM debian:bookworm-slim
# `walcast bootstrap` copies schemas by the programs of PostgreSQL: at least as new as the servers. Debian's are 15; others are
# in the repository of apt.postgresql.org.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql-client \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 64940 walcast \
    && useradd --system --uid 64940 --gid walcast --home-dir /var/lib/walcast --shell /usr/sbin/nologin walcast \
    && install -d -m 0700 -o walcast -g walcast /var/lib/walcast \
    && install -d -m 0755 /etc/walcast
COPY --from=build /usr/local/bin/walcast /usr/local/bin/walcast
USER 64940:64940
WORKDIR /var/lib/walcast
VOLUME /var/lib/walcast
EXPOSE 9464
STOPSIGNAL SIGTERM
# The service answers through its socket, whatever its source and targets do; without it the status says "offline".
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "walcast -c /etc/walcast/walcast.toml status --json >/tmp/status && ! grep -q '\"state\": \"offline\"' /tmp/status"]
ENTRYPOINT ["walcast", "--config", "/etc/walcast/walcast.toml"]
CMD ["run"]
