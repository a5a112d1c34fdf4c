"""The table of results: columns and their arrays, and values as text."""
