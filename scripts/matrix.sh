#!/usr/bin/env bash
# Every apply node of ours with every core node that takes and gives a MODEL, in both orders, and
# all samplers with all schedulers, on small networks. Exit code 1 when there are faults.
# Usage: bash scripts/matrix.sh [--host PATH ...] [--ours NAME ...] [--theirs NAME ...] [--seed 0]
#                               [--only pairs|samplers] [--verbose]
set -euo pipefail

# shellcheck source=scripts/setup_env.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" test
exec "$PYTHON" "$PACK_ROOT/tests/matrix/run.py" "$@"
