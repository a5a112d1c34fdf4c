"""Where a sweep is evaluated: in this process (`local`)."""
