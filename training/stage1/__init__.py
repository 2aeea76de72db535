"""The bundled light restoration model: weights, and the scripts that train it from synthetic images.

`weights.safetensors` is a NAFNet (Chen et al. 2022) that `spandrel` recognises by its keys. Nothing
is imported here: `generate`, `degrade` and `train` are only needed to train it again.
"""
