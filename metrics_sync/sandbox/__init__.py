"""A pretend GitHub over real HTTP, for tests and the demo; production code never imports it."""

from metrics_sync.sandbox.faults import Fault, FaultKind
from metrics_sync.sandbox.payloads import build_pull_request_event
from metrics_sync.sandbox.posting import deliver, sign
from metrics_sync.sandbox.samples import make_recording, make_sample, make_samples
from metrics_sync.sandbox.server import SandboxServer
from metrics_sync.sandbox.world import DEFAULT_TOKEN, Recording, Token, World

__all__ = [
    "DEFAULT_TOKEN",
    "Fault",
    "FaultKind",
    "Recording",
    "SandboxServer",
    "Token",
    "World",
    "build_pull_request_event",
    "deliver",
    "make_recording",
    "make_sample",
    "make_samples",
    "sign",
]
