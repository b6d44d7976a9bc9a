"""Running code that nobody vouched for: limits, no network, throw-away folders."""

from cwm_jax.sandbox.command import Isolation, SandboxMissing, python_paths
from cwm_jax.sandbox.limits import Limits
from cwm_jax.sandbox.process import Process, SandboxError

__all__ = ["Isolation", "Limits", "Process", "SandboxError", "SandboxMissing", "python_paths"]
