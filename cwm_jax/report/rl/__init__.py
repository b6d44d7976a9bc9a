"""The page and the TensorBoard of a run of reinforcement learning, from whatever its roles have told so far."""

from cwm_jax.report.rl.page import rl_report
from cwm_jax.report.rl.tensorboard import rl_tensorboard

__all__ = ["rl_report", "rl_tensorboard"]
