"""Fetches all of a merged pull request from GitHub, proves it complete, and measures it."""

__version__ = "0.1.0"
