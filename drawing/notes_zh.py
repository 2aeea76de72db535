"""The notes of the shipped workflows in Chinese, as the English ones in the workflows' modules.

Names in “...” are nodes as ComfyUI calls them in Chinese; titles that a workflow gives to a node
are English in every language and stand in *...*.
"""

from __future__ import annotations

from ..common.bases import SD15, SD21
from .files import file_row

DIALS = "### 最值得调的三个参数\n\n"
_HELD = "0.5 是作者的设置。越高越接近照片，越低越自由发挥。"
DIAL = f"- 保真度 `fidelity`，“保真度旋钮”（Fidelity Dial）：{_HELD}"
"""One of the notes' three dials; what it turns is said behind it."""

CARDS = (
    "**按显卡设置**（按 ComfyUI 自己的显存公式估算，并非实测；设得过大时会发现并自动减半）\n\n"
    "| 显存 | 分块尺寸 `tile_size` | 分块批量 `tile_batch_size` | VAE 节点的分块尺寸 `tile_size` |\n"
    "| --- | --- | --- | --- |\n| 6 GB | 512 | 1 | 256 |\n| 8 GB | 512 | 2 | 512 |\n"
    "| 12 GB | 512 到 768 | 4 | 512 |\n| 24 GB | 768 到 1024 | 8 | 1024 |\n\n"
)
CHOOSE = "在“加载图像”（Load Image）里选择照片，按**运行**（Run）。\n\n"
MASK_EDITOR = "**用遮罩编辑器打开**（Open in MaskEditor）"


def files_note(*names: str) -> str:
    return "### 文件\n\n" + "\n".join(map(file_row, names)) + "\n\n"


def _networks(folder: str) -> tuple[str, str]:
    """The two files of a release, which have the same name."""
    unet, control = (
        f"{folder}/{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "controlnet")
    )
    return unet, control


DIFFBIR = (SD21.name, "v2.pth")
PASD = _networks("pasd/checkpoint-100000")
TAGGER = ("ram_swin_large_14m.pth", "DAPE.pth")
SEESR = (*_networks("seesr"), *TAGGER)

DIFFBIR_DIAL = DIAL + "它调节控制的强度，高于 0.5 时还混入第一阶段的图像；1 就只剩那张图像。\n"

PASD_FOLDERS = "请保留发布包的文件夹：两个文件同名。`unet` 里只读取 PASD 增加的注意力。\n\n"
PASD_DIAL = (
    DIAL + "它调节“应用 PASD”（Apply PASD）的强度 `strength`，以及 *Start from the photo* 的"
    "第二次加噪 `added_noise_level`。\n"
)
PASD_DESCRIBE = (
    "\nPASD 喜欢知道照片里有什么：写进“修复提示词”（Restoration Prompt）的提示词 `prompt`，"
    "或在“高层信息提示词（PASD）”（High-Level Prompt）里选择模型。\n"
)

SEESR_FOLDERS = (
    "SeeSR 的两个网络同名：请放在 `models/restoration` 的 `seesr/unet` 和 `seesr/controlnet` 文件夹里。"
    "作者在自己的 README 里给出下载链接；这里的链接是一个镜像。\n\n"
)
SEESR_DIAL = DIAL + "它调节“应用 SeeSR”（Apply SeeSR）的强度 `strength`。\n"
SEESR_BATCHES = (
    "一次处理多张照片：在“加载图像”之后接核心的“重设图像批次”（Rebatch Images），批量大小设为 1，"
    "这样每张照片用自己的标签。\n"
)

STYLE_SIZE = (
    "- 高度 `height`，*Size of the result*：512，即模型训练时的尺寸。时间和显存随面积增长。\n\n"
)
STYLE_COST = (
    "反演与采样一样费时，每张图一次；之后只调“应用 StyleID”的参数时，ComfyUI 会保留两者的结果。"
    "512 像素见方的图，特征占 0.55 GiB 内存；把两个反演节点的特征 `features` 设为 *lockstep* 则几乎不占，"
    "但风格图的尺寸必须与内容图相同。\n"
)

