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
    runner.run(golden_case, request.getfixturevalue)


def test_pending_list_only_shrinks() -> None:
    """An entry whose runner exists, or that no case has, must be deleted from the list."""
    load_runners()
    cases = [read_case(path) for path in FOLDER.rglob("*.json")]
    known = {(case.method, case.module) for case in cases}
    stale = sorted(pending() & set(RUNNERS)) + sorted(pending() - known)
    assert not stale, f"delete from pending.txt: {stale}"


def test_a_wrong_value_fails_the_comparison(tmp_path) -> None:
    """The comparison itself can fail: by value, by NaN, by shape and by a forgotten output."""
    case = read_case(FOLDER / "diffbir" / "colour_fix.json")
    right = {name: case.tensors[name].clone() for name in case.data["outputs"]}
    case.check_all(right)
    for spoil in (
        lambda x: x + 2 * case.tolerance,
        lambda x: x * float("nan"),
        lambda x: x[..., 1:],
    ):
        with pytest.raises(AssertionError):
            case.check_all({**right, "wavelet": spoil(right["wavelet"])})
    with pytest.raises(AssertionError, match="does not compare"):
        case.check_all({name: value for name, value in right.items() if name != "wavelet"})
