"""Trains the bundled light restoration model, stage1/weights.safetensors, from synthetic images."""
