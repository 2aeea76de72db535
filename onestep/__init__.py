"""One-step restorers: OSEDiff (Wu et al., NeurIPS 2024, arXiv 2406.08177) and PiSA-SR (Sun et al., CVPR
2025, arXiv 2412.03017)."""

from ..common.bases import SD21
from ..common.method import Method, WeightFile
from ..common.state_dict import Signature
from .config import TITLES
from .keys import EXPECTED, OSEDIFF_PAGE, PISASR_PAGE, UNET, VAE, recognize
from .prompts import PROMPTS

RAW = "https://raw.githubusercontent.com/cswry/OSEDiff/main/preset/models"
PISASR_DRIVE = "https://drive.google.com/drive/folders/1oLetijWNd59xwJE5oU-eXylQBifxWdss"
S3DIFF = "state_dict_unet_de_mlp."

METHOD = Method(
    name="onestep",
    title="OSEDiff and PiSA-SR",
    files=(
        SD21,
        WeightFile("osediff.pkl", f"{RAW}/osediff.pkl", "restoration", 17_700_000, "Apache-2.0"),
        WeightFile(
            "osediff_face.pkl", f"{RAW}/osediff_face.pkl", "restoration", 17_700_000, "Apache-2.0"
        ),
        WeightFile(
            "pisa_sr.pkl",
            PISASR_DRIVE,
            "restoration",
            32_400_000,
            "Apache-2.0 by its README; the LICENSE file that it names is missing",
            how=f"Its authors publish it on Google Drive and Baidu: open {PISASR_DRIVE} in a browser, "
            f"or follow the links at {PISASR_PAGE}, and take pisa_sr.pkl.",
        ),
    ),
    usual=(SD21.name, "pisa_sr.pkl"),
    pages=(OSEDIFF_PAGE, PISASR_PAGE),
    signatures=(
        Signature((S3DIFF,), "the file of S3Diff, a one-step method that this pack does not have"),
        Signature(
            (f"{UNET}conv_in.lora_A.default_encoder_pix",),
            f"the adapters of {TITLES['pisasr']}",
            expected=EXPECTED["pisasr"],
        ),
        Signature(
            (f"{UNET}conv_in.lora_A.default_encoder.", f"{VAE}encoder.conv_in.lora_A."),
            f"the adapters of {TITLES['osediff']}",
            expected=EXPECTED["osediff"],
        ),
    ),
    recognize=recognize,
    prompts=PROMPTS,
)
