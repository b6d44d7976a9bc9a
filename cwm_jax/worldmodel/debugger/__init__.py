"""The debugger: step through what a program does, as a model predicts it or as it really was, forwards and back.

One session (`session.py`), three faces: a terminal with pdb's commands, a server of the Debug Adapter Protocol, and a
widget for notebooks.
"""

from cwm_jax.worldmodel.debugger.program import Program
from cwm_jax.worldmodel.debugger.session import Session

__all__ = ["Program", "Session"]
