"""Django as a WSGI application: what `web` has behind its front, and what `runserver` serves."""

import os

from django.core.wsgi import get_wsgi_application

from project.databases import PROCESS

os.environ[PROCESS] = "web"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = get_wsgi_application()
