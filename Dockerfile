# A static binary in an empty image: nothing in it but the gateway and the roots that it trusts.
FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev gcc make perl ca-certificates
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY benches benches
RUN cargo build --release --locked --bin mirrorgate \
 && strip target/release/mirrorgate

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /source/target/release/mirrorgate /mirrorgate
USER 65532:65532
EXPOSE 80 443 9901
ENTRYPOINT ["/mirrorgate"]
CMD ["run", "--kubernetes"]
