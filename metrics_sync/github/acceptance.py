"""Decides when a list that never agrees, or never comes, is taken as it is; pure."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from metrics_sync.exceptions import DisagreementError, RetrySoonError
from metrics_sync.snapshot import DISAGREEING, SUPPLEMENTARY, UNAVAILABLE, Section, SectionResult

#: A fault is believed to stay after so many fetches met it, over so long a time.
LOOKS = 3
SETTLED_AFTER = timedelta(days=1)


def settle(
    section: Section, result: SectionResult, entry: Mapping[str, Any] | None, *, now: datetime
) -> SectionResult:
    """End a list that three fetches over a day found at fault in the same way.

    A list that GitHub counts otherwise becomes `disagreeing`, with what both sides say as its
    reason; one that a pull request can be without, and that always fails, `unavailable`. `entry`
    is the section's in the receipt so far, where the fetches that met the fault are counted.
    """
    is_disagreeing = isinstance(result.error, DisagreementError)
    is_failing = section in SUPPLEMENTARY and isinstance(result.error, RetrySoonError)
    if not is_disagreeing and not is_failing:
        return result
    fault = str(result.error) if is_disagreeing else "fails"
    looks = _count(entry, fault, now=now)
    if looks["count"] < LOOKS or now - datetime.fromisoformat(looks["since"]) < SETTLED_AFTER:
        return replace(result, looks=looks)
    if is_disagreeing:
        return replace(
            result, result=DISAGREEING, error=None, reason=fault, etags=(), looks=looks, witness=""
        )
    reason = f"failed {looks['count']} times since {looks['since']}: {result.error}"
    return SectionResult(items=None, result=UNAVAILABLE, reason=reason, looks=looks)


def _count(entry: Mapping[str, Any] | None, fault: str, *, now: datetime) -> dict[str, Any]:
    earlier = (entry or {}).get("looks") or {}
    if earlier.get("fault") != fault:
        return {"fault": fault, "count": 1, "since": now.isoformat()}
    return {**earlier, "count": earlier["count"] + 1}
