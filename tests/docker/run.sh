#!/usr/bin/env bash
# Runs what is in deploy/ on a real Docker engine: builds the image, runs a conference in one container (compose) and on a Swarm of one
# machine, with more processes and fewer (tests/e2e/docker). `make docker-test` builds before.
#
# It takes the engine that DOCKER_HOST names or, as root, starts one of its own with everything in a directory that is removed afterwards
# (apt-get install docker.io docker-compose). Ends with status 77 where there is no engine to be had.
#
#   KAIGI_DOCKER_BASE    a Debian 12 image to build on; default: debian:bookworm-slim if it can be pulled, else one made by debootstrap
#   KAIGI_DOCKER_SOURCE  "yes": compiles in the image, too (Rust from KAIGI_DOCKER_BUILD_BASE, default rust:1-bookworm), instead of taking
#                        what `make build` has made
#   KAIGI_BIN_DIR, KAIGI_WEB_ROOT   what `make build` has made; default: target/release, web/dist
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { echo "docker-test: $*"; }
cannot() {
  say "can't run here: $*"
  exit 77
}

work=$(mktemp -d -t kaigi-docker-XXXXXX)
engine=
clean_up() {
  if [ -n "$engine" ]; then
    kill "$engine" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$engine" 2>/dev/null || break; sleep 0.2; done
  fi
  if mountpoint -q "$work/root/proc"; then umount "$work/root/proc"; fi
  rm -rf "$work" || say "$work could not be removed"
}
trap clean_up EXIT

start_engine() {
  command -v dockerd >/dev/null || cannot "there is neither a running engine (DOCKER_HOST) nor dockerd (apt-get install docker.io docker-compose)"
  [ "$(id -u)" -eq 0 ] || cannot "only root can start an engine"
  export DOCKER_HOST="unix://$work/docker.sock"
  dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" -H "$DOCKER_HOST" >"$work/dockerd.log" 2>&1 &
  engine=$!
  for _ in $(seq 150); do
    docker version >/dev/null 2>&1 && return
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 5 "$work/dockerd.log"
  cannot "dockerd does not start"
}

# BuildKit is a part of Debian's client (20.10), and a plug-in (buildx) of later ones.
find_client() {
  local client
  for client in docker /usr/bin/docker; do
    command -v "$client" >/dev/null || continue
    if "$client" buildx version >/dev/null 2>&1 || "$client" --version | grep -q ' 20\.10\.'; then
      BUILD=$client
      return
    fi
  done
  cannot "docker build needs BuildKit: Debian's docker.io, or buildx"
}

make_base() {
  base=${KAIGI_DOCKER_BASE:-}
  [ -z "$base" ] || return 0
  base=debian:bookworm-slim
  if docker image inspect "$base" >/dev/null 2>&1 || timeout 60 docker pull -q "$base" >/dev/null 2>&1; then return; fi
  command -v debootstrap >/dev/null || cannot "no base image can be pulled, nor made (apt-get install debootstrap)"
  say "no base image can be pulled; debootstrap makes one"
  debootstrap --variant=minbase bookworm "$work/root" >"$work/debootstrap.log" 2>&1 || cannot "debootstrap fails: $(tail -n 1 "$work/debootstrap.log")"
  base=kaigi-test-base
  tar -C "$work/root" --exclude=./proc/* -c . | docker import - "$base" >/dev/null
}

build_images() {
  local context=$work/context program
  say "building the image on $base"
  if [ "${KAIGI_DOCKER_SOURCE:-}" = yes ]; then
    DOCKER_BUILDKIT=1 "$BUILD" build --quiet --build-arg BASE="$base" --build-arg BUILD_BASE="${KAIGI_DOCKER_BUILD_BASE:-rust:1-bookworm}" \
      -f deploy/Dockerfile -t kaigi-test .
  else
    mkdir -p "$context/target/release" "$context/web"
    for program in kaigi kaigi-{cluster-manager,conference-agent,access-node,mixer-node,streaming-node,turn-server,portal,rtp-gateway}; do
      strip --strip-debug -o "$context/target/release/$program" "${KAIGI_BIN_DIR:-target/release}/$program"
    done
    cp -r "${KAIGI_WEB_ROOT:-web/dist}" "$context/web/dist"
    cp deploy/Dockerfile "$context/"
    DOCKER_BUILDKIT=1 "$BUILD" build --quiet --build-arg BASE="$base" --build-arg PROGRAMS=built -t kaigi-test "$context"
  fi
  DOCKER_BUILDKIT=1 "$BUILD" build --quiet -t kaigi-test-redis - <<END
FROM $base
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /data && chown redis /data
USER redis
VOLUME /data
CMD ["redis-server"]
END
}

command -v docker >/dev/null || cannot "there is no docker (apt-get install docker.io docker-compose)"
[ -d tests/e2e/node_modules ] || cannot "what tests need is not there (scripts/setup.sh --test)"
if ! docker version >/dev/null 2>&1; then start_engine; fi
find_client
if docker compose version >/dev/null 2>&1; then
  export KAIGI_COMPOSE="docker compose"
elif command -v docker-compose >/dev/null; then
  export KAIGI_COMPOSE=docker-compose
else
  cannot "there is no docker compose (apt-get install docker-compose)"
fi
[ "$(docker info --format '{{.Swarm.LocalNodeState}}')" = inactive ] || cannot "the engine is in a Swarm already"
make_base
build_images
export KAIGI_IMAGE=kaigi-test KAIGI_REDIS_IMAGE=kaigi-test-redis
say "$(docker image inspect --format '{{.Size}}' kaigi-test | numfmt --to=si)B of image; engine $(docker version --format '{{.Server.Version}}')"
cd tests/e2e && npx vitest run --config vitest.docker.config.ts "$@"
