"""Is each tracked repository still the one that it was?"""

from datetime import timedelta

from django.utils import timezone

from metrics_sync.models import TrackedRepository
from metrics_sync.operate.doctor.findings import Finding

#: GitHub is asked at once, and again after five minutes.
LONG = timedelta(hours=1)
MOST = 10


def check_identities() -> list[Finding]:
    """Name the repositories of which something was hinted that GitHub has not answered."""
    doubted = TrackedRepository.objects.filter(doubted_at__lt=timezone.now() - LONG)
    found = [
        Finding(
            "repositories",
            f"{row}: doubted since {row.doubted_at:%Y-%m-%d %H:%M} UTC; the audit log says why",
            "See whether its token is good and the clock runs.",
        )
        for row in doubted.order_by("doubted_at", "pk")[:MOST]
    ]
    return found or [Finding("repositories", "none is doubted for long")]
