"""The weight files that the shipped workflows name: where their authors publish them."""

from __future__ import annotations

HF = "https://huggingface.co"
KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"
FILES = {
    "v2-1_512-ema-pruned.safetensors": (
        f"{HF}/stabilityai/stable-diffusion-2-1-base/resolve/main/v2-1_512-ema-pruned.safetensors",
        "checkpoints",
    ),
    "sd2.1-base-zsnr-laionaes5.ckpt": (
        f"{HF}/lxq007/DiffBIR-v2/resolve/main/sd2.1-base-zsnr-laionaes5.ckpt",
        "checkpoints",
    ),
    "v2.pth": (f"{HF}/lxq007/DiffBIR-v2/resolve/main/v2.pth", "controlnet"),
    "DiffBIR_v2.1.pt": (f"{HF}/lxq007/DiffBIR-v2/resolve/main/DiffBIR_v2.1.pt", "controlnet"),
    "BSRNet.pth": (f"{KAIR}/BSRNet.pth", "upscale_models"),
    "scunet_color_real_psnr.pth": (f"{KAIR}/scunet_color_real_psnr.pth", "upscale_models"),
    "realesrgan_s4_swinir_100k.pth": (
        f"{HF}/lxq007/DiffBIR-v2/resolve/main/realesrgan_s4_swinir_100k.pth",
        "upscale_models",
    ),
    "face_swinir_v1.ckpt": (
        f"{HF}/lxq007/DiffBIR/resolve/main/face_swinir_v1.ckpt",
        "upscale_models",
    ),
    "face_detection_yunet_2023mar.onnx": (
        f"{HF}/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx",
        "restoration",
    ),
}
"""Weight files as published: where from, and the model folder they go to."""
