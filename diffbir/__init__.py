"""DiffBIR (Lin et al. 2023, arXiv 2308.15070): configuration, checkpoints and its own maths."""
