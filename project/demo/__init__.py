"""Runs the whole service on one machine, with a pretend GitHub and the failures it must survive."""

from project.demo.stage import DemoError, open_stage
from project.demo.story import play

__all__ = ["DemoError", "open_stage", "play"]
