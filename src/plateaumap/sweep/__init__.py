"""The specification of a sweep: axes, grid, validation, fingerprint and chunks."""
