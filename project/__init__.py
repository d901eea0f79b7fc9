"""The Django project: settings, addresses, and the processes' entry points."""
