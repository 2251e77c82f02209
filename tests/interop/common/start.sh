# Shared functions of the `run` scripts; they source this file. Stops what it has started on exit, and
# keeps installed environments in the user's cache.
common="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
here="$(cd "$(dirname "$0")" && pwd)"
repository="$(cd "$common/../../.." && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/token-broker"
mkdir -p "$cache"
work="$(mktemp -d)"
children=()

# Sends SIGTERM to each child, and SIGKILL after five seconds.
end_children() {
    local child
    for child in "${children[@]}"; do
        kill "$child" 2>/dev/null || continue
        for _ in $(seq 50); do
            kill -0 "$child" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    children=()
}

finish() {
    local code=$?
    end_children
    if [ "$code" -ne 0 ]; then
        for log in "$work"/*.log; do
            [ -s "$log" ] && echo "--- last lines of ${log##*/}" && tail -n 20 "$log"
        done
    fi
    rm -rf "$work"
}
trap finish EXIT

missing() {
    echo "missing: $1"
    exit 1
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# python_environment NAME REQUIREMENTS: installs a virtual environment on first use; sets `python`.
python_environment() {
    local venv="$cache/interop-$1"
    if ! cmp -s "$2" "$venv/installed.txt"; then
        echo "installing $(tr '\n' ' ' <"$2")"
        rm -rf "$venv"
        python3 -m venv "$venv" || missing "Python's venv: apt-get install python3-venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$2"
        cp "$2" "$venv/installed.txt"
    fi
    python="$venv/bin/python"
}

# node_environment NAME PACKAGE_JSON: installs packages on first use; sets `modules`. npm installs the
# Node version that they need.
node_environment() {
    local folder="$cache/interop-$1-node"
    if ! cmp -s "$2" "$folder/installed.json"; then
        command -v npm >/dev/null || missing "npm: apt-get install npm, or Node by https://nodejs.org"
        echo "installing the packages of ${2#"$repository/"}"
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$2" "$folder/package.json"
        (cd "$folder" && npm install --no-audit --no-fund --no-package-lock --loglevel=error)
        cp "$2" "$folder/installed.json"
    fi
    modules="$folder/node_modules"
}

# find_chromium: installs Chromium if it is missing; sets `CHROMIUM`.
find_chromium() {
    if ! command -v chromium >/dev/null; then
        [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || missing "Chromium: apt-get install chromium"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    fi
    CHROMIUM="$(command -v chromium)"
    export CHROMIUM
}

# find_broker: sets `INTEROP_BROKER`, the program, unless it is set; builds it.
find_broker() {
    if [ -z "${INTEROP_BROKER:-}" ]; then
        (cd "$repository" && cargo build --locked --quiet -p token-broker --bin token-broker)
        INTEROP_BROKER="${CARGO_TARGET_DIR:-$repository/target}/debug/token-broker"
    fi
    export INTEROP_BROKER
}

# start NAME COMMAND...: runs a command in the background; its log is shown if the run fails.
start() {
    local name=$1
    shift
    : >"$work/$name.log"
    "$@" >>"$work/$name.log" 2>&1 </dev/null &
    children+=($!)
}

# wait_for NAME COMMAND...: repeats a command until it succeeds, for up to 30 seconds.
wait_for() {
    local what=$1
    shift
    for _ in $(seq 300); do
        "$@" 2>/dev/null && return
        sleep 0.1
    done
    echo "$what did not start"
    return 1
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1")
}

# start_gateway UPSTREAM [PUBLIC_ORIGIN]: starts INTEROP_GATEWAY, or builds and starts the gateway;
# sets `gateway` (MCP endpoint), `audit` (log file) and `control` (control server). If
# `gateway_allows` is an origin, its pages may use the gateway.
start_gateway() {
    local binary="${INTEROP_GATEWAY:-}"
    if [ -z "$binary" ]; then
        (cd "$repository" && cargo build --locked --quiet -p token-broker-tests --bin interop_gateway)
        binary="${CARGO_TARGET_DIR:-$repository/target}/debug/interop_gateway"
    fi
    TMPDIR="$work" start gateway "$binary" "$@" \
        ${gateway_allows:+--allow-origin "$gateway_allows"}
    wait_for "the gateway" grep -q '^CONTROL' "$work/gateway.log"
    gateway="$(sed -n 's/^LISTENING //p' "$work/gateway.log")"
    audit="$(sed -n 's/^AUDIT //p' "$work/gateway.log")"
    control="$(sed -n 's/^CONTROL //p' "$work/gateway.log")"
}

# broker_token USER SCOPES: prints a new broker token.
broker_token() {
    python3 - "$control" "$@" <<'PYTHON'
import sys, urllib.parse, urllib.request
control, user, scope = sys.argv[1:]
query = urllib.parse.urlencode({"user": user, "scope": scope})
print(urllib.request.urlopen(f"{control}/token?{query}", data=b"", timeout=10).read().decode())
PYTHON
}

UPSTREAM_TOKEN="tbm-$(python3 -c 'import secrets; print(secrets.token_hex(24))')"
export UPSTREAM_TOKEN

# start_server FILE: starts an MCP server with `$python` and a gateway in front of it; sets `seen` (the
# server's log of requests) and the variables of start_gateway.
start_server() {
    local port
    port="$(free_port)"
    seen="$work/seen"
    : >"$seen"
    start server "$python" "$1" "$port" "$seen"
    wait_for "the server" listens "$port"
    start_gateway "http://127.0.0.1:$port/mcp"
}

# start_items: starts `items.py`, an MCP server of the official Python SDK.
start_items() {
    python_environment items "$common/items.txt"
    start_server "$common/items.py"
}
