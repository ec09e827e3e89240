# What the scripts of this folder share: which client, whether an engine answers, how to say things.

# Root of the checkout, wherever the script was called from.
# shellcheck disable=SC2034  # for those who source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# Run a command with its output in a file, which is shown only when the command fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# Clients before 23 have BuildKit built in; later ones only with the buildx plugin, which a standalone
# client on PATH may lack.
_has_buildkit() {
    local major
    "$1" buildx version >/dev/null 2>&1 && return 0
    major=$("$1" --version 2>/dev/null | sed -n 's/^Docker version \([0-9]*\).*/\1/p')
    [[ -n $major && $major -lt 23 ]]
}

# The client to use: $DOCKER where set, else the first on PATH that can build with BuildKit.
docker_client() {
    local client
    if [[ -n ${DOCKER:-} ]]; then
        command -v "$DOCKER"
        return
    fi
    while read -r client; do
        if _has_buildkit "$client"; then
            printf '%s\n' "$client"
            return
        fi
    done < <(type -ap docker)
    return 1
}

engine_answers() {
    local client
    client=$(docker_client) && timeout 20 "$client" info >/dev/null 2>&1
}

apt_install() {
    [[ $(id -u) -eq 0 ]] || fail "$* must be installed, and only root may: sudo apt-get install $*"
    command -v apt-get >/dev/null || fail "$* must be installed, and there is no apt-get here"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get install -y --no-install-recommends "$@" && return
    quietly apt-get update && quietly apt-get install -y --no-install-recommends "$@"
}
