"""SeeSR (arXiv 2311.16518). Its place in the house; nothing is here yet."""
