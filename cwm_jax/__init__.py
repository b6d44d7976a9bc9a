"""cwm_jax: make, train and use Code World Models in JAX."""
