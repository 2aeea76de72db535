#!/usr/bin/env bash
# Lint, types and every test tier that this machine allows, on the oldest and the newest ComfyUI.
# Usage: bash scripts/test.sh [--all | --changed [REV]] [pytest arguments]
set -euo pipefail

# shellcheck source=scripts/setup_env.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" test
exec "$PYTHON" "$PACK_ROOT/scripts/run_tests.py" "$@"
