#!/usr/bin/env bash
# Generated inputs and hostile files through nodes, prompts, weight files, loaders, pictures,
# workflows and manifests; bounded in time and memory. Exit code 1 when there are faults.
# Usage: bash scripts/fuzz.sh [--seconds 300] [--seed 0] [--campaign NAME ...] [--case NUMBER]
set -euo pipefail

# shellcheck source=scripts/setup_env.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" test
exec "$PYTHON" "$PACK_ROOT/tests/fuzz/run.py" "$@"
