"""The `compile` verb where it has to say no."""

from collections import Counter

import pytest

from cwm_jax import config
from cwm_jax.__main__ import main
from cwm_jax.data.buckets import BatchShape
from cwm_jax.tpu.chips import Topology
from cwm_jax.tpu.compile import Compiled
from cwm_jax.tpu.forecast import forecast
from cwm_jax.tpu.program import Executed
from cwm_jax.training.experiment import Experiment

pytest.importorskip("libtpu")
TOY = "--gin_file=tests/aot/toy.gin"
TWO_LAYERS = ("--gin.ModelConfig.layers=2", "--gin.ModelConfig.scan_group=0", "--gin.ModelConfig.global_layers=(0,)")


def test_what_the_compiler_cannot_place_is_refused_with_the_largest_arrays(tmp_path, capsys):
    out = tmp_path / "report.json"
    huge = "--gin.StreamConfig.tokens_per_batch=67108864"
    assert main(["compile", TOY, "--topology", "v5e:2x4", huge, *TWO_LAYERS, "--out", str(out)]) != 0
    said = capsys.readouterr().err
    assert "v5e:2x4 does not hold this step" in said and "exceeds available HBM (15.75G)" in said
    # keys and values of the global layer, gathered over the context: 65,536 rows of 512 tokens, 128 bf16 numbers each
    assert "8.00 GiB  bfloat16[65536, 512, 1, 128] all_gather" in said
    assert not out.exists()


@pytest.mark.parametrize(("gib", "fits", "chips_at_least"), [(14, True, 8), (15.5, True, 9), (16, False, 9)])
def test_a_sum_beyond_hbm_does_not_fit_though_it_compiles(gib, fits, chips_at_least):
    experiment, topology = config.load(["tests/aot/toy.gin"], [], Experiment), Topology.parse("v5e:2x4")
    mesh = experiment.mesh_shape.build(topology.describe())
    step = Compiled(mesh, BatchShape(2, 512), Executed(1e9, Counter()), [], int(gib * 2**30), "", 1.0)
    report = forecast(experiment, topology, step)
    assert (report["fits"], report["chips_at_least"]) == (fits, chips_at_least)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--topology", "v5e:4x4"], "has 8 devices, v5e:4x4 has 16"),
        (["--topology", "v5q:2x4"], "there is no chip 'v5q'"),
    ],
)
def test_bad_layouts_say_what_to_change(arguments, complaint, capsys):
    assert main(["compile", TOY, *arguments]) == 2
    assert complaint in capsys.readouterr().err
