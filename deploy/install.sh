#!/bin/sh
# Make .venv as the lock file says, with uv if it is there or else with a uv of its own, and fetch what Kafka needs.
# TRACEFLOW_PYTHON names the interpreter; without it the newest supported one that really runs is taken.
set -eu
cd "$(dirname "$0")/.."

cache="${TRACEFLOW_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/traceflow}"

# A name on PATH proves nothing: pyenv puts shims there for versions that are not selected.
runs() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${TRACEFLOW_PYTHON:-}" ]; then
        runs "$TRACEFLOW_PYTHON" && { echo "$TRACEFLOW_PYTHON"; return; }
        echo "TRACEFLOW_PYTHON=$TRACEFLOW_PYTHON is no Python 3.11, 3.12 or 3.13 that runs" >&2
        return 1
    fi
    for candidate in .venv/bin/python python3 python3.13 python3.12 python3.11 python \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11*/bin/python; do
        runs "$candidate" && { echo "$candidate"; return; }
    done
    echo "no Python 3.11, 3.12 or 3.13 runs here: install one, or name it with TRACEFLOW_PYTHON" >&2
    return 1
}

find_uv() {
    for candidate in uv "$cache/uv/bin/uv"; do
        "$candidate" --version >/dev/null 2>&1 && { echo "$candidate"; return; }
    done
    "$1" -m venv "$cache/uv" >&2 || {
        echo "this Python cannot make environments: install its venv module (Debian: python3-venv), or uv" >&2
        return 1
    }
    "$cache/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv >&2
    echo "$cache/uv/bin/uv"
}

python=$(find_python)
# the interpreter itself: uv must not look for another one, and .venv may be made anew
python=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
uv=$(find_uv "$python")
"$uv" sync --frozen --python "$python" --no-python-downloads
.venv/bin/python -m deploy.runtime
touch .venv/installed
