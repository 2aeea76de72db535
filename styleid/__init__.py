"""StyleID (Chung, Hyun, Heo, CVPR 2024, arXiv 2312.09008): DDIM inversion and style injection."""

from ..common.bases import SD15
from ..common.method import Method

METHOD = Method(name="styleid", title="StyleID", files=(SD15,))
