"""Validated input: errors that a user can cause, types of fields, and local paths."""
