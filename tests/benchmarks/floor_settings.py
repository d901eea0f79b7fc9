"""The project's settings, with the URLs of `floor.py`."""

from project.settings import *  # noqa: F403  (settings are names)

ROOT_URLCONF = "tests.benchmarks.floor"
