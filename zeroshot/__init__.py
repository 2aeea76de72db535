"""Zero-shot restoration: a known degradation guides any model (DDNM)."""
