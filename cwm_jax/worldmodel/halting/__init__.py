"""Whether a program halts: by its predicted trace, and where something sound confirms that, by proof."""

from cwm_jax.worldmodel.halting.answer import Answer, Evidence, halts

__all__ = ["Answer", "Evidence", "halts"]
