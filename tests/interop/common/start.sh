# What the runs beside this folder share. Sourced, not run; it ends what it started, and leaves environments in the user's cache alone.
common="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
here="$(cd "$(dirname "$0")" && pwd)"
repository="$(cd "$common/../../.." && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/token-broker"
mkdir -p "$cache"
work="$(mktemp -d)"
children=()

# Each is asked to end, and after five seconds is ended.
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
            [ -s "$log" ] && echo "--- the end of ${log##*/}" && tail -n 20 "$log"
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

# python_environment NAME REQUIREMENTS: a virtual environment with these, installed on first use; sets `python`.
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

# node_environment NAME PACKAGE_JSON: its packages, installed on first use; sets `modules`. npm brings the Node that they want.
node_environment() {
    local folder="$cache/interop-$1-node"
    if ! cmp -s "$2" "$folder/installed.json"; then
        command -v npm >/dev/null || missing "npm: apt-get install npm, or Node by https://nodejs.org"
        echo "installing what ${2#"$repository/"} names"
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$2" "$folder/package.json"
        (cd "$folder" && npm install --no-audit --no-fund --no-package-lock --loglevel=error)
        cp "$2" "$folder/installed.json"
    fi
    modules="$folder/node_modules"
}

# start NAME COMMAND...: in the background, its output in a log that is shown if the run fails.
start() {
    local name=$1
    shift
    : >"$work/$name.log"
    "$@" >>"$work/$name.log" 2>&1 </dev/null &
    children+=($!)
}

# wait_for WHAT COMMAND...: until the command succeeds, for 30 seconds.
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

# start_gateway UPSTREAM [PUBLIC_ORIGIN]: INTEROP_GATEWAY, or the gateway as it is now; sets `gateway` (its MCP endpoint), `audit` (its log) and `control`.
start_gateway() {
    local binary="${INTEROP_GATEWAY:-}"
    if [ -z "$binary" ]; then
        (cd "$repository" && cargo build --locked --quiet -p token-broker-tests --bin interop_gateway)
        binary="${CARGO_TARGET_DIR:-$repository/target}/debug/interop_gateway"
    fi
    TMPDIR="$work" start gateway "$binary" "$@"
    wait_for "the gateway" grep -q '^CONTROL' "$work/gateway.log"
    gateway="$(sed -n 's/^LISTENING //p' "$work/gateway.log")"
    audit="$(sed -n 's/^AUDIT //p' "$work/gateway.log")"
    control="$(sed -n 's/^CONTROL //p' "$work/gateway.log")"
}

# broker_token PERSON SCOPES
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

# start_server FILE: an MCP server in Python, by `$python`, behind the gateway; sets `seen` (what reached it) beside what start_gateway sets.
start_server() {
    local port
    port="$(free_port)"
    seen="$work/seen"
    : >"$seen"
    start server "$python" "$1" "$port" "$seen"
    wait_for "the server" listens "$port"
    start_gateway "http://127.0.0.1:$port/mcp"
}

# start_items: that of the official Python SDK, `items.py`.
start_items() {
    python_environment items "$common/items.txt"
    start_server "$common/items.py"
}
