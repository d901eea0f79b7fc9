"""What docs/metrics.md says, and what the code does."""

import json
import re
from pathlib import Path

from django.conf import settings

from metrics_sync.metrics import METRICS_VERSION, Metrics, measure
from tests.histories import tell

ROOT: Path = settings.BASE_DIR
METRICS = (ROOT / "docs" / "metrics.md").read_text()


def read_block(language: str) -> str:
    [block] = re.findall(rf"^```{language}\n(.*?)^```", METRICS, re.MULTILINE | re.DOTALL)
    return str(block)


def test_worked_example_gives_its_numbers() -> None:
    """Who doubts a number starts with this page."""
    metrics = measure(tell(read_block("history")))

    expected = json.loads(read_block("json"))
    found = {name: getattr(metrics, name) for name in expected}
    assert {n: v if isinstance(v, (int, str)) else str(v) for n, v in found.items()} == expected


def test_every_metric_is_explained() -> None:
    """A number without a definition is an opinion."""
    documented = set(re.findall(r"^\| `(\w+)` \|", METRICS, re.MULTILINE))

    assert documented == set(Metrics.__slots__) - {"provenance"}
    assert f"now {METRICS_VERSION})" in METRICS
