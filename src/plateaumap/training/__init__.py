"""One training run as pure functions: the step, the search for crossings, and the measures."""
