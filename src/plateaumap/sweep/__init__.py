"""The specification of a sweep: axes, validation, fingerprint, settings and chunks."""
