"""A whole method as one node: a photo in, the restored photo out. Inside is the method's recipe."""

from __future__ import annotations

from comfy_api.latest import io

from ..diffbir import recipe as diffbir
from ..host.expansion import raw
from ..host.restore_node import (
    RestoreNode,
    beside_the_photo,
    color_input,
    dials,
    prompt_input,
    sockets,
    tile_size_input,
    transparency_input,
    upscale_by_input,
    version_input,
    whole_method,
)
from ..host.schema import fidelity_slider
from ..onestep import recipe as onestep
from ..pasd import recipe as pasd
from ..seesr import recipe as seesr

WHERE = "Where to restore, painted on the photo. Not connected: everywhere."


def _of_diffbir() -> list[io.Input]:
    """What both nodes of DiffBIR begin with."""
    return [
        *sockets(
            "Stable Diffusion 2.1 (version v2), or DiffBIR's own base (v2.1)",
            raw("CONTROL_NET", "control_net", tooltip="From Load DiffBIR ControlNet."),
        ),
        version_input(
            list(diffbir.VERSIONS),
            "Of the control network. v2: 50 steps, cfg 4. v2.1: 10 steps, cfg 6, on a base "
            "of its own.",
        ),
        *dials(
            2.0,
            "It turns the control's strength, and above 0.5 blends the cleaned photo in; 1 "
            "is that alone.",
            "50, fast 20; v2.1: 10, fast 8",
            231,
            1024,
        ),
        color_input("wavelet", " Without effect at fidelity 1."),
    ]


def _stage1(name: str, tooltip: str) -> io.Input:
    """The socket of a network that cleans. tooltip: which one."""
    light = "Not connected: the light one that comes with the pack."
    return raw("UPSCALE_MODEL", name, optional=True, tooltip=f"{tooltip} {light}")


