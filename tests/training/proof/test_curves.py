from __future__ import annotations

import re
from xml.etree import ElementTree

from restoration.training.proof.curves import curves


def test_every_run_is_a_curve_from_its_first_loss_down(tmp_path) -> None:
    for name, factor in {"base": 0.99, "pasd": 0.98}.items():
        (tmp_path / name).mkdir()
        rows = [f"{step},{5 * factor**step}" for step in range(200)]
        (tmp_path / name / "log.csv").write_text("\n".join(["step,loss", *rows]), "utf-8")
    root = ElementTree.fromstring(curves(tmp_path))
    drawn = [
        [float(y) for y in re.findall(r",([\d.]+)", line.attrib["points"])]
        for line in root.iter("{http://www.w3.org/2000/svg}polyline")
    ]
    assert len(drawn) == 2
    for heights in drawn:
        assert heights == sorted(heights) and heights[0] < heights[-1]
    assert drawn[0][0] == drawn[1][0] and drawn[0][-1] < drawn[1][-1]
    assert [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")][-3:-1] == [
        "base",
        "pasd",
    ]
