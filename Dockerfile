# docker build -t postrider .                       the sidecar
# docker build -t receiver --target receiver .      the example receiver of deploy/

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ENV CGO_ENABLED=0
RUN go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/postrider ./cmd/postrider
RUN go build -trimpath -ldflags "-s -w" -o /out/receiver ./deploy/receiver

FROM gcr.io/distroless/static-debian12:nonroot AS receiver
COPY --from=build /out/receiver /receiver
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/receiver"]

# The last stage is what a plain `docker build` makes.
FROM gcr.io/distroless/static-debian12:nonroot AS postrider
COPY --from=build /out/postrider /postrider
USER 65532:65532
EXPOSE 8480
ENTRYPOINT ["/postrider"]
CMD ["run"]
