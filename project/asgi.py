"""The application that gunicorn serves: Django, behind the front."""

from django.conf import settings

from project.front import Front, Limits
from project.wsgi import application as django_application

application = Front(django_application, Limits(body_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE))
