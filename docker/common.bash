# Functions that the scripts of this folder share: find the client, ask the engine, print messages.

# Root of the checkout.
# shellcheck disable=SC2034  # scripts that source this file use it
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

# Run a command, and show its output only if it fails.
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

# Clients before 23 have BuildKit built in; later ones need the buildx plugin, which a standalone client may lack.
_has_buildkit() {
    local major
    "$1" buildx version >/dev/null 2>&1 && return 0
    major=$("$1" --version 2>/dev/null | sed -n 's/^Docker version \([0-9]*\).*/\1/p')
    [[ -n $major && $major -lt 23 ]]
}

# Print the client to use: $DOCKER if it is set, else the first on PATH that can build with BuildKit.
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
