"""Every golden case through its runner. Another folder: pytest tests/golden --golden-dir DIR."""

from __future__ import annotations

import pytest

from restoration.tests.golden.suite import (
    FOLDER,
    RUNNERS,
    GoldenCase,
    load_runners,
    pending,
    read_case,
)


@pytest.fixture(autouse=True)
def _reported(request: pytest.FixtureRequest, record_property) -> None:
    """Tells the summary which module a case belongs to, before anything can skip it."""
    if "golden_case" in request.fixturenames:
        case = request.getfixturevalue("golden_case")
        record_property("golden module", f"{case.method}: {case.module}")


def test_golden_case(
    golden_case: GoldenCase, request: pytest.FixtureRequest, record_property
) -> None:
    key = (golden_case.method, golden_case.module)
    runner = RUNNERS.get(key)
    if runner is None:
        if key in pending():
            record_property("pending", True)
            pytest.skip("pending: this method is not written yet; the golden summary names it")
        pytest.fail(f"no runner for {key[0]}: {key[1]}; write one in runners_{key[0]}.py")
    runner(golden_case, request.getfixturevalue)


def test_pending_list_only_shrinks() -> None:
    """An entry whose runner exists, or that no case has, must be deleted from the list."""
    load_runners()
    cases = [read_case(path) for path in FOLDER.rglob("*.json")]
    known = {(case.method, case.module) for case in cases}
    stale = sorted(pending() & set(RUNNERS)) + sorted(pending() - known)
    assert not stale, f"delete from pending.txt: {stale}"
