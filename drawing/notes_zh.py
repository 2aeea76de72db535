"""The notes of the shipped workflows in Chinese, as the English ones in the workflows' modules.

Names in “...” are nodes as ComfyUI calls them in Chinese; titles that a workflow gives to a node
are English in every language and stand in *...*.
"""

from __future__ import annotations

from ..common.bases import SD15, SD21
from .files import file_rows, total

DIALS = "**最值得调的三个参数**\n\n"
CHOOSE = "在“加载图像”（Load Image）里选择照片，按**运行**（Run）。\n\n"
MASK_EDITOR = "**用遮罩编辑器打开**（Open in MaskEditor）"

DIFFBIR = "“用 DiffBIR 修复”（Restore with DiffBIR）"
FACES = "“用 DiffBIR 修复人脸”（Restore Faces with DiffBIR）"
PASD = "“用 PASD 修复”（Restore with PASD）"
SEESR = "“用 SeeSR 修复”（Restore with SeeSR）"
_HELD = "0.5 是作者的设置。越高越接近照片，越低越自由发挥。"


def files_note(workflow: str, *names: str, more: str = "") -> str:
    """What has to be there, and the command that fetches it. more: a sentence about the files."""
    return (
        f"**文件**，共 {total(names)}（也可在插件文件夹里运行 `python -m tools get {workflow}` 下载）："
        f"{file_rows(names, '，')}。{more}\n\n"
    )


def fidelity(node: str, more: str = "") -> str:
    """The first of the dials. node: whose it is. more: what it turns."""
    return f"- 保真度 `fidelity`，{node}：{_HELD}{more}\n"


def tiles(node: str, size: int) -> str:
    return (
        f"- 分块尺寸 `tile_size`，{node}：{size}。6 或 8 GB 显存用 512，12 GB 用 768，24 GB 用 1024"
        "（按 ComfyUI 自己的显存公式估算，并非实测）。\n"
    )


def upscale(node: str, factor: str) -> str:
    return f"- 放大倍数 `upscale_by`，{node}：{factor}。\n"


def prompt(node: str, what: str = "写出照片里有什么") -> str:
    return f"- 提示词 `prompt`，{node}：{what}。\n"


def speed(node: str) -> str:
    return f"- 速度 `speed`，{node}：*fast* 用不到一半的时间。\n"


def opened(method: str, title: str = "Restore a photo with") -> str:
    """The note of a workflow that shows what is inside a Restore node. title: of the workflow with that
    node, without the method."""
    return (
        f"# 用 {method} 修复照片：所有节点\n\n这就是“用 {method} 修复”节点里面的内容，设置相同：可以拆开、修改、"
        "另存为自己的工作流。“保真度旋钮”（Fidelity Dial）一次调节所有的保真度 `fidelity`。文件和参数的说明在模板 "
        f"**{title} {method}** 里。\n"
    )


def _networks(folder: str) -> tuple[str, str]:
    """The two files of a release, which have the same name."""
    unet, control = (
        f"{folder}/{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "controlnet")
    )
    return unet, control


