# The example app of script/up, and waiting for what has to answer; sourced by it.

# The example app, pushed as people push theirs. Once it was there, it is the user's to change or delete.
demo_app() {
  local flynn=("$bin/flynn" -c "$(cat "$data_dir/cluster")") repo=$data_dir/demo/hello found counts
  found=$("${flynn[@]}" apps | awk '$2 == "hello"')
  if [ -e "$data_dir/demo/done" ]; then
    [ -n "$found" ] || return 0
    counts=$("${flynn[@]}" -a hello scale)
    grep -q 'web=[1-9]' <<<"$counts" || return 0
  fi
  if [ ! -d "$repo/.git" ]; then
    rm -rf "$repo"
    mkdir -p "$data_dir/demo"
    cp -r examples/hello "$repo"
    git -C "$repo" init -q -b master
    git -C "$repo" add -A
    git -C "$repo" -c user.name=flynn -c user.email=flynn@localhost commit -q -m 'The example app'
  fi
  [ -n "$found" ] || (cd "$repo" && "${flynn[@]}" create -y hello)
  "${flynn[@]}" -a hello release -q 2>/dev/null | grep -q . || git -C "$repo" push flynn master
  await_page
  touch "$data_dir/demo/done"
}

await_page() {
  for _ in $(seq 600); do
    curl -sf --max-time 2 "$page" && return 0
    sleep 0.1
  done
  printf '%s does not answer; the app has these processes:\n' "$page" >&2
  "$bin/flynn" -c "$(cat "$data_dir/cluster")" -a hello ps >&2
  return 1
}

# A platform that comes back after a crash takes a moment until router, controller and database answer.
await_controller() {
  local key
  key=$(cluster_line | sed 's/.* //')
  for _ in $(seq 600); do
    # The key is read from a file that is none: no process list shows it.
    curl -skf -o /dev/null --max-time 5 --config <(printf 'user = ":%s"\n' "$key") \
      --connect-to '::127.0.0.1:' "https://controller.$domain:$https_port/apps" && return 0
    sleep 0.2
  done
  printf 'the controller does not answer; the host has these jobs:\n' >&2
  "$bin/flynn-host" --host-url http://127.0.0.1:1113 ps >&2
  return 1
}
