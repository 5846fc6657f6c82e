# Shared by deploy/local/run, deploy/local/service and tests/run: messages, packages, builds. Sourced with $root set to
# the checkout. Everything that is fetched or built goes below $build.
# Exit status of the scripts: 2 when the user has to do something first, 1 when something failed.

build=${BQF_BUILD:-$root/build}
assume_yes=${assume_yes:-}

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename -- "$0"): $*"; exit 1; }
die_usage() { say "$(basename -- "$0"): $*"; exit 2; }

# The last lines of a log, set off from our own.
show_log() { [ -s "$1" ] && tail -n "${2:-15}" -- "$1" | sed 's/^/  | /' >&2; }

# quietly LOG WHAT COMMAND...: the command's output goes to LOG, and its end is shown if the command fails.
quietly() {
    local log=$1 what=$2; shift 2
    mkdir -p "$(dirname -- "$log")"
    "$@" >"$log" 2>&1 </dev/null && return
    show_log "$log" 30
    die "$what failed; all of its output is in $log"
}

# The first Python 3.13 that runs and can make virtual environments. A python3.13 on PATH may be a dead shim.
find_python() {
    local candidate
    for candidate in python3.13 python3 "$(pyenv root 2>/dev/null || echo "$HOME/.pyenv")"/versions/3.13.*/bin/python; do
        if "$candidate" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

require_python() {
    python=$(find_python) || die_usage "the BigQuery emulator needs Python 3.13, and none runs here: looked for python3.13 on PATH
and for pyenv's versions/3.13.*. Debian 13 has it in apt (python3.13-venv); on Debian 12 install it with pyenv:
    pyenv install 3.13"
}

can_ask() { [ -t 0 ] && [ -t 2 ] && [ -z "${CI:-}" ] && [ -z "$assume_yes" ]; }

# packages_missing GROUP...: the packages of these groups that are not installed, in the list's order.
packages_missing() {
    local name group wanted=" $* "
    while read -r name group; do
        case $name in '' | '#'*) continue ;; esac
        case $wanted in *" $group "*) ;; *) continue ;; esac
        if [ "$group" = emulator ]; then
            find_python >/dev/null && continue
            apt-cache show "$name" >/dev/null 2>&1 || continue
        fi
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || printf '%s\n' "$name"
    done <"$root/deploy/packages.txt"
}

# packages_require GROUP...: installs what is missing, or says what to install.
packages_require() {
    local missing answer=
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        say "No apt here, so packages are not checked; deploy/packages.txt lists them by their Debian names."
        return 0
    fi
    missing=$(packages_missing "$@" | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        die_usage "packages are missing, and only root can install them. As root:
    apt-get install -y --no-install-recommends $missing"
    fi
    if can_ask; then
        printf 'Missing packages: %s\nInstall them with apt-get? [Y/n] ' "$missing" >&2
        read -r answer || answer=n
        case $answer in '' | [Yy]*) ;; *) die_usage "nothing was installed" ;; esac
    fi
    say "Installing: $missing"
    quietly "$build/logs/apt-update.log" "apt-get update" apt-get update
    # shellcheck disable=SC2086 # one word per package
    quietly "$build/logs/apt-install.log" "apt-get install" \
        env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}

# build_tree FOLDER CMAKE_ARGUMENT...: configures when the arguments are new, builds always; output on the terminal only if it fails.
build_tree() {
    local folder=$build/$1 name=$1; shift
    say "Building $name ..."
    if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/options" 2>/dev/null)" != "$*" ]; then
        mkdir -p "$folder"
        cmake -G Ninja -S "$root" -B "$folder" "$@" >"$folder/configure.log" 2>&1 </dev/null ||
            { show_log "$folder/configure.log" 30; say "Configuring $name failed."; return 1; }
        echo "$*" >"$folder/options"
    fi
    ninja -C "$folder" >"$folder/build.log" 2>&1 </dev/null ||
        { show_log "$folder/build.log" 60; say "Building $name failed; all of the output is in $folder/build.log"; return 1; }
}
