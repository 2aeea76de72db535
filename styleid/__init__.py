"""StyleID (CVPR 2024). Its place in the house; nothing is here yet."""
