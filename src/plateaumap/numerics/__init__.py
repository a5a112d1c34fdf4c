"""Elementary functions, Gaussian tails and quadrature, where JAX's own cancel or are slow."""
