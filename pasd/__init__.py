"""PASD: pixel-aware stable diffusion."""
