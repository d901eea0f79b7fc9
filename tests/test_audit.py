"""How `make audit` reads pip-audit's answers."""

import runpy
from typing import Any

import pytest
from django.conf import settings

JUDGE = runpy.run_path(str(settings.BASE_DIR / ".ci" / "audit.py"))["judge"]

WELL = {"name": "rich", "version": "15.0.0", "vulns": []}
ILL = {
    "name": "django",
    "version": "5.2.0",
    "vulns": [{"id": "CVE-2026-1", "fix_versions": ["5.2.1"]}],
}
UNKNOWN = {"name": "rq", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "found", "checked", "unchecked"),
    [
        pytest.param([WELL], [], 1, 0, id="well"),
        pytest.param(
            [WELL, ILL], ["django 5.2.0: CVE-2026-1, mended in 5.2.1"], 2, 0, id="vulnerable"
        ),
        pytest.param([WELL, UNKNOWN], [], 1, 1, id="not known there"),
        pytest.param([], [], 0, 0, id="no answer at all"),
    ],
)
def test_unchecked_package_is_not_called_safe(
    packages: list[dict[str, Any]], found: list[str], checked: int, unchecked: int
) -> None:
    """A service that does not answer would otherwise look like a clean result."""
    assert JUDGE({"dependencies": packages}) == (found, checked, unchecked)
