"""What an App calls the widgets that it shows: plain words, by language."""

from __future__ import annotations

from .graph import Graph, Node

LABELS = {
    "image": {"en": "Your photo", "zh": "你的照片"},
    "fidelity": {"en": "Fidelity", "zh": "保真度"},
    "upscale_by": {"en": "Upscale by", "zh": "放大倍数"},
    "prompt": {"en": "What the photo shows", "zh": "照片里有什么"},
    "lambda_pix": {"en": "Remove damage", "zh": "去除损伤"},
    "lambda_sem": {"en": "Draw detail", "zh": "画出细节"},
    "ckpt_name": {"en": "Base model", "zh": "基础模型"},
    "unet_name": {"en": "Drawing network", "zh": "绘制网络"},
    "control_net_name": {"en": "Control network", "zh": "控制网络"},
    "model_name": {"en": "Cleaning network", "zh": "清理网络"},
    "Network for faces": {"en": "Cleaning of faces", "zh": "清理人脸的网络"},
    "onestep_name": {"en": "One-step network", "zh": "一步修复网络"},
    "ram_name": {"en": "Tagger (RAM)", "zh": "标签器（RAM）"},
    "dape_name": {"en": "Tagger for damage (DAPE)", "zh": "退化适配（DAPE）"},
}
"""By name of the input, or by title of a node that stands beside another of its kind."""


def label(graph: Graph, node: Node, name: str) -> str | None:
    """Of a widget that the App of a workflow shows, in English; None for all others."""
    if graph.all_nodes or all(name != other or node.id != each.id for each, other in graph.shown):
        return None
    return LABELS[node.title if node.title in LABELS else name]["en"]
