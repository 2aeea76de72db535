"""Pure tensor code shared by all methods: torch in, torch out, no ComfyUI."""
