"""Writes an environment file for production, with fresh secrets: `make production-env`."""

import argparse
import os
import secrets
import sys
from pathlib import Path

from cryptography.fernet import Fernet

from project.base_url import read_base_url

#: Values stand in single quotes, which systemd, compose and shells read alike.
TEMPLATE = """\
# Keep this file secret, and keep it apart from backups of the database.
# README.md, Settings, explains each variable and lists the others.
BASE_URL='{base_url}'
SECRET_KEY='{secret_key}'
TOKEN_ENCRYPTION_KEYS='{encryption_key}'
METRICS_TOKEN='{metrics_token}'
# compose makes the database with this password. Elsewhere DATABASE_URL needs the right host.
POSTGRES_PASSWORD='{password}'
DATABASE_URL='postgres://metrics_sync:{password}@127.0.0.1/metrics_sync'
REDIS_URL='redis://127.0.0.1:6379/0'
LOG_FORMAT='json'
# For a GitHub App, or a webhook that several teams share:
#GITHUB_WEBHOOK_SECRET='{webhook_secret}'
#GITHUB_APP_ID=''
#GITHUB_APP_PRIVATE_KEY=''
"""


def write(base_url: str, path: Path) -> None:
    """Write a new file that only its owner can read. Raises FileExistsError if it exists."""
    text = TEMPLATE.format(
        base_url=base_url,
        secret_key=secrets.token_urlsafe(50),
        encryption_key=Fernet.generate_key().decode(),
        metrics_token=secrets.token_urlsafe(32),
        password=secrets.token_urlsafe(24),
        webhook_secret=secrets.token_hex(32),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def main(arguments: list[str]) -> str:
    """Write the file that the arguments name; return the error, or None."""
    parser = argparse.ArgumentParser(prog="make production-env", description=__doc__)
    parser.add_argument("base_url", help="the service's own address, e.g. https://sync.example")
    parser.add_argument("file", nargs="?", type=Path, default=Path("production.env"))
    options = parser.parse_args(arguments)
    try:
        write(read_base_url(options.base_url), options.file)
    except ValueError as error:
        return f"{error}."
    except OSError as error:
        return f"{options.file} was not written: {error.strerror}."
    print(f"Wrote {options.file}. Next: see docs/deploy.md.")  # noqa: T201
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) or 0)
