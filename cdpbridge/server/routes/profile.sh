#!/bin/sh
# Brings the logins of a browser on this machine into a hosted profile:
#     export BROWSER_USE_API_KEY=... && curl -fsSL http://HOST/profile.sh | sh
# It asks for the browser, the domains and the profile. Arguments, after `sh -s --`, are those of `cdpbridge profiles sync`.
# CDPBRIDGE_PACKAGE names another package to install than `cdpbridge`, e.g. a wheel.

# All of it is a function, so that the shell has read the script to its end before the keyboard takes its place.
main() {
    set -eu
    case ${CDPBRIDGE_PROVIDER:-${CDPBRIDGE_BASE_URL:-local}} in
        local | '@SERVER@') ;;
        *) unset BROWSER_USE_API_KEY ;; # it was given for that server, and is not sent to this one
    esac
    export CDPBRIDGE_PROVIDER='@SERVER@'
    unset CDPBRIDGE_BASE_URL
    package=${CDPBRIDGE_PACKAGE:-cdpbridge}

    if (exec </dev/tty) 2>/dev/null; then
        exec </dev/tty
    fi
    if [ -z "${BROWSER_USE_API_KEY:-}" ]; then
        [ -t 0 ] || fail "set BROWSER_USE_API_KEY to a key of $CDPBRIDGE_PROVIDER first"
        trap 'stty echo' EXIT
        stty -echo
        printf 'Key of %s: ' "$CDPBRIDGE_PROVIDER" >&2
        IFS= read -r BROWSER_USE_API_KEY
        stty echo
        trap - EXIT
        echo >&2
        export BROWSER_USE_API_KEY
    fi

    if command -v cdpbridge >/dev/null 2>&1; then
        exec cdpbridge profiles sync "$@"
    elif command -v uvx >/dev/null 2>&1; then
        exec uvx --from "$package" cdpbridge profiles sync "$@"
    elif command -v pipx >/dev/null 2>&1; then
        exec pipx run --spec "$package" cdpbridge profiles sync "$@"
    elif command -v python3 >/dev/null 2>&1; then
        folder=$(mktemp -d)
        trap 'rm -rf "$folder"' EXIT INT TERM HUP
        python3 -m venv "$folder" || fail "python3 cannot make an environment here: install its venv package, or uv"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$package"
        "$folder/bin/cdpbridge" profiles sync "$@"
    else
        fail "uv, pipx or Python 3.11 is needed"
    fi
}

fail() {
    echo "profile.sh: $1" >&2
    exit 1
}

main "$@"
exit $?
