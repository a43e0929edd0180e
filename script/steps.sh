# Steps with their time against a budget; sourced by script/up and script/test.
# Usage: step NAME BUDGET_SECONDS COMMAND…      then at the end: step_table
set -euo pipefail

FLYNN_CACHE=${FLYNN_CACHE:-/var/cache/flynn}
export FLYNN_CACHE
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$FLYNN_CACHE/target}
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
bin_dir=$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/debug
step_rows=()

step() {
  local name=$1 budget=$2 begin end status=0
  shift 2
  printf '=====> %s\n' "$name"
  begin=$(date +%s)
  "$@" || status=$?
  end=$(date +%s)
  step_rows+=("$(printf '%-28s %6d s of %5d s%s' "$name" $((end - begin)) "$budget" \
    "$([ $((end - begin)) -gt "$budget" ] && printf '  over budget')")")
  if [ "$status" -ne 0 ]; then
    printf 'ERROR: step "%s" failed with status %d\n' "$name" "$status" >&2
    step_table
    exit "$status"
  fi
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

packages_up=(mmdebstrap squashfs-tools erofs-utils e2fsprogs nftables iproute2 util-linux git curl ca-certificates gcc libc6-dev)
packages_test=("${packages_up[@]}" procps slirp4netns dnsutils postgresql)
