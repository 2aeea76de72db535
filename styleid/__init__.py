"""StyleID (Chung, Hyun, Heo, CVPR 2024, arXiv 2312.09008): DDIM inversion and style injection."""
