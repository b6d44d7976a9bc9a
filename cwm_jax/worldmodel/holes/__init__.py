"""Filling the holes, `??`, of a program whose shape and examples the user gives."""

from cwm_jax.worldmodel.holes.fill import Filling, fill
from cwm_jax.worldmodel.holes.grammar import Enumeration, Proposer
from cwm_jax.worldmodel.holes.shape import Shape

__all__ = ["Enumeration", "Filling", "Proposer", "Shape", "fill"]
