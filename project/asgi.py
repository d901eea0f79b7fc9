"""What gunicorn serves: the front, and Django behind it."""

from django.conf import settings

from project.front import Front, Limits
from project.wsgi import application as django_application

application = Front(django_application, Limits(body_bytes=settings.DATA_UPLOAD_MAX_MEMORY_SIZE))
