"""Chooses the token for a request to GitHub, and counts what is left of its rate limit."""

from metrics_sync.access.clients import (
    Access,
    is_accepted_again,
    keep_connected,
    run_conversation,
)
