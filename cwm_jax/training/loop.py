"""The training loop, for pre-training, mid-training and SFT alike.

Order: configuration, data, mesh, weights, restore; then for every step: batch, step, checkpoint,
metrics of the step before (fetching them earlier would wait for the device). When asked to stop, it saves between two
steps and goes.
"""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from cwm_jax import config as configuration
from cwm_jax.checkpoints.training import Checkpoints, abstract
from cwm_jax.data.buckets import BatchShape
from cwm_jax.data.rows import Row
from cwm_jax.data.stream import BucketedBatches, iterate
from cwm_jax.files import in_use, write_json
from cwm_jax.report.progress import progress
from cwm_jax.report.run import metrics_by_step, run_report
from cwm_jax.training.experiment import Experiment
from cwm_jax.training.metrics import MetricsWriter
from cwm_jax.training.preemption import Stopped, StopSignals
from cwm_jax.training.processes import is_first, join_processes, wait_for_all
from cwm_jax.training.state import TrainState, init_state, restored
from cwm_jax.training.step import experiment_step


def train(experiment: Experiment, out: Path) -> dict[str, Any]:
    """Trains to `experiment.steps`, from the newest checkpoint in `out` if there is one.

    `out` then holds `config.gin`, `config.json`, `data/`, `checkpoints/`, `metrics.jsonl`,
    TensorBoard files, `results.json` and `report.html`.

    Returns:
      `results.json`: minutes of recording and training, parameters, tokens.

    Raises:
      ValueError: `out` belongs to another configuration, or another process trains there; its data or all its
        checkpoints are damaged.
      FileNotFoundError: a file of its data is gone.
      OSError: the disk is full.
      Diverged: too many bad steps in a row.
      Stopped: SIGTERM or Ctrl-C.
      In each case the same call goes on from the last step that was saved.
    """
    join_processes(experiment.mesh_shape.devices)
    with StopSignals() as stop, in_use(Path(out)) if is_first() else nullcontext():
        return _train(experiment, Path(out), stop)


def _train(experiment: Experiment, out: Path, stop: StopSignals) -> dict[str, Any]:
    if is_first():
        write_config(experiment, out)
    wait_for_all("the configuration is written")
    if (finished := _finished(out, experiment.steps)) is not None:
        return finished
    if is_first():
        experiment.data.ready(out)
    wait_for_all("the rows are ready")
    rows = experiment.data.ready(out)

    started = time.monotonic()
    mesh = experiment.mesh_shape.build()
    with jax.set_mesh(mesh):
        rules = experiment.rules
        batches = BucketedBatches(
            rows, experiment.stream, experiment.steps, rules.batch_shards(mesh), rules.my_batch_shards(mesh)
        )
        place = NamedSharding(mesh, rules.spec("batch", "sequence"))
        with Checkpoints(out / "checkpoints", experiment.checkpoint_every) as checkpoints:
            if checkpoints.latest:
                first, state = restored(checkpoints, experiment, rows.vocab_size, mesh)
            else:
                first, state = 0, init_state(experiment, rows.vocab_size, mesh)
            checkpoints.set_aside(after=first)
            size = sum(leaf.size for leaf in jax.tree.leaves((state.params, state.frozen)))
            if first < experiment.steps:
                steps = _compile(experiment, rows.vocab_size, abstract(state), batches.shapes, place)
                _loop(experiment, out, state, batches, steps, place, checkpoints, first, started, stop)
        wait_for_all("the last checkpoint is written")

    if is_first():
        _write_results(out, rows.seconds, size, experiment.steps)
    wait_for_all("the results are written")
    return json.loads((out / "results.json").read_text())


def _compile(
    experiment: Experiment, vocab_size: int, state: TrainState, shapes: list[BatchShape], place: NamedSharding
) -> dict[BatchShape, Callable]:
    """The step for every shape of batches; compiled side by side, as the compiler uses one core."""

    def compiled(shape: BatchShape) -> Callable:
        def array(dtype: str) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((shape.rows, shape.length), dtype, sharding=place)

        batch = Row(array("int32"), array("int32"), array("int32"), array("float32"))
        with jax.set_mesh(place.mesh):
            step = experiment_step(experiment, vocab_size, shape.global_window)
            return jax.jit(step, donate_argnums=0).lower(state, batch).compile()

    steps: dict[BatchShape, Callable] = {}
    with progress("compiling", len(shapes), unit="shapes") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for shape, step in zip(shapes, pool.map(compiled, shapes)):
                steps[shape] = step
                bar.update(len(steps))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return steps


