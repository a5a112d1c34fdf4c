"""The table of results: its columns, and how values are shown."""
