"""DreamBooth (Ruiz et al. 2023): a whole Stable Diffusion model learns a subject or a style; the base for
StyleID."""
