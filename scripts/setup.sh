#!/usr/bin/env bash
# Brings what Kaigi needs to be built and run onto this machine; with --test also what its tests need.
# Does nothing, quickly, when nothing is missing. On Debian and its relatives it installs packages (as root or through sudo);
# elsewhere it says what is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

MIN_RUST=1.94
MIN_NODE=18
MIN_PYTHON=3.10

# What set-up keeps here beside the packages of npm; `make clean` removes it.
CACHE=.cache

build_packages=(build-essential cmake pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev)
run_packages=(gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
  gstreamer1.0-libav gstreamer1.0-rtsp glib-networking ca-certificates)
# Fonts are for the pages that the tests take pictures of.
test_packages=(chromium curl ffmpeg fonts-liberation gir1.2-gst-plugins-bad-1.0 gir1.2-gst-rtsp-server-1.0
  gstreamer1.0-nice gstreamer1.0-tools jq libnginx-mod-rtmp nginx openssl python3-gi python3-venv
  redis-server)
# Libraries of coturn's server, which is unpacked below.
test_packages+=(libevent-core-2.1-7 libevent-extra-2.1-7 libevent-openssl-2.1-7 libevent-pthreads-2.1-7
  libhiredis0.14 libmariadb3 libpq5)

with_tests=false
for argument in "$@"; do
  case $argument in
    --test) with_tests=true ;;
    -h | --help)
      echo "usage: scripts/setup.sh [--test]"
      exit 0
      ;;
    *)
      echo "setup: unknown argument $argument (usage: scripts/setup.sh [--test])" >&2
      exit 2
      ;;
  esac
done

say() { echo "setup: $*"; }
fail() {
  echo "setup: $*" >&2
  exit 1
}
# at_least HAVE WANT: whether version HAVE is WANT or newer.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

check_rust() {
  local version
  if ! command -v cargo >/dev/null; then
    fail "Rust is missing. Install it with rustup (https://rustup.rs), for example:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy
then open a new shell, or run: . \"\$HOME/.cargo/env\""
  fi
  version=$(cargo --version | cut -d' ' -f2)
  at_least "$version" "$MIN_RUST" || fail "Rust $MIN_RUST or newer is needed, this is $version. With rustup: rustup update stable"
  if $with_tests; then
    for component in fmt clippy; do
      command -v "cargo-$component" >/dev/null && cargo "$component" --version >/dev/null 2>&1 && continue
      command -v rustup >/dev/null || fail "cargo $component is missing; add that component to your Rust toolchain"
      rustup component add rustfmt clippy
    done
  fi
}

have_node() {
  local version
  command -v node >/dev/null && command -v npm >/dev/null || return 1
  version=$(node --version)
  at_least "${version#v}" "$MIN_NODE"
}

have_python() {
  local version
  python3 -c 'import ensurepip, venv' 2>/dev/null || return 1
  version=$(python3 --version)
  at_least "${version#Python }" "$MIN_PYTHON"
}

wanted_packages() {
  printf '%s\n' "${build_packages[@]}" "${run_packages[@]}"
  if $with_tests; then printf '%s\n' "${test_packages[@]}"; fi
}

# Those of the packages given that are not installed.
missing_packages() {
  local installed
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' || true)
  for package in "$@"; do
    grep -qxF "$package" <<<"$installed" || echo "$package"
  done
}

install_on_debian() {
  local missing as_root=()
  mapfile -t missing < <(missing_packages $(wanted_packages))
  have_node || missing+=(nodejs npm)
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "these packages are missing, and neither root nor sudo is at hand: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  have_node || fail "Node.js $MIN_NODE or newer is needed, this distribution has $(node --version 2>/dev/null || echo none)"
}

# Elsewhere: only looks, and names what is needed.
check_elsewhere() {
  local missing=()
  for tool in cc c++ cmake pkg-config; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if command -v pkg-config >/dev/null; then
    for library in gstreamer-1.0 gstreamer-app-1.0 gstreamer-video-1.0; do
      pkg-config --exists "$library" || missing+=("$library (with headers)")
    done
  fi
  have_node || missing+=("Node.js $MIN_NODE or newer with npm")
  if $with_tests; then
    [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || missing+=("chromium (or set CHROMIUM to a Chromium or Chrome)")
    for tool in curl ffmpeg gst-inspect-1.0 gst-launch-1.0 jq nginx openssl redis-server; do
      command -v "$tool" >/dev/null || missing+=("$tool")
    done
    have_python || missing+=("Python $MIN_PYTHON or newer with its module venv")
  fi
  [ ${#missing[@]} -eq 0 ] || fail "this is no Debian, so nothing is installed by itself. Please install:
$(printf '  - %s\n' "${missing[@]}")
and GStreamer 1.22 or newer with its plugin sets base, good, bad, ugly and libav."
}

# npm_install DIRECTORY: exactly what its lock file says, only when that changed since the last time.
npm_install() {
  local stamp="$1/node_modules/.installed" want
  want="$(node --version) $(sha256sum <"$1/package-lock.json")"
  [ "$(cat "$stamp" 2>/dev/null || true)" != "$want" ] || return 0
  say "npm ci in $1"
  (cd "$1" && npm ci --no-fund --no-audit --loglevel=error)
  echo "$want" >"$stamp"
}

# python_install NAME REQUIREMENTS: an environment of its own in the cache with exactly those packages, made anew only when they, Python or the
# place changed since the last time.
python_install() {
  local to="$CACHE/$1" want
  want="$(python3 --version) $(command -v python3) $PWD $(sha256sum <"$2")"
  [ "$(cat "$to/.installed" 2>/dev/null || true)" != "$want" ] || return 0
  say "pip install in $to"
  rm -rf "$to"
  python3 -m venv "$to"
  "$to/bin/pip" install --quiet --disable-pip-version-check --no-input --requirement "$2"
  echo "$want" >"$to/.installed"
}

# unpack PACKAGE PROGRAM: of a Debian package that program alone, into the cache; installed, it would be a server.
# Where it can't be had, the tests say what they leave out.
unpack() {
  local to="$CACHE/$1" from
  [ ! -x "$to/usr/bin/$2" ] || return 0
  command -v dpkg-deb >/dev/null || return 0
  say "$2 in $to"
  from=$(mktemp -d)
  if (cd "$from" && apt-get download -qq "$1") >/dev/null 2>&1; then
    mkdir -p "$to"
    dpkg-deb --fsys-tarfile "$from/$1"_*.deb | tar -x -C "$to" "./usr/bin/$2"
  else
    say "$2 can't be had"
  fi
  rm -rf "$from"
}

check_rust
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
  install_on_debian
else
  check_elsewhere
fi
npm_install web
if $with_tests; then
  npm_install tests/e2e
  python_install schemathesis tests/e2e/schemathesis/requirements.txt
  python_install opencv filters/tests/requirements.txt
  python_install kubernetes tests/e2e/kubernetes/requirements.txt
  python_install aiortc tests/e2e/aiortc/requirements.txt
  unpack prometheus promtool # checks alert rules
  unpack coturn turnserver
fi
