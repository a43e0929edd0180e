# The example app of script/up; sourced by it.

# The example app, pushed as people push theirs. Once it was there, it is the user's to change or delete.
demo_app() {
  local flynn=("$bin/flynn" -c "$(cat "$data_dir/cluster")") repo=$data_dir/demo/hello
  if [ -e "$data_dir/demo/done" ]; then
    "${flynn[@]}" -a hello scale 2>/dev/null | grep -q 'web=[1-9]' || return 0
  fi
  if [ ! -d "$repo/.git" ]; then
    rm -rf "$repo"
    mkdir -p "$data_dir/demo"
    cp -r examples/hello "$repo"
    git -C "$repo" init -q -b master
    git -C "$repo" add -A
    git -C "$repo" -c user.name=flynn -c user.email=flynn@localhost commit -q -m 'The example app'
  fi
  "${flynn[@]}" apps | grep -qw hello || (cd "$repo" && "${flynn[@]}" create -y hello)
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
