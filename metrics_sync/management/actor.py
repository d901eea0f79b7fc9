"""Names who runs a command, for the audit log."""

import getpass
import os


def describe_actor(command: str) -> str:
    """Name the command and the user of the operating system who runs it.

    In a container the user may have a number and no name.
    """
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = f"uid {os.getuid()}"
    return f"manage.py {command} by {user}"
