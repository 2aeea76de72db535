"""SeeSR (arXiv 2311.16518)."""
