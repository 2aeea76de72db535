"""Stage 1, a deterministic restorer before diffusion, and the bundled light model."""
