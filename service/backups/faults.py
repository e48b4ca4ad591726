"""What can go wrong with a backup, in words for whoever runs the service."""


class BackupError(Exception):
    """Something cannot be done; the message says why, and what to do."""


class DamagedError(BackupError):
    """A backup is not as it was made; the message says what of it."""
