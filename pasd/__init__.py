"""PASD: pixel-aware stable diffusion (Yang et al., ECCV 2024, arXiv 2308.14469)."""

from ..common.bases import HF, RAIL, RAIL_PP, SD15
from ..common.method import Method, WeightFile
from ..common.sampling import without_noise
from ..common.schedule import Schedule
from ..common.state_dict import Signature
from .degradation import PRESETS
from .keys import CONTROL_EXPECTED, PAGE, UNET_EXPECTED, recognize
from .prompts import PROMPTS
from .sampling import twice_noised, unipc, unipc_timesteps

AUTHORS = f"{HF}/yangtao9009"
FILE = "diffusion_pytorch_model.safetensors"
RELEASES = {
    "pasd/checkpoint-100000": (f"{AUTHORS}/PASD/resolve/main", 4_400_000_000, 1_400_000_000),
    "pasd_light/checkpoint-120000": (f"{AUTHORS}/PASD/resolve/main", 3_600_000_000, 1_400_000_000),
    "pasd_color/checkpoint-180000": (f"{AUTHORS}/PASD/resolve/main", 4_400_000_000, 1_400_000_000),
    "PASD-SDXL/checkpoint-200000": (AUTHORS, 14_400_000_000, 5_000_000_000),
}
"""Below models/restoration: where from, bytes of the UNet and of the control network."""

METHOD = Method(
    name="pasd",
    title="PASD",
    files=(
        SD15,
        WeightFile(
            "toonyou_beta3.safetensors",
            f"{HF}/camenduru/AnimateDiff/resolve/main/toonyou_beta3.safetensors",
            "checkpoints",
            2_300_000_000,
            RAIL,
        ),
        WeightFile(
            "sd_xl_base_1.0.safetensors",
            f"{HF}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
            "checkpoints",
            6_900_000_000,
            RAIL_PP,
        ),
        *(
            WeightFile(
                f"{release}/{part}/{FILE}",
                f"{place}/{release}/{part}/{FILE}".replace("PASD-SDXL/", "PASD-SDXL/resolve/main/"),
                "restoration",
                size,
                "not stated; the code is Apache-2.0",
            )
            for release, (place, *sizes) in RELEASES.items()
            for part, size in zip(("unet", "controlnet"), sizes, strict=True)
        ),
    ),
    usual=(
        SD15.name,
        *(f"pasd/checkpoint-100000/{part}/{FILE}" for part in ("unet", "controlnet")),
    ),
    pages=(PAGE,),
    signatures=(
        Signature(
            ("controlnet_cond_embedding.to_rgbs.",),
            "PASD's control network",
            without=(".image_attentions.",),
            expected=CONTROL_EXPECTED,
        ),
        Signature(("pixel_attentions.",), "PASD's UNet", expected=UNET_EXPECTED),
        Signature(("attn2_plus.",), "PASD's light UNet", expected=UNET_EXPECTED),
    ),
    recognize=recognize,
    schedules=(
        Schedule("pasd_unipc", unipc_timesteps),
        Schedule("pasd_unipc_original", unipc_timesteps, ends_clean=False),
    ),
    samplers={"pasd_unipc": without_noise(unipc)},
    starts={"pasd": twice_noised},
    prompts=PROMPTS,
    presets=PRESETS,
)