DIFFBIR_FILES = (SD21.name, "v2.pth")
DIFFBIR_DIAL = fidelity(DIFFBIR, "它调节控制的强度，高于 0.5 时还混入第一阶段的图像。")
PASD_FILES = _networks("pasd/checkpoint-100000")
PASD_FOLDERS = "请保留发布包的文件夹，因为两个文件同名。"
PASD_DIAL = fidelity(PASD, "它调节 PASD 的强度，以及开始时给照片加多少噪波。")
PASD_SAYS = prompt(PASD, "写出照片里有什么，PASD 喜欢知道")
TAGGER = ("ram_swin_large_14m.pth", "DAPE.pth")
SEESR_FILES = (*_networks("seesr"), *TAGGER)
SEESR_FOLDERS = "请保留文件夹，因为有两个文件同名；它们来自作者链接的一个镜像。"
SEESR_DIAL = fidelity(SEESR, "它调节 SeeSR 的强度。")
PISASR = "“用 PiSA-SR 修复”（Restore with PiSA-SR）"
PISASR_FILES = (SD21.name, "pisa_sr.pkl")
PISASR_DRIVE = (
    "作者只在 Google Drive 上发布 pisa_sr.pkl：装了 `gdown`，命令会自己下载；没有时会告诉你点哪里。"
)
PISASR_DIAL = fidelity(PISASR, "它调节 `lambda_sem`。")
OSEDIFF = "“用 OSEDiff 修复”（Restore with OSEDiff）"
ONE_STEP = "Restore a photo in one step with"
STYLE_DIAL = (
    "- 保真度 `fidelity`，{dial}：0.5 是作者的设置。越低风格越强，越高越保持内容。它调节“应用 StyleID”"
    "（Apply StyleID）的 `gamma`。\n"
)
STYLE_SIZE = "- 高度 `height`，*Size of the result*：512，即模型训练时的尺寸。\n"

