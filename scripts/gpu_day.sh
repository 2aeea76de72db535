#!/usr/bin/env bash
# The first minutes on a CUDA card: checks, benches, and training of the light model, into a folder.
# Usage: bash scripts/gpu_day.sh FOLDER [--minutes 10] [--host COMFYUI] [--wheels DIR] [--cpu-dry-run]
#
# Nothing is downloaded. What this Python lacks is installed from the wheels beside the repository (or
# --wheels) into FOLDER; ComfyUI is taken from beside the repository, too (or --host). GPU_DAY_PYTHON
# picks the interpreter. Run again, it goes on where it stopped. docs/gpu_day.md has the rest.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec "${GPU_DAY_PYTHON:-python3}" "$here/gpu_day.py" "$@"