class RestoreWithDiffBIR(RestoreNode):
    """DiffBIR's two stages."""

    recipe = staticmethod(diffbir.recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return whole_method(
            "Restore with DiffBIR",
            "Restores a photo with DiffBIR: first noise, blur and compression are "
            "removed, then the missing detail is drawn. For badly damaged photos. The whole "
            "method as one node; the templates (all nodes) show what is inside.",
            "denoise, deblur",
            *_of_diffbir(),
            _stage1(
                "upscale_model",
                "The network that cleans first, from Load Upscale Model: BSRNet for "
                "photos, SCUNet for noise.",
            ),
            *beside_the_photo(WHERE),
            node_id="RestoreWithDiffBIR",
        )


class RestoreFacesWithDiffBIR(RestoreNode):
    """The photo, and every face in it by itself."""

    recipe = staticmethod(diffbir.faces_recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return whole_method(
            "Restore Faces with DiffBIR",
            "Restores a photo and, by itself and at full size, every face in it: faces "
            "are cut out upright, restored with a network for faces, and pasted back with a soft "
            "edge. A photo without a face is restored all the same.",
            "face restore, portrait",
            *_of_diffbir(),
            _stage1(
                "upscale_model",
                "The network that cleans the photo first, from Load Upscale Model: BSRNet.",
            ),
            _stage1(
                "face_model",
                "The network that cleans the faces first, from Load Upscale Model: face_swinir_v1.",
            ),
            *beside_the_photo(
                "Faces painted by hand, one area each from hairline to chin. Not connected or "
                "empty: they are found (which needs OpenCV and a file of 0.2 MB)."
            ),
            node_id="RestoreFacesWithDiffBIR",
        )


class RestoreWithPASD(RestoreNode):
    """PASD's one stage."""

    recipe = staticmethod(pasd.recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return whole_method(
            "Restore with PASD",
            "Restores, enlarges, stylizes or colorizes a photo with PASD: the photo "
            "steers Stable Diffusion at every pixel. The whole method as one node; the template "
            "(all nodes) shows what is inside.",
            "colorize, stylize, colorize photo, black and white",
            *sockets(
                "Stable Diffusion 1.5 or any checkpoint made from it, which then gives the "
                "style; SDXL for pasd_sdxl",
                raw("PASD_MODEL", "pasd_model", tooltip="From Load PASD."),
            ),
            version_input(
                list(pasd.VERSIONS),
                "Of the files in Load PASD. pasd: also for the light ones; 20 steps, cfg 9. "
                "pasd_color: colorizes a gray photo, whose brightness stays. pasd_sdxl: 25 "
                "steps, cfg 7, worked on at 1280 pixels or more. pasd_lcm: pasd in 4 steps without "
                "guidance; needs the LCM-LoRA on `model`, by Load LoRA.",
            ),
            *dials(
                2.0,
                "It turns the strength of PASD, and how far the photo is noised at the start. "
                "With another checkpoint, lower is more style.",
                "20, fast 10; pasd_sdxl: 25, fast 12; pasd_lcm: 4",
                42,
                1024,
                "pasd_lcm",
            ),
            color_input("wavelet", " Without effect for pasd_color."),
            *(
                raw("STRING", name, optional=True, tooltip=f"From High-Level Prompt: {what}.")
                for name, what in (
                    ("classes", "what a classifier sees"),
                    ("objects", "what a detector counts"),
                    ("caption", "a sentence about the photo"),
                )
            ),
            *beside_the_photo(WHERE),
            node_id="RestoreWithPASD",
        )


class RestoreWithSeeSR(RestoreNode):
    """SeeSR with its tagger."""

    recipe = staticmethod(seesr.recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return whole_method(
            "Restore with SeeSR",
            "Enlarges a damaged photo with SeeSR: a tagger says what is in it, in words "
            "and to the model's attention, so that the right things are drawn. The whole method as "
            "one node; the template (all nodes) shows what is inside.",
            "super resolution, tags",
            *sockets(
                "with the MODEL of Load SeeSR in place of the checkpoint's",
                raw("SEESR_MODEL", "seesr_model", tooltip="From Load SeeSR."),
                raw("DAPE_MODEL", "dape_model", tooltip="From Load DAPE, the tagger."),
            ),
            version_input(
                list(seesr.VERSIONS),
                "seesr: 50 steps, cfg 5.5, on Stable Diffusion 2.1. seesr_turbo: 2 steps "
                "without guidance, on SD-Turbo.",
            ),
            *dials(
                4.0,
                "It turns the strength of SeeSR.",
                "50, fast 20; seesr_turbo: 2",
                231,
                768,
                "seesr_turbo",
            ),
            color_input("adain"),
            raw(
                "DAPE_MODEL",
                "tile_tagger",
                optional=True,
                tooltip="The tagger once more: it then looks at every tile by itself. Not "
                "connected: all tiles share what it saw in the whole photo, as the authors do.",
            ),
            *beside_the_photo(WHERE),
            node_id="RestoreWithSeeSR",
        )


SD21 = "Stable Diffusion 2.1 base"


def _onestep(file: str) -> io.Input:
    return raw("ONESTEP_MODEL", "onestep_model", tooltip=f"From Load One-Step Restorer: {file}.")


def _decode_vae() -> io.Input:
    return raw(
        "VAE",
        "decode_vae",
        optional=True,
        tooltip="A VAE that decodes in place of `vae`. TAESD, from Load VAE, is much faster and "
        "softens the finest detail. Not connected: `vae`, as the authors do.",
    )


class RestoreWithOSEDiff(RestoreNode):
    """OSEDiff's one step."""

    recipe = staticmethod(onestep.osediff_recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return whole_method(
            "Restore with OSEDiff",
            "Restores and enlarges a photo with OSEDiff in one step of the network, guided by what "
            "is in it: your words, or a tagger's. The whole method as one node; the template (all "
            "nodes) shows what is inside.",
            "one step, fast, super resolution",
            *sockets(SD21, _onestep("osediff.pkl, or osediff_face.pkl for a single upright face")),
            upscale_by_input(4.0),
            fidelity_slider("Above 0.5 it blends the enlarged photo in; below it does nothing."),
            prompt_input(
                "Stands behind the tagger's tags, or alone; empty is fine beside a tagger."
            ),
            tile_size_input(768),
            color_input("adain", " Without effect at fidelity 1."),
            raw(
                "DAPE_MODEL",
                "dape_model",
                optional=True,
                tooltip="From Load DAPE: tags the photo by itself, as the authors do. Not "
                "connected: `prompt` alone says what is in it.",
            ),
            transparency_input(),
            _decode_vae(),
            node_id="RestoreWithOSEDiff",
        )


class RestoreWithPiSASR(RestoreNode):
    """PiSA-SR's one step and two dials."""

    recipe = staticmethod(onestep.pisasr_recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return whole_method(
            "Restore with PiSA-SR",
            "Restores and enlarges a photo with PiSA-SR in one step of the network, with a dial for "
            "the removal of damage and one for new detail. The quickest to set up: a base "
            "checkpoint and one file of 32 MB. The whole method as one node; the template (all "
            "nodes) shows what is inside.",
            "one step, fast, super resolution",
            *sockets(SD21, _onestep("pisa_sr.pkl")),
            upscale_by_input(4.0),
            fidelity_slider("It turns lambda_sem, from one and a half times its value to 0."),
            prompt_input("The authors leave it empty."),
            io.Float.Input(
                "lambda_pix",
                default=1.0,
                min=0.0,
                max=2.0,
                step=0.01,
                tooltip="How much damage is removed. 1 is the authors'. Higher removes more and "
                "finally smooths too much.",
            ),
            io.Float.Input(
                "lambda_sem",
                default=1.0,
                min=0.0,
                max=2.0,
                step=0.01,
                tooltip="How much detail is drawn. 1 is the authors'. Higher draws more and "
                "finally invents; 0 draws none. Where the two dials differ the network runs twice.",
            ),
            tile_size_input(768),
            color_input("adain"),
            *beside_the_photo(
                "Where detail is drawn, painted on the photo; damage is removed everywhere. Not "
                "connected: everywhere."
            ),
            _decode_vae(),
            node_id="RestoreWithPiSASR",
        )


NODES: list[type[io.ComfyNode]] = [
    RestoreWithPiSASR,
    RestoreWithOSEDiff,
    RestoreWithPASD,
    RestoreWithDiffBIR,
    RestoreWithSeeSR,
    RestoreFacesWithDiffBIR,
]
