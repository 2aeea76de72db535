"""The sizes of the tagger RAM, and the tag lists it is published with."""

from __future__ import annotations

from dataclasses import dataclass

TAG_LISTS = {
    "ram_tag_list.txt": "5d96d2f7225527480ad773aaac76b6e5c08a18adf6eae9ca7d2ab923d5e7bd8b",
    "ram_tag_list_threshold.txt": "b6f81d0de1bc7f9c251af512c413eae976c77dbfbadf700d4e3d90510f4c6447",
}
"""sha256 of the lists that RAM is published with, one line for each row of `label_embed`: names, and
the probability above which each counts as seen. They lie beside this file."""

CLASSIFIER_URL = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
DETECTOR_URL = "https://huggingface.co/hustvl/yolos-tiny"
CAPTIONER_URL = "https://huggingface.co/Salesforce/blip-image-captioning-base"
"""What else can put a picture into words; no shipped workflow needs it."""

EMBED_WIDTH = 512
"""Width of the image embeddings, in the tagger and in every RCA."""


@dataclass(frozen=True)
class TaggerConfig:
    """RAM: a Swin backbone, a projection to the embeddings, and a decoder with one query for
    every label. The defaults are those of ram_swin_large_14m."""

    image_size: int = 384
    """Side of the picture that the network sees."""
    patch_size: int = 4
    embed_dim: int = 192
    """Channels of the first stage; every stage has twice those of the one before."""
    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (6, 12, 24, 48)
    window: int = 12
    labels: int = 4585
    query_width: int = 768
    query_heads: int = 4
    query_layers: int = 2
    query_feed_forward: int = 3072

    @property
    def backbone_width(self) -> int:
        return self.embed_dim * 2 ** (len(self.depths) - 1)


RAM = TaggerConfig()

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
