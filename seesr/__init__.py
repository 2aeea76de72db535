"""SeeSR (Wu et al., CVPR 2024, arXiv 2311.16518)."""

from ..common.bases import HF, SD21
from ..common.method import Method, WeightFile
from ..common.sampling import embedded_picture, spaced_ddpm
from ..common.schedule import Schedule
from ..common.state_dict import Signature
from .degradation import PRESETS
from .keys import CONTROL_EXPECTED, PAGE, UNET_EXPECTED, recognize
from .prompts import PROMPTS
from .sampling import leading_timesteps, trailing_timesteps

FILE = "diffusion_pytorch_model.safetensors"
# The authors publish on drives without direct addresses; this is a mirror.
MIRROR = f"{HF}/alexnasa/SEESR/resolve/main"

METHOD = Method(
    name="seesr",
    title="SeeSR",
    files=(
        SD21,
        WeightFile(
            "sd_turbo.safetensors",
            f"{HF}/stabilityai/sd-turbo/resolve/main/sd_turbo.safetensors",
            "checkpoints",
            5_200_000_000,
            "Stability AI's own, which may ask for a paid license",
        ),
        WeightFile(
            f"seesr/unet/{FILE}",
            f"{MIRROR}/unet/{FILE}",
            "restoration",
            4_500_000_000,
            "Apache-2.0",
        ),
        WeightFile(
            f"seesr/controlnet/{FILE}",
            f"{MIRROR}/controlnet/{FILE}",
            "restoration",
            2_000_000_000,
            "Apache-2.0",
        ),
    ),
    usual=(
        SD21.name,
        f"seesr/unet/{FILE}",
        f"seesr/controlnet/{FILE}",
        "ram_swin_large_14m.pth",
        "DAPE.pth",
    ),
    pages=(PAGE,),
    signatures=(
        Signature(
            ("controlnet_cond_embedding.", "image_attentions."),
            "SeeSR's control network",
            expected=CONTROL_EXPECTED,
        ),
        Signature(
            ("up_blocks.", "image_attentions."),
            "SeeSR's UNet",
            without=("controlnet_cond_embedding.",),
            expected=UNET_EXPECTED,
        ),
    ),
    recognize=recognize,
    schedules=(
        Schedule("seesr_ddpm", leading_timesteps),
        Schedule("seesr_turbo", trailing_timesteps),
    ),
    samplers={"seesr_ddpm": spaced_ddpm},
    starts={"seesr": embedded_picture},
    prompts=PROMPTS,
    presets=PRESETS,
)
