"""A number for each array of a tree, the same on every mesh: whether what was read is what was written.

It is computed from the arrays where they lie, before they are written and after they were read, so it covers all that
is between: disks, compression, transport, resharding. It costs one pass over memory, and no file is read twice.
"""

from typing import Any

import jax
import jax.numpy as jnp


@jax.jit
def fingerprint(tree: Any) -> Any:
    """A uint32 for each array: the sum of its bits, each element times an odd number of its own, modulo 2³².

    Odd numbers have inverses there, so one changed element always changes the sum, and other damage does but for one
    case in 2³² (our choice: damage is no adversary, a cryptographic hash would buy nothing).
    """

    def fingerprint(x: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}").astype("uint32")
        place = jnp.zeros((), "uint32")
        for axis, size in enumerate(x.shape):
            sharding = jax.typeof(x).sharding
            place = place * size + jax.lax.broadcasted_iota("uint32", x.shape, axis, out_sharding=sharding)
        return jnp.sum((2 * place + 1) * bits, dtype="uint32")

    return jax.tree.map(fingerprint, tree)
