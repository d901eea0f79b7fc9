"""What operators use: connect, doctor, keys, export, monitoring, and the checks of settings."""