NOTES = {
    "quick_restore": (
        "# 快速修复\n\n清理有噪点、略微模糊或压缩严重的照片。不用下载任何东西：轻量模型随插件自带。\n"
        "按**运行**（Run）先看看示例照片的效果，再在“加载照片（带示例）”（Load Photo）里选择自己的照片；结果保存在 "
        "`output/restored`。\n\n"
        + DIALS
        + "- 保真度 `fidelity`，“完成修复”（Finish Restoration）：0.5 就是清理后的照片。更高则把原来的照片连同颗粒"
        "一起混回来；1 就只剩原照片。\n"
        "- 放大倍数 `upscale_by`，“放大干净照片”（Enlarge Cleaned Photo）：1 保持尺寸，2 放大一倍，用的也是插件自带的轻量网络。\n"
        "- 校色方法 `color_correction_method`，“完成修复”（Finish Restoration）：*wavelet* 还原照片自己的颜色和"
        "明暗，*none* 保留模型的。\n\n"
        "想用更强的模型，就把“加载放大模型”（Load Upscale Model）接到放大模型 `upscale_model`；SwinIR 和 SCUNet "
        "都很好。\n"
    ),
    "diffbir_v2_upscale": (
        "# DiffBIR v2：修复并放大 4 倍\n\n第一阶段（BSRNet）去除噪点、模糊和压缩痕迹，不臆造任何内容。第二阶段"
        "（Stable Diffusion 2.1 加 DiffBIR 的控制）画出缺失的细节。设置与作者相同：50 步，cfg 4。\n"
        + CHOOSE
        + files_note("diffbir_v2_upscale", *DIFFBIR_FILES, "BSRNet.pth")
        + DIALS
        + DIFFBIR_DIAL
        + upscale(DIFFBIR, "4，相对你的照片")
        + speed(DIFFBIR)
    ),
    "diffbir_upscale_4k_tiled": (
        "# DiffBIR v2：分块放大到 4K\n\n约 1024 像素的照片变成 4096：每个阶段都分块计算。采样融合作者的 "
        "512 分块；VAE 的分块完全不留痕迹。\n"
        + CHOOSE
        + files_note("diffbir_upscale_4k_tiled", *DIFFBIR_FILES, "BSRNet.pth")
        + DIALS
        + DIFFBIR_DIAL
        + tiles(DIFFBIR, 512)
        + speed(DIFFBIR)
    ),
    "diffbir_denoise": (
        "# DiffBIR v2：去噪点\n\n第一阶段（SCUNet）去除强噪点，尺寸不变。第二阶段把 SCUNet 抹平的地方补上纹理。"
        "短边低于 512 的照片放大到 512 处理，再缩回原尺寸。\n"
        + CHOOSE
        + files_note("diffbir_denoise", *DIFFBIR_FILES, "scunet_color_real_psnr.pth")
        + DIALS
        + DIFFBIR_DIAL
        + prompt(DIFFBIR, "写出照片里有什么；作者留空")
        + speed(DIFFBIR)
    ),
    "diffbir_v2.1_upscale": (
        "# DiffBIR v2.1：修复并放大 4 倍\n\n最新的权重，配它自己的基础模型，预测 v 并从纯噪波开始。作者的设置：10 步，"
        "cfg 6，一长段描述画质的提示词。作者会在它前面加上对照片的描述：写进提示词 `prompt`。\n"
        + CHOOSE
        + files_note(
            "diffbir_v2.1_upscale",
            "sd2.1-base-zsnr-laionaes5.ckpt",
            "DiffBIR_v2.1.pt",
            "realesrgan_s4_swinir_100k.pth",
        )
        + DIALS
        + DIFFBIR_DIAL
        + prompt(DIFFBIR)
        + upscale(DIFFBIR, "4")
    ),
    "diffbir_face": (
        "# DiffBIR v2：照片中的人脸，放大 2 倍\n\n把每张人脸裁成 512x512 的端正方形图，用 DiffBIR 的人脸第一阶段"
        "修复，再以柔和的边缘贴回修复后的照片。没有人脸的照片同样会修复。\n"
        + CHOOSE
        + files_note(
            "diffbir_face",
            *DIFFBIR_FILES,
            "BSRNet.pth",
            "face_swinir_v1.ckpt",
            "face_detection_yunet_2023mar.onnx",
        )
        + "最后一个文件和软件包 `opencv-python-headless` 用来找人脸。没有它们时：右键点击照片，"
        + MASK_EDITOR
        + "，把每张脸涂上，再把 MASK 从透明度 `transparency` 改接到遮罩 `mask`。\n\n"
        + DIALS
        + fidelity(FACES, "它调节控制的强度，背景和人脸都算。")
        + upscale(FACES, "2")
        + speed(FACES)
    ),
    "diffbir_v2_all_nodes": opened("DiffBIR"),
    "pasd_upscale": (
        "# PASD：修复并放大 2 倍\n\n放大后的照片逐像素地引导 Stable Diffusion 1.5：PASD 一步到位，边清理边重绘，"
        "按作者的 20 步、cfg 9。\n"
        + CHOOSE
        + files_note("pasd_upscale", SD15.name, *PASD_FILES, more=PASD_FOLDERS)
        + DIALS
        + PASD_DIAL
        + PASD_SAYS
        + upscale(PASD, "2")
    ),
    "pasd_upscale_4k_tiled": (
        "# PASD：分块放大到 4K\n\n约 1024 像素的照片变成 4096：模型分块采样再融合，VAE 的分块不留痕迹。\n"
        + CHOOSE
        + files_note("pasd_upscale_4k_tiled", SD15.name, *PASD_FILES, more=PASD_FOLDERS)
        + DIALS
        + PASD_DIAL
        + PASD_SAYS
        + tiles(PASD, 768)
    ),
    "pasd_light_upscale": (
        "# PASD light：修复并放大 2 倍\n\n小版本：在每个解码块里加一个注意力，而不是在其后加一个 Transformer。比完整版"
        "更快，也更爱发挥。\n"
        + CHOOSE
        + files_note(
            "pasd_light_upscale",
            SD15.name,
            *_networks("pasd_light/checkpoint-120000"),
            more=PASD_FOLDERS,
        )
        + DIALS
        + PASD_DIAL
        + PASD_SAYS
        + upscale(PASD, "2。1 保持尺寸")
    ),
    "pasd_stylization": (
        "# PASD：风格化\n\n与放大相同，只是换了基础模型：PASD 是在冻结的 Stable Diffusion 1.5 旁边训练的，所以任何"
        "个性化的 SD 1.5 Checkpoint 都可以来画。ToonYou 是作者的例子。用“加载LoRA”（Load LoRA）添加 LoRA。\n"
        + CHOOSE
        + files_note(
            "pasd_stylization", "toonyou_beta3.safetensors", *PASD_FILES, more=PASD_FOLDERS
        )
        + DIALS
        + fidelity(PASD, "**越低风格越强**；试试 0.1 到 0.3。")
        + prompt(PASD, "描述风格的词，以及照片里有什么")
        + f"- 校色方法 `color_correction_method`，{PASD}：*none* 保留风格的颜色。\n"
    ),
    "pasd_colorization": (
        "# PASD：上色\n\n只取照片的亮度，让 PASD 的上色权重画成彩色，再把颜色放到照片自己的亮度上：照片的细节毫无改变。\n"
        + CHOOSE
        + files_note(
            "pasd_colorization",
            SD15.name,
            *_networks("pasd_color/checkpoint-180000"),
            more=PASD_FOLDERS,
        )
        + DIALS
        + fidelity(PASD, "它调节 PASD 的强度。")
        + prompt(PASD, "写出照片里有什么、是什么颜色；作者总是这样做")
        + f"- 种子 `seed`，{PASD}：换一个数字会得到别的颜色。\n"
    ),
    "pasd_sdxl_upscale": (
        "# PASD-SDXL：修复并放大 2 倍\n\n最新、最大的权重，基于 SDXL。设置与作者的脚本相同：Euler 25 步，cfg 7，强度 "
        "0.8，从纯噪波开始；处理时至少 1280 像素。所需显存远超其他版本。\n"
        + CHOOSE
        + files_note(
            "pasd_sdxl_upscale",
            "sd_xl_base_1.0.safetensors",
            *_networks("PASD-SDXL/checkpoint-200000"),
            more=PASD_FOLDERS,
        )
        + DIALS
        + fidelity(PASD, "它调节 PASD 的强度。")
        + PASD_SAYS
        + speed(PASD)
    ),
    "pasd_all_nodes": opened("PASD"),
    "seesr_upscale": (
        "# SeeSR：修复并放大 4 倍\n\n一个用退化照片训练的标签器（DAPE）说出你的照片里有什么：用文字，写进提示词；"
        "用嵌入，模型每一步都关注它。采样从加了噪波的照片本身开始。设置与作者相同：50 步，cfg 5.5，AdaIN 校色，"
        "图像更大时用 768 的分块。\n"
        + CHOOSE
        + files_note("seesr_upscale", SD21.name, *SEESR_FILES, more=SEESR_FOLDERS)
        + DIALS
        + SEESR_DIAL
        + upscale(SEESR, "4")
        + speed(SEESR)
    ),
    "seesr_upscale_4k_tiled": (
        "# SeeSR：分块放大到 4K\n\n约 1024 像素的照片变成 4096：模型分块采样再融合，标签器把每个分块"
        "单独看一次。\n"
        + CHOOSE
        + files_note("seesr_upscale_4k_tiled", SD21.name, *SEESR_FILES, more=SEESR_FOLDERS)
        + DIALS
        + SEESR_DIAL
        + tiles(SEESR, 768)
        + speed(SEESR)
    ),
    "seesr_turbo_upscale": (
        "# SeeSR-Turbo：两步修复并放大 4 倍\n\n把 SeeSR 的注意力装进 SD-Turbo：这种基础模型只需两步、不用引导，所以"
        "一张图只运行模型 2 次，而不是 100 次。设置与作者相同。SD-Turbo 有它自己的许可证。\n"
        + CHOOSE
        + files_note(
            "seesr_turbo_upscale", "sd_turbo.safetensors", *SEESR_FILES, more=SEESR_FOLDERS
        )
        + DIALS
        + SEESR_DIAL
        + f"- 步数 `steps`，{SEESR}：0，即 2 步。最多到 8，细节更多。\n"
        + prompt(SEESR, "标签之外你自己的描述")
    ),
    "tag_and_prompt": (
        "# 退化照片里有什么\n\n只用 SeeSR 的标签器：它在模糊、有噪点或压缩过的照片里看到什么，以及 SeeSR 由此写出的"
        "提示词。可把文本接到别的修复方法，也可以修改。\n"
        + CHOOSE
        + files_note("tag_and_prompt", *TAGGER)
        + DIALS
        + "- 阈值偏移 `threshold_offset`，“图像打标签（DAPE）”（Tag Image）：0。-0.1 标签更多，错的也更多；"
        "0.1 更少。\n"
        "- 排除 `exclude`，“图像打标签（DAPE）”：不要的标签，用逗号分隔。\n"
        "- 用词 `style`，“修复提示词”（Restoration Prompt）：标签前后加哪一家的词。\n\n"
        "“加载 DAPE（标签器）”（Load DAPE）的 LoRA 强度 `lora_strength` 为 0 时，就是原始的 RAM：比较一下它对"
        "同一张照片怎么说。\n"
    ),
    "finetune_pasd": (
        "# 用自己的图像微调 PASD\n\nPASD 的 light 网络从您自己的干净图像里再学一点：胶片扫描、漫画、显微照片。图像会被随机"
        "损坏，网络学着还原。最后保存网络，并画出损失。需要较大的显卡：9.6 GB，外加激活值。\n"
        "在“加载图像”（Load Image）里选择一张清晰的图像，按**运行**（Run）。一张只说明它能运行；要学到东西，请接一个能加载整个文件夹的节点，至少十几张。\n\n"
        + files_note(
            "finetune_pasd",
            SD15.name,
            *_networks("pasd_light/checkpoint-120000"),
            more=PASD_FOLDERS,
        )
        + DIALS
        + "- 步数 `steps`，“微调修复网络”（Fine-Tune Restoration）：200。越多越像您的图像，也忘得越多。\n"
        "- 学习率 `learning_rate`，“微调修复网络”：0.00005，作者的设置。损失不下降就调低。\n"
        "- 退化方式 `degradation`，“微调修复网络”：用哪一家的退化；也可把退化图像接到 `lq_images`。\n\n"
        "然后按 **R**，在别的工作流的“加载 PASD”（Load PASD）里，UNet 名称 `unet_name` 选新文件，ControlNet 名称 "
        "`control_net_name` 选 `the same file`。\n"
    ),
    "seesr_all_nodes": opened("SeeSR"),
    "styleid_transfer": (
        "# StyleID：用一幅画的风格来画照片\n\n不需要训练：两张图都倒着运行到噪波，回来的路上，内容提问，风格回答。"
        "设置与作者相同：50 步，没有提示词，cfg 1。\n"
        "在 **The content** 里选择照片，在 **The style** 里选择画，按**运行**（Run）。\n\n"
        + files_note("styleid_transfer", SD15.name)
        + DIALS
        + STYLE_DIAL.format(dial="“保真度旋钮”（Fidelity Dial）")
        + "- 温度 `temperature`，“应用 StyleID”（Apply StyleID）：1.5。越低越柔和。\n"
        + STYLE_SIZE
    ),
    "restore_then_style": (
        "# 先修复老照片，再画成画\n\nDiffBIR v2 修复照片，然后 StyleID 换上一幅画的样子，两者用同一个基础模型。"
        "在“加载图像”（Load Image）里选择照片，在 **The style** 里选择画，按**运行**（Run）。\n\n"
        + files_note("restore_then_style", *DIFFBIR_FILES, "BSRNet.pth")
        + DIALS
        + fidelity(DIFFBIR)
        + STYLE_DIAL.format(dial="*Fidelity of the style*")
        + STYLE_SIZE
    ),
    "ddnm_inpaint": (
        "# DDNM：补上破损，其余不变\n\n适合划痕、污点和碍眼的东西，用任何 Stable Diffusion Checkpoint 都行（不需要"
        "局部重绘专用的）。每一步的预测，凡是照片已知的地方都换成照片。设置依照论文：100 步，每步加噪（eta 0.85）。\n"
        "在“加载图像”（Load Image）里选择照片，右键点击它，"
        + MASK_EDITOR
        + "，涂满破损处，在 **What the picture shows** 里描述整幅画面，按**运行**（Run）。\n\n"
        + files_note("ddnm_inpaint", SD15.name)
        + DIALS
        + "- 扩展 `expand`，*Grow the damage*：破损周围 16 像素也会重画，因为每个 Latent 单元都看得到四周。破损仍透出来"
        "时调大。\n"
        "- 结束百分比 `end_percent`，“DDNM 引导（保留已知）”（DDNM Guidance）：1。0.9 把最后几步交给模型，接缝更平滑。\n"
        "- 高度 `height`，*Size to work at*：512。破损处按这个尺寸画好再放大；周围的照片保留自己的像素。\n\n"
        "这里的投影作用于 Latent，不花时间。一个 Latent 单元宽 8 像素：比它更细的内容会连同四周一起重画。\n"
    ),
    "pisasr_upscale": (
        "# PiSA-SR：一步修复并放大 4 倍\n\n网络只运行一次，而不是五十次或一百次；用普通的 Stable Diffusion 2.1 加一个小"
        "文件。两个旋钮：去掉多少损伤，画出多少细节。设置与作者相同。\n"
        + CHOOSE
        + files_note("pisasr_upscale", *PISASR_FILES, more=PISASR_DRIVE)
        + DIALS
        + PISASR_DIAL
        + f"- 语义强度 `lambda_sem`，{PISASR}：1。越大细节越多，0 不画细节。\n"
        f"- 像素强度 `lambda_pix`，{PISASR}：1。越大去掉的损伤越多，最后会过头。\n"
    ),
    "pisasr_upscale_4k_tiled": (
        "# PiSA-SR：一步分块放大到 4K\n\n约 1024 像素的照片变成 4096：网络把每个分块看一次，再按作者的方式融合。大部分时间"
        "花在 VAE 上；它的分块不留痕迹。\n"
        + CHOOSE
        + files_note("pisasr_upscale_4k_tiled", *PISASR_FILES, more=PISASR_DRIVE)
        + DIALS
        + PISASR_DIAL
        + tiles(PISASR, 768)
        + f"- 解码 VAE `decode_vae`，{PISASR}：从“加载VAE”接入 TAESD，更快，也更柔和。\n"
    ),
    "osediff_upscale": (
        "# OSEDiff：一步修复并放大 4 倍\n\n网络只运行一次，并且知道照片里有什么：SeeSR 的标签器先看一遍，你自己的话可以"
        "接在标签后面。不用标签器（删掉“加载 DAPE（标签器）”）时，只靠你自己的话也行。设置与作者相同。\n"
        + CHOOSE
        + files_note("osediff_upscale", SD21.name, "osediff.pkl", *TAGGER)
        + DIALS
        + prompt(OSEDIFF, "写出照片里有什么；有标签器时可以留空")
        + f"- 保真度 `fidelity`，{OSEDIFF}：0.5 是作者的设置。更高则混入放大的照片；更低在这里不起作用。\n"
        + upscale(OSEDIFF, "4")
    ),
    "osediff_face": (
        "# OSEDiff：一步修复照片中的人脸\n\n把每张人脸裁成 512x512 的端正方形图，用 OSEDiff 的人脸权重修复，再以柔和的"
        "边缘贴回。照片的其余部分不变。没有人脸的照片原样通过。\n"
        + CHOOSE
        + files_note(
            "osediff_face", SD21.name, "osediff_face.pkl", "face_detection_yunet_2023mar.onnx"
        )
        + "最后一个文件和软件包 `opencv-python-headless` 用来找人脸。没有它们时：右键点击照片，"
        + MASK_EDITOR
        + "，把每张脸涂上，再把 MASK 接到“裁剪人脸”（Crop Faces）的遮罩 `mask`。\n\n"
        + DIALS
        + f"- 保真度 `fidelity`，{OSEDIFF}：0.5 是作者的设置。更高则混入照片里原来的脸。\n"
        + prompt(OSEDIFF, "写出脸的样子，例如：old man, glasses")
        + "- 置信度 `confidence`，“裁剪人脸”（Crop Faces）：越低找到的脸越多。\n"
    ),
    "pisasr_all_nodes": opened("PiSA-SR", ONE_STEP),
    "osediff_all_nodes": opened("OSEDiff", ONE_STEP),
    "repaint_inpaint": (
        "# RePaint：补洞，并与四周协调\n\n适合划痕、污点和碍眼的东西，用任何 Stable Diffusion Checkpoint 都行。每一步都给"
        "洞周围的已知部分重新加噪，采样一次次退回，直到两边长在一起。时间是不退回时的三倍，大的洞接得更好。\n"
        "在“加载图像”（Load Image）里选择照片，右键点击它，"
        + MASK_EDITOR
        + "，涂满破损处，在 **What the picture shows** 里描述整幅画面，按**运行**（Run）。\n\n"
        + files_note("repaint_inpaint", SD15.name)
        + DIALS
        + "- 跳跃次数 `jump_repeats`，“零样本采样器”（Zero-Shot Sampler）：3。更多则接得更好，时间也更长。\n"
        "- 跳跃长度 `jump_length`，“零样本采样器”：100 步里的 10 步。\n"
        "- 扩展 `expand`，*Grow the damage*：破损周围 16 像素也会重画。破损仍透出来时调大。\n"
    ),
    "luma_color": (
        "# 给黑白照片上色，亮度不变\n\n任何 Stable Diffusion Checkpoint 都可以来画；照片所说的，也就是它的亮度，每两步放回"
        "一次，所以每个灰度都还是照片的。除 Checkpoint 外不需要别的权重。**Colorize a photo with PASD** 有专门的权重，上色更稳。\n"
        + CHOOSE
        + files_note("luma_color", SD15.name)
        + DIALS
        + "- 文本 `text`，*What the picture shows*：画面里有什么、是什么颜色。\n"
        "- 信任度 `strength`，“DDNM 引导（保留已知）”（DDNM Guidance）：1。调低则允许模型改变亮度。\n"
        "- 种子 `seed`，*Noise*：换一个数字会得到别的颜色。\n"
    ),
    "jpeg_repair": (
        "# 修复旧的 JPEG，不违背文件所说的\n\n任何 Stable Diffusion Checkpoint 在照片上画采样的后半段；每两步把图像带回到"
        "按这个质量保存就会得到你的文件的样子。\n"
        + CHOOSE
        + files_note("jpeg_repair", SD15.name)
        + DIALS
        + "- 质量 `quality`，“已知退化”（Known Degradation）：文件保存时的质量，看得见方块就用 20。太低会变模糊。\n"
        "- 降噪 `denoise`，“K采样器”（KSampler）：0.4。越大画得越多。\n"
        "- 文本 `text`，*What the picture shows*：用你自己的话。\n"
    ),
    "bicubic_seesr": (
        "# 放大 4 倍，小图不变\n\nSeeSR 画出细节，每十步以及最后，把图像带回到缩小后就是你的照片的样子：照片所说的从不被违背。"
        "照片的边长须为偶数，且不小于 128。\n"
        + CHOOSE
        + files_note("bicubic_seesr", SD21.name, *SEESR_FILES)
        + DIALS
        + "- 信任度 `strength`，“DDNM 引导（保留已知）”（DDNM Guidance）：1。调低则允许 SeeSR 改变小图。\n"
        + SEESR_DIAL
        + prompt(SEESR, "标签之外你自己的描述")
    ),
}
"""Workflow: what its Chinese note says."""