def _loop(experiment, out, state, batches, steps, place, checkpoints, first, started, stop) -> None:
    """Steps `first` to the last, on the clock since `started`.

    `steps` holds the step for each shape of `batches`, `place` is their sharding.
    """
    spent = metrics_by_step(out / "metrics.jsonl")
    seconds = next((line["seconds"] for line in reversed(spent) if line["step"] <= first), 0.0) if first else 0.0
    tokens = next((line["tokens"] for line in reversed(spent) if line["step"] <= first), 0) if first else 0
    done, last, ending, data = first, None, None, iterate(batches, first)
    with (
        MetricsWriter(out) if is_first() else nullcontext() as writer,
        progress("training", experiment.steps, unit="steps", start=first) if writer else nullcontext() as bar,
        jax.transfer_guard("disallow"),
        stop.held(),
    ):
        while done < experiment.steps and ending is None:
            try:
                batch = next(data)
            except (OSError, ValueError) as error:  # lost or damaged data costs no step that was done
                ending = error
                break
            shape = batches.shape(done)
            tokens += shape.rows * shape.length
            state, metrics = steps[shape](state, _on_devices(batch, shape, batches.my_rows(shape).start, place))
            done += 1
            # No checkpoint amid bad steps: the weights may be what makes them bad, and only two are kept.
            if checkpoints.due(done) and not jax.device_get(metrics["skipped_in_a_row"]):
                checkpoints.save(done, state.saved)
            if last is not None:
                _log(experiment.guard, writer, bar, *last)
            last = (done, metrics, {"seconds": seconds + time.monotonic() - started, "tokens": tokens})
            if (asked := stop.requested(done)) and done < experiment.steps:
                ending = Stopped(asked, f"at step {done} of {experiment.steps}, saved in {out / 'checkpoints'}")
        if last is not None:
            checkpoints.save(done, state.saved)
            _log(experiment.guard, writer, bar, *last)
        checkpoints.wait()
    if ending is not None:
        raise ending


def _on_devices(batch: Row, shape: BatchShape, first: int, place: NamedSharding) -> Row:
    """The global batch, of which this process has the rows from `first` on."""

    def spread(rows: np.ndarray) -> jax.Array:
        def part(index: tuple[slice, slice]) -> np.ndarray:
            start, stop, _ = index[0].indices(shape.rows)
            return rows[start - first : stop - first, index[1]]

        return jax.make_array_from_callback((shape.rows, shape.length), place, part)

    with jax.transfer_guard("allow"):  # the one transfer that is meant
        return jax.tree.map(spread, batch)


def _log(guard, writer, bar, step: int, metrics: dict[str, jax.Array], more: dict[str, float]) -> None:
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    values |= {name: round(value, 3) for name, value in more.items()}
    values["tokens_per_second"] = round(values["tokens"] / max(values["seconds"], 1e-9))
    if writer is not None:  # only one process writes
        writer.write(step, values)
        skipped = f", {values['skipped']:,.0f} bad steps skipped" if values["skipped"] else ""
        bar.update(
            step,
            note=f"loss {values['loss']:.3f}, {values['accuracy']:.1%} of tokens, "
            f"{values['tokens_per_second']:,} tokens/s{skipped}",
        )
    guard.check(step, values)


def _finished(out: Path, steps: int) -> dict[str, Any] | None:
    """The results of a run that has come to its end; None if there is more to do."""
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    if results.get("steps") != steps or not (out / "checkpoints" / str(steps)).exists():
        return None
    print(f"{out} is finished, {steps} steps; its report is {out / 'report.html'}")
    return results


def write_config(experiment: Experiment, out: Path) -> None:
    """Writes the configuration into a run's folder, or checks that it is the one the folder has."""
    if (out / "config.json").exists():
        before = configuration.load([out / "config.gin"], [], Experiment)
        if before != experiment:
            old, new = configuration.flat(before), configuration.flat(experiment)
            changed = [
                f"{name}: {old.get(name)} there, {new.get(name)} here"
                for name in {**old, **new}
                if old.get(name) != new.get(name)
            ]
            raise ValueError(f"{out} is a run of another configuration ({'; '.join(changed)}); choose another --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        configuration.write(experiment, out)


def _write_results(out: Path, recording: float, parameters: int, steps: int) -> None:
    """Writes `results.json` with what training knows (evaluation adds to it) and the report.

    `recording` is how many seconds making the rows took.
    """
    path = out / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    last = metrics_by_step(out / "metrics.jsonl")[-1]
    minutes = results.get("minutes", {}) | {"record": recording / 60, "train": last["seconds"] / 60}
    results |= {"steps": steps, "minutes": minutes, "parameters": int(parameters), "tokens": int(last["tokens"])}
    minutes["total"] = sum(value for name, value in minutes.items() if name != "total")
    write_json(path, results)
    run_report(out)
