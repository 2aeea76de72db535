"""The only code beside nodes/ that imports ComfyUI."""
