"""Commands around the pack that need no ComfyUI: `python -m tools --help` in the pack's folder."""
