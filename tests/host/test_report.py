"""What leaves for the front end, which reads progress text as HTML."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.host


@pytest.fixture
def sent(comfy, monkeypatch) -> list[tuple[str, str]]:
    """(text, node id) of all that goes to the server."""
    found: list[tuple[str, str]] = []
    server = SimpleNamespace(send_progress_text=lambda text, node_id: found.append((text, node_id)))
    module = SimpleNamespace(PromptServer=SimpleNamespace(instance=server))
    monkeypatch.setitem(sys.modules, "server", module)
    return found


def test_text_on_a_node_is_no_html(sent) -> None:
    from restoration.host.report import announce, show

    show("<img src=x onerror=alert(1)> & 'more'", "7")
    announce("tiles < 4", "8")
    assert sent == [
        ("&lt;img src=x onerror=alert(1)&gt; &amp; 'more'", "7"),
        ("tiles &lt; 4", "8"),
    ]


def test_no_error_of_a_node_is_html(comfy) -> None:
    from restoration.nodes.style import StyleIDInvert
    from restoration.tests.host.networks import SMALL, ldm_unet_config, unet_model

    model = unet_model(ldm_unet_config(SMALL))
    with pytest.raises(ValueError, match=r"`layers` is '‹b›'"):
        StyleIDInvert.execute(model, [], {}, 50, "diffusers", "<b>", "cpu_fp16")


def test_a_refused_value_is_quoted_short(comfy) -> None:
    from restoration.host.report import quoted

    assert quoted("one") == "'one'" and quoted(3) == "3"
    assert quoted("\x1b[31m\n") == "'\\x1b[31m\\n'"
    assert len(quoted("x" * 10_000)) < 80
    assert len(quoted(list(range(1000)))) < 80
