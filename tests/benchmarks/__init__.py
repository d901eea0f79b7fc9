"""Measures cost and speed of the service, each figure beside a lower bound or another library."""
