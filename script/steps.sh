# Steps with their time against a budget; sourced by script/up and script/test.
# Usage: step NAME BUDGET_SECONDS COMMAND…      then at the end: step_table
set -euo pipefail

FLYNN_CACHE=${FLYNN_CACHE:-/var/cache/flynn}
export FLYNN_CACHE
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$FLYNN_CACHE/target}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
bin_dir=$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/debug
step_rows=()

# yes: the first command that fails ends a step, which runs in a shell of its own.
step_strict=no

step() {
  local name=$1 budget=$2 begin end status
  shift 2
  printf '=====> %s\n' "$name"
  begin=$(date +%s)
  set +e
  run_step "$budget" "$@"
  status=$?
  set -e
  end=$(date +%s)
  step_rows+=("$(printf '%-28s %6d s of %5d s%s' "$name" $((end - begin)) "$budget" \
    "$([ $((end - begin)) -gt "$budget" ] && printf '  over budget')")")
  if [ "$status" -ne 0 ]; then
    printf 'ERROR: step "%s" failed with status %d\n' "$name" "$status" >&2
    step_table
    exit "$status"
  fi
}

run_step() {
  local budget=$1
  shift
  if [ "$step_strict" != yes ]; then
    "$@"
  elif [ "$budget" -ge 60 ] && [ -t 1 ]; then
    (set -e; "$@") 2>&1 | with_bar "$budget"
  else
    (set -e; "$@")
  fi
}

# Passes lines on, with a bar below them that fills up as the step's budget is spent.
with_bar() {
  local budget=$1 begin line='' rest='' now filled blank='                              '
  begin=$(date +%s)
  while true; do
    if IFS= read -r -t 1 line; then
      printf '\r\e[K%s\n' "$rest$line"
      rest=''
    elif [ $? -le 128 ]; then
      printf '\r\e[K%s' "$rest$line"
      return 0
    else
      rest+=$line
    fi
    now=$(($(date +%s) - begin))
    filled=$((now < budget ? now * 30 / budget : 30))
    printf '\r\e[K[%s%s] %d s of %d s' "$(printf '%*s' "$filled" '' | tr ' ' '#')" "${blank:filled}" "$now" "$budget"
  done
}

step_table() {
  printf '\n%-28s %s\n' STEP 'TIME AGAINST BUDGET'
  printf '%s\n' "${step_rows[@]}"
}

need_root() {
  if [ "$(id -u)" -ne 0 ]; then
    printf 'ERROR: %s makes namespaces and mounts and must run as root: try sudo %s\n' "$0" "$0" >&2
    exit 1
  fi
}

need_rust() {
  if ! command -v cargo >/dev/null; then
    printf 'ERROR: cargo is not on PATH: install Rust 1.95 or newer (rustup.rs), then run %s again\n' "$0" >&2
    exit 1
  fi
}

# Installs the Debian packages that are missing, and only those.
packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  printf 'installing: %s\n' "${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# How this machine reaches package registries is how builds do.
registry_settings() {
  local name
  BUILD_CA_BUNDLE=$(cat /usr/local/share/ca-certificates/*.crt 2>/dev/null || true)
  export BUILD_CA_BUNDLE
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy PIP_INDEX_URL PIP_EXTRA_INDEX_URL \
    UV_INDEX_URL UV_DEFAULT_INDEX npm_config_registry NPM_CONFIG_REGISTRY GOPROXY GOSUMDB GOFLAGS MAVEN_OPTS BUNDLE_MIRROR__ALL; do
    [ -z "${!name:-}" ] || export "BUILD_ENV_$name=${!name}"
  done
}

packages_up=(mmdebstrap squashfs-tools erofs-utils e2fsprogs nftables iproute2 util-linux git curl ca-certificates gcc libc6-dev)
packages_test=("${packages_up[@]}" procps slirp4netns dnsutils postgresql)
