"""Backups of the database: made, listed, verified, restored and pruned. docs/backup.md says how."""
