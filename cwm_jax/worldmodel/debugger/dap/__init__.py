"""The debugger behind the Debug Adapter Protocol: for VS Code and every other editor that speaks it.

https://microsoft.github.io/debug-adapter-protocol; messages are checked against its JSON schema in the tests.
"""

from cwm_jax.worldmodel.debugger.dap.adapter import Adapter
from cwm_jax.worldmodel.debugger.dap.server import serve

__all__ = ["Adapter", "serve"]
