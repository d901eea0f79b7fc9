"""How gunicorn runs `web`; the Procfile and the examples of docs/deploy all name this file."""

import gc
import os
import resource
from typing import Any

from project.logs import logging_config

#: Open files of a process. Idle connections are never closed here: with the usual limit of 1,024,
#: a thousand of them would stop `web`.
MOST_FILES = 65_536

# project/front.py reads bodies and sends responses without a thread.
worker_class = "asgi"
asgi_lifespan = "off"
# The TLS proxy runs on this machine, unless BIND says otherwise.
bind = ":".join([os.environ.get("BIND", "127.0.0.1"), os.environ.get("PORT", "8000")])
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
accesslog = "-"
logconfig_dict = logging_config(log_format=os.environ.get("LOG_FORMAT", "console"))
# Unused here; it would write a file.
control_socket_disable = True

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
files = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


def post_worker_init(_worker: Any) -> None:
    """Leave everything that was loaded out of garbage collection.

    A full collection otherwise walks through all of Django, which takes a tenth of a second, while
    somebody waits for a page that reads thousands of rows.
    """
    gc.collect()
    gc.freeze()
