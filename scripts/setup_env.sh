# Sourced by demo.sh, test.sh and bench.sh: builds .venv when needed and sets PACK_ROOT and PYTHON.
# Usage: source scripts/setup_env.sh demo|test   (RESTORATION_PYTHON picks the interpreter)
# shellcheck shell=bash

PACK_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

find_python() {
    local candidate
    for candidate in "${RESTORATION_PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "Python 3.10 or newer is needed and none was found; set RESTORATION_PYTHON." >&2
    return 1
}

SETUP_PYTHON="$(find_python)"
"$SETUP_PYTHON" "$PACK_ROOT/scripts/setup_env.py" "$1"
PYTHON="$PACK_ROOT/.venv/bin/python"
[ -x "$PYTHON" ] || PYTHON="$PACK_ROOT/.venv/Scripts/python.exe"
# shellcheck disable=SC2034  # used by the scripts that source this file
export PACK_ROOT PYTHON
