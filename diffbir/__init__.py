"""DiffBIR (Lin et al. 2023, arXiv 2308.15070)."""

from ..common.bases import HF, RAIL_PP, SD21
from ..common.method import Method, WeightFile
from ..common.sampling import embedded_picture, spaced_ddpm, without_noise
from ..common.schedule import Schedule
from ..common.state_dict import Signature
from .degradation import PRESETS
from .keys import EXPECTED, PAGE, recognize
from .prompts import PROMPTS
from .sampling import (
    ddim_timesteps,
    dpm_solver_m2,
    dpm_solver_timesteps,
    edm_timesteps,
    spaced_timesteps,
)

V2 = f"{HF}/lxq007/DiffBIR-v2/resolve/main"

METHOD = Method(
    name="diffbir",
    title="DiffBIR",
    files=(
        SD21,
        WeightFile(
            "sd2.1-base-zsnr-laionaes5.ckpt",
            f"{V2}/sd2.1-base-zsnr-laionaes5.ckpt",
            "checkpoints",
            5_200_000_000,
            RAIL_PP,
        ),
        WeightFile("v2.pth", f"{V2}/v2.pth", "controlnet", 1_500_000_000, "Apache-2.0"),
        WeightFile(
            "DiffBIR_v2.1.pt", f"{V2}/DiffBIR_v2.1.pt", "controlnet", 1_500_000_000, "Apache-2.0"
        ),
    ),
    usual=(SD21.name, "v2.pth", "BSRNet.pth"),
    pages=(PAGE,),
    signatures=(
        Signature(
            ("control_model.zero_convs.", "preprocess_model."),
            "a whole DiffBIR v1 model",
            expected=EXPECTED,
        ),
        Signature(
            ("zero_convs.", "input_blocks."),
            "a DiffBIR control network",
            without=("input_hint_block.", "control_model."),
            expected=EXPECTED,
        ),
    ),
    recognize=recognize,
    schedules=(
        Schedule("diffbir_spaced", spaced_timesteps),
        Schedule("diffbir_edm", edm_timesteps),
        Schedule("diffbir_ddim", ddim_timesteps, ends_clean=False),
        Schedule("diffbir_dpmpp_m2", dpm_solver_timesteps, ends_clean=False),
    ),
    samplers={"diffbir_spaced": spaced_ddpm, "diffbir_dpmpp_m2": without_noise(dpm_solver_m2)},
    starts={"diffbir": embedded_picture},
    prompts=PROMPTS,
    presets=PRESETS,
)
