"""Zero-shot restoration: a known degradation guides any model (DDNM, arXiv 2212.00490)."""

from ..common.bases import SD15
from ..common.method import Method

METHOD = Method(name="zeroshot", title="zero-shot guidance", files=(SD15,))
