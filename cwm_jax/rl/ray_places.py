"""Which machine of a cluster plays which role, by Ray's resources (tpu_scripts/worker/ray.sh starts Ray with them).

- `learner`: one of its processes on each; a machine has as many of this resource as the learner has processes.
- `sampler`: one on each. Of one of several hosts a machine has, in place of it, `sampler-0` (1, …), as many as hosts.
- `environments`: pools of environments, as many as samplers, spread over them.
- The board is with Ray's own head, whose loss ends the run as well.
"""

import sys
import time
from typing import Any, NamedTuple

from cwm_jax.rl.experiment import Rl

_WAIT = 10.0  # seconds between words about a machine that is waited for
_LITTLE = 0.001  # of a resource, by what takes no machine for itself


class Places(NamedTuple):
    """Options of the actors of each role: what of a machine they ask for.

    Attributes:
      pools: of environments.
      learner: of each of its processes.
      samplers: of each process of each.
      env: of a pool.
      board: of the board.
    """

    pools: int
    learner: list[dict[str, Any]]
    samplers: list[list[dict[str, Any]]]
    env: dict[str, Any]
    board: dict[str, Any]


def places_of(rl: Rl, address: str | None) -> Places:
    """Where roles go; on this machine alone they ask for nothing. Waits for the first machine of a sampler.

    Raises:
      ValueError: no machine of the cluster was started for the learner.
    """
    import ray

    if address is None:
        return Places(1, [{}], [[{}]] * rl.samplers, {}, {})

    def most(kind: str) -> int:
        """Of a resource, on one machine."""
        nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])
        return int(max((amount for node in nodes for name, amount in node.items() if name.startswith(kind)), default=0))

    if not (processes := most("learner")):
        raise ValueError(
            f"--address {address}: no machine there has the resource 'learner'; start Ray on the learner's with "
            """--resources='{"learner": 1}', on the others with "sampler" or "environments\""""
        )
    while not (hosts := most("sampler")):
        print(f"rl: waiting for a machine with the resource 'sampler' at {address}", file=sys.stderr)
        time.sleep(_WAIT)
    samplers = [
        [{"resources": {"sampler" if hosts == 1 else f"sampler-{number}": hosts}}] * hosts
        for number in range(rl.samplers)
    ]
    learner, head = {"resources": {"learner": processes}}, {"node:__internal_head__": _LITTLE}
    env = {"resources": {"environments": _LITTLE}, "scheduling_strategy": "SPREAD"}
    return Places(rl.samplers, [learner] * processes, samplers, env, {"resources": head})
