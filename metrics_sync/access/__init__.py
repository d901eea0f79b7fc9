"""Decides as whom to ask GitHub: credentials, App tokens, and what is left of a budget."""

from metrics_sync.access.clients import Access, converse, is_accepted_again

__all__ = ["Access", "converse", "is_accepted_again"]
