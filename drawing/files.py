"""The weight files that the shipped workflows name: where their authors publish them."""

from __future__ import annotations

HF = "https://huggingface.co"
KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"
PASD = f"{HF}/yangtao9009"
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
    "v1-5-pruned-emaonly-fp16.safetensors": (
        f"{HF}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"
        "v1-5-pruned-emaonly-fp16.safetensors",
        "checkpoints",
    ),
    "toonyou_beta3.safetensors": (
        f"{HF}/camenduru/AnimateDiff/resolve/main/toonyou_beta3.safetensors",
        "checkpoints",
    ),
    "sd_xl_base_1.0.safetensors": (
        f"{HF}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
        "checkpoints",
    ),
    **{
        f"{folder}/{part}/diffusion_pytorch_model.safetensors": (
            f"{PASD}/PASD/resolve/main/{folder}/{part}/diffusion_pytorch_model.safetensors",
            "restoration",
        )
        for folder in (
            "pasd/checkpoint-100000",
            "pasd_light/checkpoint-120000",
            "pasd_color/checkpoint-180000",
        )
        for part in ("unet", "controlnet")
    },
    **{
        f"PASD-SDXL/checkpoint-200000/{part}/diffusion_pytorch_model.safetensors": (
            f"{PASD}/PASD-SDXL/resolve/main/checkpoint-200000/{part}/"
            "diffusion_pytorch_model.safetensors",
            "restoration",
        )
        for part in ("unet", "controlnet")
    },
    "sd_turbo.safetensors": (
        f"{HF}/stabilityai/sd-turbo/resolve/main/sd_turbo.safetensors",
        "checkpoints",
    ),
    # The authors publish SeeSR and DAPE on drives without direct addresses; this is a mirror.
    **{
        f"seesr/{part}/diffusion_pytorch_model.safetensors": (
            f"{HF}/alexnasa/SEESR/resolve/main/{part}/diffusion_pytorch_model.safetensors",
            "restoration",
        )
        for part in ("unet", "controlnet")
    },
    "DAPE.pth": (f"{HF}/alexnasa/SEESR/resolve/main/DAPE.pth", "restoration"),
    "ram_swin_large_14m.pth": (
        f"{HF}/spaces/xinyu1205/recognize-anything/resolve/main/ram_swin_large_14m.pth",
        "restoration",
    ),
    **{
        name: (f"https://github.com/cswry/SeeSR/raw/main/ram/data/{name}", "restoration")
        for name in ("ram_tag_list.txt", "ram_tag_list_threshold.txt")
    },
}
"""Weight files as published: where from, and the model folder they go to."""

SIZES = {
    "v2-1_512-ema-pruned.safetensors": 5.2,
    "sd2.1-base-zsnr-laionaes5.ckpt": 5.2,
    "v1-5-pruned-emaonly-fp16.safetensors": 2.1,
    "toonyou_beta3.safetensors": 2.3,
    "sd_xl_base_1.0.safetensors": 6.9,
    "sd_turbo.safetensors": 5.2,
    "v2.pth": 1.5,
    "DiffBIR_v2.1.pt": 1.5,
    "BSRNet.pth": 0.07,
    "scunet_color_real_psnr.pth": 0.07,
    "realesrgan_s4_swinir_100k.pth": 0.09,
    "face_swinir_v1.ckpt": 0.09,
    "pasd/checkpoint-100000/unet/diffusion_pytorch_model.safetensors": 4.4,
    "pasd_light/checkpoint-120000/unet/diffusion_pytorch_model.safetensors": 3.6,
    "pasd_color/checkpoint-180000/unet/diffusion_pytorch_model.safetensors": 4.4,
    **{
        f"{folder}/controlnet/diffusion_pytorch_model.safetensors": 1.4
        for folder in (
            "pasd/checkpoint-100000",
            "pasd_light/checkpoint-120000",
            "pasd_color/checkpoint-180000",
        )
    },
    "PASD-SDXL/checkpoint-200000/unet/diffusion_pytorch_model.safetensors": 14.4,
    "PASD-SDXL/checkpoint-200000/controlnet/diffusion_pytorch_model.safetensors": 5.0,
    "seesr/unet/diffusion_pytorch_model.safetensors": 4.5,
    "seesr/controlnet/diffusion_pytorch_model.safetensors": 2.0,
    "DAPE.pth": 0.007,
    "ram_swin_large_14m.pth": 5.6,
}
"""About how many gigabytes: 4 bytes for each published parameter, or what its page says. A file in
half precision has half of it; those of less than a megabyte are left out."""


def size_of(name: str) -> str:
    """How large a file is, in words."""
    size = SIZES.get(name, 0)
    return f"{size:g} GB" if size >= 1 else f"{size * 1000:g} MB" if size else "< 1 MB"


def file_row(name: str) -> str:
    """A file in a workflow's note: where from, where to, how large."""
    address, folder = FILES[name]
    return f"- [{name}]({address}) → `models/{folder}` ({size_of(name)})"
