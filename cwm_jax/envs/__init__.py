"""Environments: tasks told in tokens, actions taken in tokens, and what came of them."""
