"""What ComfyUI itself says in Chinese, as far as our texts lean on it.

`tests/browser/test_first_hour.py` holds this to be what the front end says.
"""

from __future__ import annotations

import re

CATEGORIES = {"guidance": "引导", "sampling": "采样", "training": "训练"}
"""Parts of our categories that core has too: its translation serves everybody and stays."""

NODES = {
    "BasicGuider": "基本引导器",
    "CFGGuider": "CFG引导器",
    "CLIPTextEncode": "CLIP文本编码",
    "CheckpointLoaderSimple": "Checkpoint加载器（简易）",
    "ConditioningSetArea": "条件采样区域",
    "ConditioningSetMask": "条件遮罩",
    "ControlNetApplySD3": "应用ControlNet",
    "DisableNoise": "禁用噪波",
    "DualCFGGuider": "双CFG引导器",
    "GrowMask": "扩展遮罩",
    "ImageCompare": "图像对比",
    "InvertMask": "反转遮罩",
    "KSampler": "K采样器",
    "KSamplerAdvanced": "K采样器（高级）",
    "KSamplerSelect": "K采样器选择",
    "LoadImage": "加载图像",
    "LoraLoader": "加载LoRA",
    "LossGraphNode": "绘制损失图",
    "ModelMergeSimple": "模型融合（简易）",
    "ModelSamplingDiscrete": "采样算法（离散）",
    "PreviewAny": "预览任意",
    "RandomNoise": "随机噪波",
    "RebatchImages": "重设图像批次",
    "SamplerCustom": "自定义采样器",
    "SamplerCustomAdvanced": "自定义采样器（高级）",
    "SamplerEulerAncestral": "EulerAncestral采样器",
    "SelfAttentionGuidance": "SAG自注意力引导",
    "UpscaleModelLoader": "加载放大模型",
    "VAEDecode": "VAE解码",
    "VAEDecodeTiled": "VAE解码（分块）",
    "VAEEncode": "VAE编码",
    "VAEEncodeTiled": "VAE编码分块）",
    "VAELoader": "加载VAE",
}
"""Display names of core's nodes that our help, tooltips and notes refer to."""


def plain(name: str) -> str:
    """A display name without the spaces and brackets that core sets now so, now so."""
    return re.sub(r"[\s（）()]", "", name)


def quoted(text: str) -> set[str]:
    """The names in “...”, which our Chinese texts keep for nodes."""
    return {plain(name) for name in re.findall("“([^”]*)”", text)}