NOTES = {
    "quick_restore": (
        "# 快速修复\n\n清理有噪点、略微模糊或压缩严重的照片。不用下载任何东西：轻量模型随插件自带。\n"
        "在“加载图像”（Load Image）里选择照片，按**运行**（Run）；结果保存在 `output/restored`。\n\n"
        + DIALS
        + "- 保真度 `fidelity`，“保真度旋钮”（Fidelity Dial）：0.5 就是清理后的照片。更高则把原来的照片"
        "连同颗粒一起混回来；1 就只剩原照片。低于 0.5 在这里没有变化。\n"
        "- 放大倍数 `upscale_by`，“准备修复”（Prepare Restoration）：1 保持尺寸，2 放大一倍。\n"
        "- 校色方法 `color_correction_method`，“完成修复”（Finish Restoration）：*wavelet* 还原照片自己的颜色和"
        "明暗，*none* 保留模型的。\n\n"
        "想用更强的模型，就把“加载放大模型”（Load Upscale Model）接到放大模型 `upscale_model`；SwinIR 和 SCUNet "
        "都很好。较新的 ComfyUI 可以用“图像对比”（Image Compare）代替右边的两张图。\n"
    ),
    "diffbir_v2_upscale": (
        "# DiffBIR v2：放大 4 倍\n\n第一阶段（BSRNet）去除噪点、模糊和压缩痕迹，不臆造任何内容，并放大四倍。"
        "第二阶段（Stable Diffusion 2.1 加 DiffBIR 的控制）画出缺失的细节。设置与作者论文相同：50 步，cfg 4，"
        "没有正面提示词。\n"
        + CHOOSE
        + files_note(*DIFFBIR, "BSRNet.pth")
        + DIALS
        + DIFFBIR_DIAL
        + "- `cfg`，“CFG引导器”（CFGGuider）：4。越高细节越多、越硬；1 最平和（而且快一倍）。\n"
        "- 放大倍数 `upscale_by`，“准备修复”（Prepare Restoration）：4，相对你的照片。\n\n"
        "*Start from noise* 的起点 `start`：选 *diffbir* 则从加了噪波的清理后照片开始，颜色更稳定，细节略少。"
        "想要更忠实、更平滑：在“Checkpoint加载器（简易）”（Load Checkpoint）与“CFG引导器”之间加入"
        "“Latent 图像引导”（Latent Image Guidance）。\n"
    ),
    "diffbir_upscale_4k_tiled": (
        "# DiffBIR v2：分块放大到 4K\n\n约 1024 像素的照片变成 4096，任何显卡都行：每个阶段都分块计算。采样按作者的"
        "设置融合 512 的分块，重叠 256；VAE 的分块完全不留痕迹。50 步，cfg 4。\n"
        + CHOOSE
        + files_note(*DIFFBIR, "BSRNet.pth")
        + CARDS
        + DIALS
        + DIFFBIR_DIAL
        + "- 分块重叠 `tile_overlap`，“分块修复”（Tiled Restoration）：256。128 只需一半多一点的分块，256 最能"
        "隐藏分块的边界。\n"
        "- `cfg`，“CFG引导器”（CFGGuider）：4。越低越平和，1 快一倍。\n"
    ),
    "diffbir_denoise": (
        "# DiffBIR v2：去噪点\n\n第一阶段（SCUNet）去除强噪点，尺寸不变。第二阶段把 SCUNet 抹平的地方补上纹理。"
        "设置与作者相同：50 步，cfg 4。短边低于 512 的照片放大到 512 处理，再缩回原尺寸。\n"
        + CHOOSE
        + files_note(*DIFFBIR, "scunet_color_real_psnr.pth")
        + DIALS
        + DIFFBIR_DIAL
        + "- 强度 `strength`，“去除退化”（Remove Degradation）：1 去除全部噪点；0.8 留下一些颗粒，其中一部分会被"
        "第二阶段当作纹理。\n"
        "- `cfg`，“CFG引导器”（CFGGuider）：4。越低越平和，1 最快。\n\n"
        "“修复调度器”（Restoration Sigmas）的步数 `steps`：20 更快，略微平滑一些。\n"
    ),
    "diffbir_v2.1_upscale": (
        "# DiffBIR v2.1：放大 4 倍\n\n最新的权重，配它自己的基础模型，预测 v 并从纯噪波开始：由“DiffBIR 模型采样”"
        "（DiffBIR Model Sampling）设置。作者的设置：dpmpp_3m_sde 10 步，cfg 6（作者的演示用 8），一长段描述画质的"
        "提示词。作者会在它前面加上对照片的描述：可把任意描述模型接到描述 `caption`。\n"
        + CHOOSE
        + files_note(
            "sd2.1-base-zsnr-laionaes5.ckpt", "DiffBIR_v2.1.pt", "realesrgan_s4_swinir_100k.pth"
        )
        + DIALS
        + DIFFBIR_DIAL
        + "- `cfg`，“CFG引导器”（CFGGuider）：6。越低越平和、越忠实，8 是演示的取值。\n"
        "- 噪波增强 `noise_aug`，“应用 LA 控制（DiffBIR）”（Apply LA Control）：0。严重损坏的照片可调到 200："
        "臆造的内容也更多。\n"
    ),
    "diffbir_face": (
        "# DiffBIR v2：照片中的人脸，放大 2 倍\n\n把每张人脸裁成 512x512 的端正方形图，用 DiffBIR 的人脸第一阶段"
        "修复，再以柔和的边缘贴回修复后的照片。设置与作者相同：50 步，cfg 4，2 倍。\n"
        "在“加载图像”（Load Image）里选择照片，按**运行**（Run）。没有人脸的照片同样会修复，只是跳过人脸那一组。\n\n"
        + files_note(
            *DIFFBIR, "BSRNet.pth", "face_swinir_v1.ckpt", "face_detection_yunet_2023mar.onnx"
        )
        + "最后一个文件和软件包 `opencv-python-headless` 用来找人脸。没有它们时：右键点击照片，"
        + MASK_EDITOR
        + "，把每张脸涂上。\n\n"
        + DIALS
        + DIAL
        + "它调节控制的强度，背景和人脸都算。\n"
        "- 置信度 `confidence`，“裁剪人脸”（Crop Faces）：越低，在差照片中找到的脸越多。\n"
        "- `cfg`，两个“CFG引导器”（CFGGuider）：4。越低，人脸越平和、越接近照片。\n\n"
        "如果图像本身就是一张对齐的人脸，把检测器 `detector` 设为 *aligned*。\n"
    ),
    "pasd_upscale": (
        "# PASD：放大 2 倍\n\n放大后的照片逐像素地引导 Stable Diffusion 1.5：PASD 一步到位，边清理边重绘。"
        "采样与作者的脚本相同：作者的 UniPC 20 步，cfg 9，从加了噪波的照片开始；2 倍是作者演示的取值。\n"
        + CHOOSE
        + files_note(SD15.name, *PASD)
        + PASD_FOLDERS
        + DIALS
        + PASD_DIAL
        + "- `cfg`，“CFG引导器”（CFGGuider）：9。作者的演示用 7.5；越低越平和。\n"
        "- 起点 `start`，*Start from the photo*：*pasd*。选 *noise* 则起点不含照片，与作者的演示相同。\n"
        + PASD_DESCRIBE
    ),
    "pasd_upscale_4k_tiled": (
        "# PASD：分块放大到 4K\n\n约 1024 像素的照片变成 4096，任何显卡都行：模型分块采样再融合，VAE 的分块完全不留"
        "痕迹。其余与 `pasd_upscale` 相同：作者的 UniPC 20 步，cfg 9。作者用 2560 的分块，重叠 64，需要大显存。\n"
        + CHOOSE
        + files_note(SD15.name, *PASD)
        + PASD_FOLDERS
        + CARDS
        + DIALS
        + PASD_DIAL
        + "- 分块重叠 `tile_overlap`，“分块修复”（Tiled Restoration）：192。64 需要的分块更少，也更容易看出边界。\n"
        "- `cfg`，“CFG引导器”（CFGGuider）：9。越低越平和。\n" + PASD_DESCRIBE
    ),
    "pasd_light_upscale": (
        "# PASD light：放大 2 倍\n\n小版本：在每个解码块里加一个注意力，而不是在其后加一个 Transformer。比完整版更快，"
        "也更爱发挥。设置与作者的脚本相同：作者的 UniPC 20 步，cfg 9。\n"
        + CHOOSE
        + files_note(SD15.name, *_networks("pasd_light/checkpoint-120000"))
        + PASD_FOLDERS
        + DIALS
        + PASD_DIAL
        + "- `cfg`，“CFG引导器”（CFGGuider）：9。越低越平和。\n"
        "- 放大倍数 `upscale_by`，“准备修复”（Prepare Restoration）：2。1 保持尺寸。\n"
        + PASD_DESCRIBE
    ),
    "pasd_stylization": (
        "# PASD：风格化\n\n与放大相同，只是换了基础模型：PASD 是在冻结的 Stable Diffusion 1.5 旁边训练的，所以任何"
        "个性化的 SD 1.5 Checkpoint 都可以来画。ToonYou 是作者的例子。用“模型融合（简易）”（ModelMergeSimple）"
        "混合两个 Checkpoint，用“加载LoRA”（Load LoRA）添加 LoRA。\n"
        + CHOOSE
        + files_note("toonyou_beta3.safetensors", *PASD)
        + PASD_FOLDERS
        + DIALS
        + PASD_DIAL.rstrip("\n")
        + "**越低风格越强**；试试 0.1 到 0.5。\n"
        "- 起点 `start`，*Start from the photo*：选 *noise* 可放开风格的颜色；同时把“完成修复”"
        "（Finish Restoration）的校色方法 `color_correction_method` 设为 *none*。\n"
        "- `cfg`，“CFG引导器”（CFGGuider）：9，并把描述风格的词写进提示词 `prompt`。\n"
        + PASD_DESCRIBE
    ),
    "pasd_colorization": (
        "# PASD：上色\n\n只取照片的亮度，让 PASD 的上色权重画成彩色，再把颜色放到照片自己的亮度上：照片的细节毫无改变。\n"
        + CHOOSE
        + files_note(SD15.name, *_networks("pasd_color/checkpoint-180000"))
        + PASD_FOLDERS
        + "请把“采样算法（离散）”（ModelSamplingDiscrete）与发布包 `scheduler` 文件夹里的 `scheduler_config.json` "
        "对照（我们没能读到这个文件）：`prediction_type`（那里的 epsilon 就是这里的 eps）和 "
        "`rescale_betas_zero_snr`（zsnr）。作者说它是零终端信噪比。\n\n"
        + DIALS
        + DIAL
        + "它调节“应用 PASD”（Apply PASD）的强度 `strength`。\n"
        + "- 提示词 `prompt`，“修复提示词”（Restoration Prompt）：写出照片里有什么、是什么颜色。作者总是先给照片写"
        "描述；也可在“高层信息提示词（PASD）”（High-Level Prompt）里选择描述模型。\n"
        "- `cfg`，“CFG引导器”（CFGGuider）：9。越低颜色越淡。\n\n"
        "换 *Start from the photo* 的种子 `seed` 会得到别的颜色。\n"
    ),
    "pasd_sdxl_upscale": (
        "# PASD-SDXL：放大 2 倍\n\n最新、最大的权重，基于 SDXL。设置与作者的脚本相同：Euler 25 步，cfg 7，强度 0.8，"
        "从纯噪波开始；处理时至少 1280 像素。所需显存远超其他版本：仅增加的注意力就有十亿参数。两个提示词节点还会告诉 "
        "SDXL 一个尺寸：1280；想与作者一致，就把那里的宽度 `width`、高度 `height` 和两个目标尺寸设为实际处理的尺寸。\n"
        + CHOOSE
        + files_note("sd_xl_base_1.0.safetensors", *_networks("PASD-SDXL/checkpoint-200000"))
        + PASD_FOLDERS
        + DIALS
        + DIAL
        + "它调节“应用 PASD”（Apply PASD）的强度 `strength`，这里是 0.8。\n"
        "- `cfg`，“CFG引导器”（CFGGuider）：7。越低越平和。\n"
        "- 最短边 `min_side`，“准备修复”（Prepare Restoration）：1280。1024 更快。\n"
        + PASD_DESCRIBE
    ),
    "seesr_upscale": (
        "# SeeSR：放大 4 倍\n\n一个用退化照片训练的标签器（DAPE）说出你的照片里有什么：用文字，写进提示词；用嵌入，"
        "模型每一步都关注它。采样从加了噪波的照片本身开始。设置与作者相同：50 步，cfg 5.5，AdaIN 校色，图像更大时用 "
        "768 的分块。\n"
        + CHOOSE
        + files_note(SD21.name, *SEESR)
        + SEESR_FOLDERS
        + DIALS
        + SEESR_DIAL
        + "- `cfg`，“CFG引导器”（CFGGuider）：5.5。越高细节越多、越不忠实；1 最平和（而且快一倍）。\n"
        "- 最短边 `min_side`，“准备修复”（Prepare Restoration）：512。768 更接近照片，臆造更少。\n\n"
        "“修复调度器”（Restoration Sigmas）的步数 `steps`：20 更快，略微平滑一些。\n\n"
        + SEESR_BATCHES
    ),
    "seesr_upscale_4k_tiled": (
        "# SeeSR：分块放大到 4K\n\n约 1024 像素的照片变成 4096，任何显卡都行：模型分块采样再融合，标签器把每个分块"
        "单独看一次，VAE 的分块完全不留痕迹。其余与 `seesr_upscale` 相同：50 步，cfg 5.5，AdaIN 校色。\n"
        + CHOOSE
        + files_note(SD21.name, *SEESR)
        + SEESR_FOLDERS
        + CARDS
        + DIALS
        + SEESR_DIAL
        + "- `cfg`，“CFG引导器”（CFGGuider）：5.5。越高细节越多、越不忠实。\n"
        "- 分块重叠 `tile_overlap`，“分块修复”（Tiled Restoration）：256。作者用 32，分块更少，但可能看出边界。\n\n"
        "“应用 SeeSR”（Apply SeeSR）的 DAPE 模型 `dape_model`：不接时，所有分块共用标签器在整张照片里看到的内容，"
        "与作者相同。\n\n" + SEESR_BATCHES
    ),
    "seesr_turbo_upscale": (
        "# SeeSR-Turbo：两步放大 4 倍\n\n把 SeeSR 的注意力装进 SD-Turbo：这种基础模型只需两步、不用引导，所以一张图只"
        "运行模型 2 次，而不是 100 次。设置与作者相同。\n"
        + CHOOSE
        + files_note("sd_turbo.safetensors", *SEESR)
        + SEESR_FOLDERS
        + DIALS
        + SEESR_DIAL
        + "- 步数 `steps`，“修复调度器”（Restoration Sigmas）：2。最多到 8，细节更多。\n"
        "- 提示词 `prompt`，“修复提示词”（Restoration Prompt）：标签之外你自己的描述。\n\n"
        "“CFG引导器”（CFGGuider）的 `cfg` 请保持 1：SD-Turbo 训练时不用引导。SD-Turbo 有它自己的许可证。\n\n"
        + SEESR_BATCHES
    ),
    "tag_and_prompt": (
        "# 给退化照片打标签\n\n只用 SeeSR 的标签器：它在模糊、有噪点或压缩过的照片里看到什么，以及 SeeSR 由此写出的"
        "提示词。可把文本接到别的修复方法，也可以修改。\n"
        + CHOOSE
        + files_note(*TAGGER)
        + DIALS
        + "- 阈值偏移 `threshold_offset`，“图像打标签（DAPE）”（Tag Image）：0。-0.1 标签更多，错的也更多；"
        "0.1 更少。\n"
        "- 排除 `exclude`，“图像打标签（DAPE）”：不要的标签，用逗号分隔。\n"
        "- 风格 `style`，“修复提示词”（Restoration Prompt）：标签前后加哪一家的词。\n\n"
        "“加载 DAPE”（Load DAPE）的 LoRA 强度 `lora_strength` 为 0 时，就是原始的 RAM：比较一下它对同一张照片"
        "怎么说。\n"
    ),
    "styleid_transfer": (
        "# StyleID：用一幅画的风格来画照片\n\n不需要训练：两张图都倒着运行到噪波，回来的路上，内容提问，风格回答。"
        "设置与作者相同：50 步，没有提示词，cfg 1。\n"
        "在 **The content** 里选择照片，在 **The style** 里选择画，按**运行**（Run）。\n\n"
        + files_note(SD15.name)
        + DIALS
        + "- 保真度 `fidelity`，“保真度旋钮”（Fidelity Dial）：0.5 是作者的设置。越低风格越强，越高越保持内容。"
        "它调节“应用 StyleID”（Apply StyleID）的 `gamma`：从 0 经 0.75 到 1。\n"
        "- 温度 `temperature`，“应用 StyleID”（Apply StyleID）：1.5。越低越柔和。\n"
        + STYLE_SIZE
        + STYLE_COST
    ),
    "restore_then_style": (
        "# 先修复老照片，再画成画\n\n先由 DiffBIR v2 修复照片并放大 2 倍，再由 StyleID 换上一幅画的样子，两者用同一个 "
        "Stable Diffusion 2.1。先修复很重要：StyleID 保留内容的结构，噪点和压缩方块也会一起保留。\n"
        "在“加载图像”（Load Image）里选择照片，在 **The style** 里选择画，按**运行**（Run）。\n\n"
        + files_note(*DIFFBIR, "BSRNet.pth")
        + DIALS
        + f"- 保真度 `fidelity`，*Fidelity of the restoration*：{_HELD}\n"
        "- 保真度 `fidelity`，*Fidelity of the style*：0.5 是作者的设置。越低风格越强，越高越保持内容。\n"
        + STYLE_SIZE
        + STYLE_COST
    ),
    "ddnm_inpaint": (
        "# DDNM：补上破损，其余不变\n\n适合划痕、污点和碍眼的东西，用任何 Stable Diffusion Checkpoint 都行（不需要"
        "局部重绘专用的）。每一步的预测，凡是照片已知的地方都换成照片。设置依照论文：100 步，每步加噪（eta 0.85）。\n"
        "在“加载图像”（Load Image）里选择照片，右键点击它，"
        + MASK_EDITOR
        + "，涂满破损处，在 **What the picture shows** 里描述整幅画面，按**运行**（Run）。\n\n"
        + files_note(SD15.name)
        + DIALS
        + "- 扩展 `expand`，*Grow the damage*：破损周围 16 像素也会重画，因为每个 Latent 单元都看得到四周。破损仍透出来"
        "时调大。\n"
        "- 结束百分比 `end_percent`，“DDNM 引导”（DDNM Guidance）：1。0.9 把最后几步交给模型，接缝更平滑。\n"
        "- 高度 `height`，*Size to work at*：512。破损处按这个尺寸画好再放大；周围的照片保留自己的像素。\n\n"
        "这里的投影作用于 Latent，不花时间。一个 Latent 单元宽 8 像素：比它更细的内容会连同四周一起重画。\n"
    ),
}
"""Workflow: what its Chinese note says."""
