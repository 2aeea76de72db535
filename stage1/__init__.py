"""Stage 1, a deterministic restorer before diffusion, and the bundled light model."""

from ..common.bases import HF
from ..common.method import Method, WeightFile
from .keys import SIGNATURES, recognize

KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"

METHOD = Method(
    name="stage1",
    title="stage 1",
    files=(
        WeightFile("BSRNet.pth", f"{KAIR}/BSRNet.pth", "upscale_models", 70_000_000, "MIT"),
        WeightFile(
            "scunet_color_real_psnr.pth",
            f"{KAIR}/scunet_color_real_psnr.pth",
            "upscale_models",
            70_000_000,
            "MIT",
        ),
        WeightFile(
            "realesrgan_s4_swinir_100k.pth",
            f"{HF}/lxq007/DiffBIR-v2/resolve/main/realesrgan_s4_swinir_100k.pth",
            "upscale_models",
            90_000_000,
            "Apache-2.0",
        ),
        WeightFile(
            "face_swinir_v1.ckpt",
            f"{HF}/lxq007/DiffBIR/resolve/main/face_swinir_v1.ckpt",
            "upscale_models",
            90_000_000,
            "believed non-commercial (S-Lab)",
        ),
    ),
    signatures=SIGNATURES,
    recognize=recognize,
)
