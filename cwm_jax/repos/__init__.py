"""Executable repositories: a project built in an environment of its own, and its tests run in the sandbox."""

from cwm_jax.repos.build import Build, Builder, NotBuilt, is_pinned, project_name
from cwm_jax.repos.suite import Outcome, SuiteLimits, run_tests

__all__ = ["Build", "Builder", "NotBuilt", "Outcome", "SuiteLimits", "is_pinned", "project_name", "run_tests"]
