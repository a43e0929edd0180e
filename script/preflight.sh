# The settings of script/up, and what would stand in its way, looked for before anything is changed; sourced
# by it. Nothing here needs a program that a fresh Debian lacks.

fail() { printf 'ERROR: %s\n' "$1" >&2; exit 1; }

preflight() {
  need_root
  check_options
  check_programs
  check_kernel
  check_memory
  check_disk
  check_ports
}

check_options() {
  local name='[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?' option port
  [[ $domain =~ ^$name(\.$name)*$ ]] || fail "--domain $domain is no domain name: give one such as flynn.localhost"
  for option in http https; do
    port=${option}_port
    [[ ${!port} =~ ^[1-9][0-9]{0,4}$ && ${!port} -le 65535 ]] || fail "--$option-port ${!port} is no port: give a number from 1 to 65535"
    [[ ! ${!port} =~ ^(53|1111|1113|5000|5002)$ ]] || fail "--$option-port ${!port} is a port of the platform itself: choose another"
  done
  [ "$http_port" != "$https_port" ] || fail "--http-port and --https-port are both $http_port: choose two ports"
  [ -n "$external_ip" ] || awk '$2 == "00000000" {found = 1} END {exit !found}' /proc/net/route ||
    fail 'this machine has no default route: name its address with --external-ip'
  [[ -z $external_ip || $external_ip =~ ^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "--external-ip $external_ip is no IPv4 address"
  [[ $data_dir != / && $data_dir != *[[:space:]]* ]] || fail "--data-dir $data_dir cannot be used: give a directory of its own, without spaces in its name"
  [ ! -e "$data_dir" ] || [ -d "$data_dir" ] || fail "--data-dir $data_dir is no directory"
  check_kept domain "$domain"
  check_kept http-port "$http_port"
  check_kept https-port "$https_port"
}

# What was given now, else what the platform was made with, else the default.
setting() { local kept; kept=$(kept "$1"); printf '%s\n' "${given[--$1]:-${kept:-$2}}"; }
kept() { sed -n "s/^$1=//p" "$data_dir/up.conf" 2>/dev/null || true; }

# What another run need not be told again.
keep_settings() {
  printf '%s\n' "domain=$domain" "http-port=$http_port" "https-port=$https_port" "no-demo=$no_demo" \
    "hosts-file=$hosts_file" "external-ip=$external_ip" >"$data_dir/up.conf.new"
  mv "$data_dir/up.conf.new" "$data_dir/up.conf"
}

# A platform keeps what it was made with.
check_kept() {
  local kept
  kept=$(kept "$1")
  [ -z "$kept" ] || [ "$kept" = "$2" ] ||
    fail "the platform in $data_dir was made with --$1 $kept: leave --$1 out, or remove that platform first (script/down --purge --data-dir $data_dir)"
}

check_programs() {
  local version
  [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || fail 'this needs Debian (or a derivative) on amd64'
  need_rust
  version=$(cargo --version) || fail 'cargo does not run: install a Rust toolchain (rustup default stable)'
  version=$(sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p' <<<"$version")
  [ "${version:-95}" -ge 95 ] || fail "cargo is of Rust 1.$version, and 1.95 or newer is needed: run rustup update"
}

# Modules of the kernel show in these files once they are loaded, and modprobe knows those that can be.
check_kernel() {
  local kind
  for kind in overlay squashfs ext4; do
    grep -qw "$kind" /proc/filesystems || modprobe -n -q "$kind" 2>/dev/null ||
      fail "this kernel has no $kind file system, which containers need: boot a kernel that has it, such as Debian's linux-image-amd64"
  done
  for kind in mnt net pid user uts ipc cgroup; do
    [ -e "/proc/self/ns/$kind" ] || fail "this kernel has no $kind namespaces, which containers need: boot another, such as Debian's linux-image-amd64"
  done
  [ "$(cat /proc/sys/user/max_user_namespaces)" -gt 0 ] || fail 'user namespaces are switched off here: sysctl -w user.max_user_namespaces=15000'
  [ -e /dev/loop-control ] || modprobe -n -q loop 2>/dev/null || fail 'there are no loop devices (/dev/loop-control), which layers and disks need: load the module loop, or boot another kernel'
  grep -q '^cgroup2\? \| cgroup2\? ' /proc/mounts || fail 'no control groups are mounted below /sys/fs/cgroup, which limits need: mount them (systemd does), then run this again'
  check_network
}

# Tried in a network of its own, which ends with the try.
check_network() {
  local kind
  command -v ip >/dev/null || return 0
  for kind in bridge 'veth peer name flynn1' 'vxlan id 1 dev lo dstport 4789'; do
    # shellcheck disable=SC2086 # words of one command
    unshare --net ip link add flynn0 type $kind 2>/dev/null ||
      fail "this kernel cannot make links of type ${kind%% *}, which the network of containers needs: load the module, or boot another kernel"
  done
  ! command -v nft >/dev/null || unshare --net nft list tables >/dev/null 2>&1 ||
    fail 'this kernel has no nf_tables, which the firewall needs: load the module, or boot another kernel'
}

check_memory() {
  local memory
  memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
  [ "$memory" -ge 1900 ] || fail "this machine has $memory MB of memory; 2 GB are needed"
}

# Builds and images take 9 GB, the platform's data 3 GB; what an earlier run made is there already.
check_disk() {
  local dirs=() free dir wanted=0 build=$FLYNN_CACHE
  [ -d "$data_dir/layers" ] || { dirs+=("$data_dir"); wanted=3000; need_space "$data_dir" 3000 --data-dir; }
  [ -d "$bin_dir" ] || need_space "$build" 9000 FLYNN_CACHE
  [ -d "$bin_dir" ] || [ "$wanted" = 0 ] || [ "$(stat -c %d "$(existing "$build")")" != "$(stat -c %d "$(existing "$data_dir")")" ] ||
    need_space "$data_dir" 12000 --data-dir
}

need_space() {
  local free
  free=$(df -Pm "$(existing "$1")" | awk 'NR == 2 {print $4}')
  [ "$free" -ge "$2" ] || fail "$(existing "$1") has $free MB free, and $1 needs $2: make room, or choose another place ($3)"
}

# The directory, or the nearest one above it that is there.
existing() {
  local dir=$1
  while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
  printf '%s\n' "$dir"
}

check_ports() {
  local port pid option
  # The daemon's first: it tells best who is there.
  for port in 1113 "$http_port" "$https_port" 1111 5002; do
    pid=$(holder "$port")
    if [ -z "$pid" ] || is_ours "$pid"; then continue; fi
    case $port in
      "$http_port") option='stop it, or choose another port with --http-port' ;;
      "$https_port") option='stop it, or choose another port with --https-port' ;;
      *) option='stop it: the platform cannot do without this port' ;;
    esac
    fail "port $port is in use by $(told "$pid" "$port"): $option"
  done
}

# The process that listens on a TCP port, or a dash where nobody can say; nothing if the port is free.
holder() {
  local inode found
  inode=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf ':%04X' "$1")" \
    '$4 == "0A" && substr($2, length($2) - 4) == port {print $10; exit}')
  [ -n "$inode" ] || return 0
  found=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" -print -quit 2>/dev/null | cut -d/ -f3 || true)
  printf '%s\n' "${found:--}"
}

# Whether a process is of the platform in the data directory: its daemon, or one of its jobs.
is_ours() {
  [ "$1" != - ] || return 1
  case $(readlink "/proc/$1/exe" || true) in "$data_dir"/*) return 0 ;; esac
  [ -e "$data_dir/host.redb" ] && grep -q ':/flynn/' "/proc/$1/cgroup" 2>/dev/null
}

told() {
  local words
  [ "$1" != - ] || { printf 'another program'; return 0; }
  mapfile -d '' -t words <"/proc/$1/cmdline" || true
  case $(readlink "/proc/$1/exe" || true) in
    */flynn-host*) printf 'another platform (%s)' "${words[*]:0:5}" ;;
    *) printf '%s (pid %s)' "$(cat "/proc/$1/comm")" "$1" ;;
  esac
}
