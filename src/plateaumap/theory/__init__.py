"""Theory of plateau lengths: exact lengths, flow times and predictions without simulation."""
