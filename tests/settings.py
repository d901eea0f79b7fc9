"""The project's settings as the tests use them: nothing has to be configured."""

import os
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet

os.environ.setdefault("SECRET_KEY", "only-for-tests")
os.environ.setdefault("TOKEN_ENCRYPTION_KEYS", Fernet.generate_key().decode())
os.environ["GITHUB_WEBHOOK_SECRET"] = "shared-webhook-secret"
os.environ.pop("GITHUB_TOKEN", None)
os.environ.pop("GITHUB_APP_ID", None)
os.environ.pop("GITHUB_APP_PRIVATE_KEY", None)

from project.settings import *  # noqa: F403  (settings are names)

if "sqlite3" in DATABASES["default"]["ENGINE"]:  # noqa: F405
    # A file, because tests start workers, which are processes of their own.
    _name = f"metrics_sync-tests-{os.getpid()}.sqlite3"
    _path = str(Path(tempfile.gettempdir()) / _name)
    # Each process makes the tables from the models: by the migrations it takes 20 times as long.
    DATABASES["default"]["TEST"] = {"NAME": _path, "MIGRATE": False}  # noqa: F405
else:
    # What a test has committed need not outlive the loss of power.
    DATABASES["default"]["OPTIONS"]["options"] += " -c synchronous_commit=off"  # noqa: F405

# Jobs of a test that has no Redis of its own must not reach anybody else's.
RQ_QUEUES = {
    name: {**queue, "URL": f"redis://127.0.0.1:1/0?{str(queue['URL']).partition('?')[2]}"}
    for name, queue in RQ_QUEUES.items()  # noqa: F405
}

ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Else each client of a test would look through the theme's files for its first request.
WHITENOISE_AUTOREFRESH = True
