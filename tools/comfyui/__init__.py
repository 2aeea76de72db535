"""ComfyUI from outside: where it is, how to start it, how to drive it."""
