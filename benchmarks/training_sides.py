"""One side of `train_vs_transformers.py`, in a process of its own so that its memory is its own.

    python benchmarks/training_sides.py (ours|theirs|compiled) CASE WEIGHTS

WEIGHTS is a folder that both start from; `ours` makes it where it is missing. The process answers commands, one a
line, with one line of JSON each: `train STEPS`, `products`, `memory`.

Shapes: B rows, S positions, N tokens of a batch; N x K times K x M is a matrix product.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from training_cases import CASES, CORES, Case

PEAK_LR = 1e-4
# The three products of a matrix: forward, gradient of the input, gradient of the matrix.
PRODUCTS = {"forward": ("NK", "KM"), "input": ("NM", "MK"), "matrix": ("KN", "NM")}


class Ours:
    """The training step of this project, as its loop runs it."""

    def __init__(self, case: Case, weights: Path):
        from cwm_jax.training.cpu import prepare_cpu

        prepare_cpu(case.mesh.devices)
        import jax
        from jax.sharding import NamedSharding

        from cwm_jax.model.transformer import rebuilder
        from cwm_jax.training.experiment import Experiment
        from cwm_jax.training.optimizers import AdamW
        from cwm_jax.training.schedules import WarmupConstantDecay
        from cwm_jax.training.state import init_state, optimizer_of
        from cwm_jax.training.step import make_step

        constant = WarmupConstantDecay(warmup=1, decay=0.0)
        experiment = Experiment(
            model=case.model,
            optimizer=AdamW(PEAK_LR),
            schedule=constant,
            mesh=case.mesh,
            compute=case.dtype,
            steps=10**6,
        )
        self._jax, self._mesh, self._case, rules = jax, case.mesh.build(), case, experiment.rules
        with jax.set_mesh(self._mesh):
            self._state = init_state(experiment, case.vocab_size, self._mesh)
            if not weights.exists():
                _save(weights, case, self._state.params)
            rows = NamedSharding(self._mesh, rules.spec("batch", "sequence"))
            self._batch = jax.tree.map(lambda array: jax.device_put(array, rows), case.row())
            rebuild, optimizer = rebuilder(case.model, case.vocab_size), optimizer_of(experiment)
            step = make_step(rebuild, optimizer, rules, experiment.guard, experiment.dtype)
            self._step = jax.jit(step, donate_argnums=0).lower(self._state, self._batch).compile()

    def train(self, steps: int) -> float:
        """The loss of the last of so many steps.

        Like the training loop it waits for the step before: of 32 steps queued up JAX's CPU devices deadlock.
        """
        loss = np.nan
        for _ in range(steps):
            self._state, metrics = self._step(self._state, self._batch)
            float(loss)
            loss = metrics["loss"]
        return float(loss)

    def product(self, left: str, right: str, sizes: dict[str, int]) -> Callable[[], None]:
        """Computes one product, each device its share of the tokens."""
        jax, P, mesh = self._jax, self._jax.sharding.PartitionSpec, self._mesh
        axes = mesh.axis_names

        def array(names: str):
            spec = P(*(axes if name == "N" else None for name in names))
            drawn = np.random.default_rng(0).normal(size=[sizes[name] for name in names])
            return spec, jax.device_put(drawn.astype(self._case.dtype), jax.NamedSharding(mesh, spec))

        (left_spec, a), (right_spec, b) = array(left), array(right)
        out = P(axes) if left[0] == "N" else P(None, axes)  # the matrix's gradient of each device by its side
        multiply = jax.jit(jax.shard_map(jax.numpy.matmul, mesh=mesh, in_specs=(left_spec, right_spec), out_specs=out))
        return lambda: multiply(a, b).block_until_ready()

    def memory(self) -> float:
        """Peak bytes of the device, or of this process where the device is the CPU."""
        stats = self._jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else _peak_resident()


class Theirs:
    """`CwmForCausalLM` with fused AdamW, eager or compiled."""

    def __init__(self, case: Case, weights: Path, compiled: bool):
        import torch
        from transformers import CwmForCausalLM

        torch.set_num_threads(CORES)
        self._torch, self._case = torch, case
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model = CwmForCausalLM.from_pretrained(weights, dtype=torch.float32, attn_implementation="sdpa")
        model = model.to(self._device).train()
        matrices = [weight for weight in model.parameters() if weight.ndim == 2]
        vectors = [weight for weight in model.parameters() if weight.ndim == 1]
        self._weights = matrices + vectors
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
            lr=PEAK_LR, betas=(0.9, 0.95), eps=1e-8, fused=True,
        )  # fmt: skip
        row = case.row()
        labels = np.where(row.loss_weights > 0, row.tokens, -100)
        self._batch = {"input_ids": row.tokens, "labels": labels}
        if case.shortest < case.length:
            self._batch["position_ids"] = row.positions  # from these they see where documents begin
        self._batch = {
            name: torch.tensor(array, dtype=torch.long, device=self._device) for name, array in self._batch.items()
        }
        self._model = torch.compile(model) if compiled else model

    def train(self, steps: int) -> float:
        """The loss of the last of so many steps."""
        for _ in range(steps):
            with self._torch.autocast(self._device, self._torch.bfloat16, enabled=self._case.dtype == "bfloat16"):
                loss = self._model(**self._batch, use_cache=False).loss
            loss.backward()
            self._torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def product(self, left: str, right: str, sizes: dict[str, int]) -> Callable[[], None]:
        """Computes one product."""
        torch = self._torch

        def array(names: str):
            shape = [sizes[name] for name in names]
            return torch.randn(shape, dtype=getattr(torch, self._case.dtype), device=self._device)

        a, b = array(left), array(right)

        def multiply() -> None:
            torch.mm(a, b)
            if self._device == "cuda":
                torch.cuda.synchronize()

        return multiply

    def memory(self) -> float:
        """Peak bytes of the device, or of this process where the device is the CPU."""
        cuda = self._torch.cuda
        return cuda.max_memory_allocated() if cuda.is_available() else _peak_resident()


def _save(folder: Path, case: Case, params) -> None:
    from cwm_jax.checkpoints.huggingface import write_huggingface
    from cwm_jax.checkpoints.weights import ParamsReader, WeightsIndex

    index = WeightsIndex(case.model, case.vocab_size, "float32")
    folder.mkdir(parents=True)
    write_huggingface(folder, index, ParamsReader(index, params).read, lambda: None)


def _peak_resident() -> int:
    """Of this process alone; `getrusage` starts from the parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _products(side: Ours | Theirs, case: Case) -> Iterator[tuple[str, float]]:
    """Seconds of each product of a step, the best of several."""
    for K, M in case.products():
        for kind, (left, right) in PRODUCTS.items():
            multiply = side.product(left, right, {"N": case.tokens, "K": K, "M": M})
            multiply()
            times = []
            while len(times) < 3 or (sum(times) < 0.1 and len(times) < 100):
                start = time.perf_counter()
                multiply()
                times.append(time.perf_counter() - start)
            yield f"{K} {M} {kind}", min(times)


def main() -> None:
    name, case, weights = sys.argv[1], CASES[sys.argv[2]], Path(sys.argv[3])
    side = Ours(case, weights) if name == "ours" else Theirs(case, weights, compiled=name == "compiled")
    for line in sys.stdin:
        match line.split():
            case ["train", steps]:
                start = time.perf_counter()
                loss = side.train(int(steps))
                answer = {"seconds": time.perf_counter() - start, "loss": loss}
            case ["products"]:
                answer = dict(_products(side, case))
            case ["memory"]:
                answer = side.memory()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
