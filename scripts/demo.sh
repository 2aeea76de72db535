#!/usr/bin/env bash
# Restores a bundled photo, or the one given, and writes the result to output/demo.
# Usage: bash scripts/demo.sh [image] [--fidelity 0..1] [--reference FILE] [--output DIR] [--gpu]
set -euo pipefail

# shellcheck source=scripts/setup_env.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" demo
exec "$PYTHON" "$PACK_ROOT/scripts/demo.py" "$@"
