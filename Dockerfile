# weir in a container: built from source, run as user 65532, with no shell and nothing to write to.
#
#   docker build -t weir .
#   docker build -t weir --build-arg RUNTIME_IMAGE=debian:bookworm-slim .        with a shell, for a look inside
#
# Both stages are of one Debian release, because the binary is linked to its glibc. Pin them by digest where you release.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
# `vendored` builds OpenSSL and zlib in: the runtime image needs neither.
ARG CARGO_FEATURES=vendored
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --features "${CARGO_FEATURES}" \
    && install -D target/release/weir /out/usr/bin/weir

FROM ${RUNTIME_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
ARG RUNTIME_IMAGE
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="Runs agent workflows from a Kafka topic: every event ends in exactly one committed result" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"
COPY --from=build /out/ /
# For base images without certificates (debian:bookworm-slim). The OpenSSL inside the binary would look elsewhere.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Probes and metrics come from outside the container, so loopback, weir's default, would be of no use.
ENV HTTP_ADDR=0.0.0.0:8080
EXPOSE 8080
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["/usr/bin/weir", "healthcheck"]
ENTRYPOINT ["/usr/bin/weir"]
CMD ["run"]
