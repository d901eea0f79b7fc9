"""How gunicorn runs `web`; the Procfile and the examples of docs/deploy all name this file."""

import os
import resource

#: How many files a process may have open. A connection that sends nothing is one, and nothing
#: here ends it: with the 1,024 that init systems give, a thousand of those stop `web`.
MOST_FILES = 65_536

# Bodies are read and answers sent without a thread: project/front.py.
worker_class = "asgi"
asgi_lifespan = "off"
# The proxy that ends TLS is on this machine, or BIND says where it comes from.
bind = ":".join([os.environ.get("BIND", "127.0.0.1"), os.environ.get("PORT", "8000")])
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
accesslog = "-"
# Nobody uses it, and it would be a file to write.
control_socket_disable = True

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
files = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
