"""The workflow that trains."""

from __future__ import annotations

from ..graph import Graph
from ..notes import DIALS, files_note
from .pasd import FOLDERS, LIGHT

NODE = "Fine-Tune Restoration"


def pasd(g: Graph) -> None:
    g.note = (
        "# Fine-tune PASD on pictures of your own\n\nPASD's light networks learn a little more from "
        "clean pictures of your own kind, which are damaged at random: film scans, manga, microscopy. "
        "The network is saved and the loss is drawn. It takes a large card: 9.6 GB and activations.\n"
        "Choose a sharp picture in **Load Image**, press **Run**. One shows that it works; a dozen or "
        "more, from a node that loads a folder, teach something.\n\n"
        + files_note(g.name, *LIGHT.files, more=FOLDERS)
        + DIALS
        + f"- `steps` in *{NODE}*: 200. More learns more of your pictures, and forgets others.\n"
        f"- `learning_rate` in *{NODE}*: 0.00005, the authors'. Lower if the loss does not fall.\n"
        f"- `degradation` in *{NODE}*: whose damage; or connect damaged partners to `lq_images`.\n\n"
        "Then press **R**, and choose the new file as `unet_name` in *Load PASD* of another workflow, "
        "with `the same file` as `control_net_name`.\n"
    )
    with g.group("1  Your picture"):
        picture = g.add("LoadImage", image="example.png")
    with g.group("2  Models"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=LIGHT.base)
        network = g.add("PASDLoader", unet_name=LIGHT.unet, control_net_name=LIGHT.control)
        text = g.add("CLIPTextEncode", "What it shows", clip=base[1], text="")
        empty = g.folded("CLIPTextEncode", "Empty", clip=base[1], text="")
    with g.group("3  Learn"):
        learned = g.add(
            "RestorationFineTune",
            network=network[0],
            images=picture[0],
            model=base[0],
            vae=base[2],
            positive=text[0],
            empty_text=empty[0],
        )
    with g.group("4  Keep"):
        g.add("RestorationNetworkSave", network=learned[0], filename_prefix="finetuned/pasd")
        g.add("LossGraphNode", "Loss", loss=learned[1])


WORKFLOWS = {"finetune_pasd": ("4 Fine-tune PASD on pictures of your own", pasd)}
