#!/usr/bin/env bash
# Runs one of the benches in bench/ with everything it needs.
# Usage: bash scripts/bench.sh NAME [arguments]      without a name: lists them
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
name="${1:-}"
if [ ! -f "$here/../bench/$name.py" ]; then
    [ -z "$name" ] || echo "There is no bench called $name." >&2
    echo "Usage: bash scripts/bench.sh NAME [arguments], with NAME one of:" >&2
    for file in "$here"/../bench/[!_]*.py; do
        echo "  $(basename "$file" .py)" >&2
    done
    exit 2
fi
shift
# shellcheck source=scripts/setup_env.sh
source "$here/setup_env.sh" test
exec "$PYTHON" "$PACK_ROOT/bench/$name.py" "$@"
