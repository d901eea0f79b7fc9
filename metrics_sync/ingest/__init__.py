"""Takes webhook deliveries: verifies them, records them, and writes what they say to rows."""

from metrics_sync.ingest.deliveries import record_delivery
from metrics_sync.ingest.events import REPOSITORY_EVENTS
from metrics_sync.ingest.installations import track_repositories
