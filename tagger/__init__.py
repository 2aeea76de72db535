"""The tagger RAM with DAPE (SeeSR), and what else puts a picture into words."""

from ..common.bases import HF
from ..common.method import Method, WeightFile
from ..common.state_dict import Signature
from .config import CAPTIONER_URL, CLASSIFIER_URL, DETECTOR_URL
from .keys import DAPE_FILE, DAPE_PAGE, RAM_FILE, RAM_PAGE, recognize

METHOD = Method(
    name="tagger",
    title="the tagger",
    files=(
        WeightFile(
            "DAPE.pth",
            f"{HF}/alexnasa/SEESR/resolve/main/DAPE.pth",
            "restoration",
            7_000_000,
            "Apache-2.0",
        ),
        WeightFile(
            "ram_swin_large_14m.pth",
            f"{HF}/spaces/xinyu1205/recognize-anything/resolve/main/ram_swin_large_14m.pth",
            "restoration",
            5_600_000_000,
            "Apache-2.0",
        ),
    ),
    pages=(RAM_PAGE, DAPE_PAGE, CLASSIFIER_URL, DETECTOR_URL, CAPTIONER_URL),
    signatures=(
        Signature(
            ("visual_encoder.", ".lora_A"), "SeeSR's DAPE, a LoRA for RAM", expected=DAPE_FILE
        ),
        Signature(
            ("visual_encoder.", "tagging_head."),
            "the tagger RAM",
            without=(".lora_A",),
            expected=RAM_FILE,
        ),
        Signature(
            ("visual_encoder.", "vision_multi."),
            "the tagger RAM",
            without=(".lora_A",),
            expected=RAM_FILE,
        ),
    ),
    recognize=recognize,
)
