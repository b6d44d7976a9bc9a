"""gin in, one frozen dataclass out: resolution, checks, and the round trip of what `write` makes."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import gin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cwm_jax.config import ConfigError, flat, load, split_gin_flags, write


class Mixer(Protocol):
    def mix(self, x: float) -> float: ...


@dataclass(frozen=True)
class Average:
    weight: float = 0.5

    def mix(self, x: float) -> float:
        return x * self.weight


@dataclass(frozen=True)
class Shift:
    by: int = 1
    inner: Average = Average()

    def mix(self, x: float) -> float:
        return self.inner.mix(x) + self.by


@dataclass(frozen=True)
class Flat:
    def mix(self, x: float) -> float:
        return x


@dataclass(frozen=True)
class Optimizer:
    peak_lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    kind: Literal["adamw", "muon"] = "adamw"

    def __post_init__(self):
        if self.peak_lr < 0:
            raise ValueError(f"peak_lr must not be negative, got {self.peak_lr}")


@dataclass(frozen=True)
class Data:
    path: str = "here"
    rows: int | None = None


@dataclass(frozen=True)
class Model:
    width: int = 64
    tied: bool = False
    windows: tuple[int, ...] = (8, 0)
    mixer: Mixer = field(default_factory=lambda: Average(weight=0.25))
    shift: Shift | None = None
    extra: Any = None


@dataclass(frozen=True)
class Experiment:
    steps: int
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    train: Data = Data()
    tests: tuple[Data, ...] = ()
    note: str = ""


ALTERNATIVES = (Average, Shift, Flat)


def resolve(*bindings: str) -> Experiment:
    return load([], ["Experiment.steps=3", *bindings], Experiment, ALTERNATIVES)


def refused(*bindings: str) -> str:
    with pytest.raises(ConfigError) as error:
        resolve(*bindings)
    return str(error.value)


def test_defaults_are_the_dataclasses_own():
    assert resolve() == Experiment(steps=3)
    assert resolve().model.mixer == Average(0.25)


def test_bindings_reach_nested_components_without_a_reference():
    config = resolve("Optimizer.peak_lr=1", "Model.windows=[1, 2, 3]", "Average.weight=2.0", "Data.rows=7")
    assert config.optimizer == Optimizer(1.0) and type(config.optimizer.peak_lr) is float
    assert config.model == Model(windows=(1, 2, 3), mixer=Average(2.0))
    assert config.train == Data(rows=7)


def test_a_required_component_is_built_from_its_annotation():
    @dataclass(frozen=True)
    class Root:
        data: Data

    assert load([], ["Data.rows=2"], Root) == Root(Data(rows=2))


def test_alternatives():
    assert resolve("Model.mixer=@Shift()", "Shift.by=4", "Average.weight=1").model.mixer == Shift(4, Average(1.0))
    assert resolve("Model.shift=@Shift()", "Model.mixer=@Average()").model == Model(mixer=Average(), shift=Shift())


def test_scopes_tell_two_of_one_class_apart():
    config = resolve("Experiment.tests=[@new/Data(), @old/Data()]", "new/Data.path='n'", "Data.path='d'", "Data.rows=1")
    assert config.tests == (Data("n", 1), Data("d", 1))
    assert config.train == Data("d", 1)


def test_a_scope_holds_for_what_is_built_inside():
    config = resolve("Model.shift=@s/Shift()", "s/Average.weight=9.0", "s/Shift.by=2")
    assert config.model == Model(shift=Shift(2, Average(9.0)))
    config = resolve("Model.shift=@s/Shift()", "s/Average.weight=9.0", "Shift.inner=@Average()")
    assert config.model == Model(shift=Shift(1, Average(9.0)))


def test_macros_take_their_last_value(tmp_path):
    (tmp_path / "a.gin").write_text("size = 3\nModel.width = %size\nExperiment.steps = %size\nsize = 4\n")
    assert load([tmp_path / "a.gin"], [], Experiment) == Experiment(4, Model(width=4))
    assert load([tmp_path / "a.gin"], ["size=5"], Experiment) == Experiment(5, Model(width=5))


def test_files_includes_and_overrides_in_order(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base.gin").write_text("Model.width = 1\nExperiment.steps = 1\nOptimizer.peak_lr = 1.0\n")
    (tmp_path / "models" / "small.gin").write_text("include 'base.gin'\nModel.width = 2\n")  # beside the file
    (tmp_path / "top.gin").write_text("include 'models/small.gin'\nOptimizer:\n    peak_lr = 2.0\n")
    (tmp_path / "last.gin").write_text("Experiment.note = 'last'\nModel.tied = True\n")
    got = load([tmp_path / "top.gin", tmp_path / "last.gin"], ["Model.tied=False", "Model.width=9"], Experiment)
    assert got == Experiment(1, Model(width=9), Optimizer(2.0), note="last")
    (tmp_path / "models" / "far.gin").write_text("include 'last.gin'\nExperiment.steps = 5\n")  # in the working folder
    monkeypatch.chdir(tmp_path)
    assert load(["models/far.gin"], [], Experiment) == Experiment(5, Model(tied=True), note="last")


@pytest.mark.parametrize(
    "binding, wanted",
    [
        ("Model.width='64'", "int"), ("Model.width=1.5", "int"), ("Model.width=True", "int"), ("Model.tied=1", "bool"),
        ("Optimizer.peak_lr='x'", "float"), ("Optimizer.peak_lr=1e999", "float"), ("Optimizer.peak_lr=True", "float"),
        ("Optimizer.betas=(0.9,)", "tuple[float, float]"), ("Model.windows=(1, 'a')", "tuple[int, ...]"),
        ("Model.windows=3", "tuple[int, ...]"), ("Optimizer.kind='sgd'", "Literal['adamw', 'muon']"),
        ("Data.rows='a'", "int | None"), ("Data.path=None", "str"), ("Experiment.model=3", "@Model()"),
        ("Experiment.model=None", "@Model()"), ("Experiment.model=@Data()", "@Model()"),
        ("Model.mixer=@Data()", "Mixer"), ("Model.mixer=2", "Mixer"), ("Model.shift=@Average()", "Shift | None"),
        ("Model.extra={'a': @Data()}", "Any"), ("Experiment.tests=(@Data(), @Model())", "tuple[Data, ...]"),
    ],
)  # fmt: skip
def test_wrong_types_name_binding_value_and_type(binding, wanted):
    message = refused(binding)
    key, _, value = binding.partition("=")
    assert message.startswith(f"--gin.{binding}: {key} = ")
    assert f"does not fit {wanted}; write {key} = <{wanted}>" in message
    assert value == "1e999" or value[:2] in message


def test_defaults_are_checked_too():
    @dataclass(frozen=True)
    class Wrong:
        size: int = "a"

    with pytest.raises(ConfigError, match=r"default of Wrong.size = 'a' does not fit int"):
        load([], [], Wrong)


def test_unknown_names_suggest_near_ones():
    assert "no component 'Optimiser'; write Optimizer" in refused("Optimiser.peak_lr=1")
    assert "no parameter 'peaklr'; write peak_lr" in refused("Optimizer.peaklr=1")
    assert "no component 'Avrage'; write Average" in refused("Model.mixer=@Avrage()")
    assert "no component 'Shfit'; write Shift" in refused("Model.extra=[1, @Shfit()]")
    assert "%nowhere is not defined" in refused("Model.width=%nowhere")


def test_inert_bindings_are_refused(tmp_path):
    (tmp_path / "a.gin").write_text("Experiment.steps = 1\n\nShift.by = 3\n")
    with pytest.raises(ConfigError, match=r"a.gin:3: Shift.by = 3 has no effect: nothing uses @Shift\(\)"):
        load([tmp_path / "a.gin"], [], Experiment, ALTERNATIVES)
    assert "nothing uses %size" in refused("size=3")
    assert "nothing uses @new/Data()" in refused("new/Data.rows=3")
    assert "nothing uses @Average()" in refused("Model.mixer=@Flat()", "Average.weight=1.0")


def test_what_served_something_replaced_later_may_stay(tmp_path):
    base = "Experiment.steps = 1\nModel.shift = @Shift()\nShift.by = %by\nby = 3\nAverage.weight = 2.0\n"
    (tmp_path / "a.gin").write_text(base)
    got = load([tmp_path / "a.gin"], ["Model.shift=None", "Model.mixer=@Flat()"], Experiment, ALTERNATIVES)
    assert got == Experiment(1, Model(mixer=Flat()))
    with pytest.raises(ConfigError, match=r"Shift.by = 4 has no effect"):
        load([tmp_path / "a.gin"], ["Model.shift=None", "Shift.by=4"], Experiment, ALTERNATIVES)


def test_a_default_replaced_later_counts_as_well_and_so_does_what_was_in_it():
    inside = resolve("Model.mixer=@Flat()", "Model.shift=@Shift()", "Average.weight=2.0", "Model.shift=None")
    assert inside == resolve("Average.weight=2.0", "Model.mixer=@Flat()") == Experiment(3, Model(mixer=Flat()))


def test_unions_and_literals_keep_the_type():
    @dataclass(frozen=True)
    class Root:
        number: float | int = 0
        size: Literal[1, "all"] = 1

    number = load([], ["Root.number=1"], Root).number
    assert type(number) is int and type(load([], ["Root.number=1.0"], Root).number) is float
    with pytest.raises(ConfigError, match=r"Root.size = True does not fit Literal\[1, 'all'\]"):
        load([], ["Root.size=True"], Root)


@pytest.mark.parametrize(
    "text, message",
    [
        ("Experiment.note = tiny", "a.gin:1: Failed to parse token 'tiny'; .*strings in quotes"),
        ("Experiment.note =", "a.gin:1: Unable to parse value; "),
        ("Model.windows = (1,", "a.gin: EOF in multi-line statement; "),
        ("Model.mixer = @Average", r"@Average makes no component, @Average\(\) does"),
        ("import os", "a.gin:1: remove the import"),
        ("include 'gone.gin'", "cannot read the gin file gone.gin included by .*a.gin: No such"),
        ("include 'a.gin'", "includes itself"),
        ("a = %b\nb = %a\nModel.width = %a", "part of itself"),
        ("Model.extra = @Model()", "part of itself"),
        ("Optimizer.peak_lr = -1.0", "Optimizer: peak_lr must not be negative"),
        ("", r"Experiment.steps has no default; bind Experiment.steps = <int>"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "a.gin").write_text(text + "\n")
    steps = ["Experiment.steps=1"] if text else []
    with pytest.raises(ConfigError, match=message):
        load([tmp_path / "a.gin"], steps, Experiment, ALTERNATIVES)


def test_only_frozen_dataclasses_with_one_name_each():
    @dataclass
    class Loose:
        size: int = 1

    Twin = dataclass(frozen=True)(type("Model", (), {}))
    with pytest.raises(ConfigError, match="Loose is no frozen dataclass"):
        load([], [], Experiment, [Loose])
    with pytest.raises(ConfigError, match="two components are called Model"):
        load([], [], Experiment, [Twin])


def test_loads_do_not_meet():
    first = resolve("Model.width=5", "Experiment.model=@Model()")
    assert resolve() == Experiment(3) and first.model.width == 5
    assert gin.config_str() == "" and not gin.operative_config_str()
    with pytest.raises(ValueError, match="Model"):
        gin.parse_config("Model.width = 1")  # nothing of ours was registered with gin


def test_split_gin_flags():
    argv = ["train", "--gin_file=a", "--gin_file", "b", "--out", "d", "--gin.X.y=z=1", "--gin.A.b", "'c'", "--ginger=1"]
    assert split_gin_flags(argv) == (["a", "b"], ["X.y=z=1", "A.b='c'"], ["train", "--out", "d", "--ginger=1"])
    with pytest.raises(ConfigError, match=r"--gin.X has no value; write --gin.X=VALUE"):
        split_gin_flags(["--gin.X"])


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
floats = st.floats(allow_nan=False, allow_infinity=False)
datas = st.builds(Data, path=texts, rows=st.none() | st.integers())
averages = st.builds(Average, floats)
shifts = st.builds(Shift, st.integers(), averages)
anything = st.recursive(st.none() | st.booleans() | st.integers() | floats | texts | datas | shifts,
                        lambda items: st.lists(items, max_size=3).map(tuple), max_leaves=4)  # fmt: skip
models = st.builds(Model, st.integers(), st.booleans(), st.lists(st.integers(), max_size=3).map(tuple),
                   averages | shifts | st.just(Flat()), st.none() | shifts, anything)  # fmt: skip
optimizers = st.builds(Optimizer, floats.map(abs), st.tuples(floats, floats), st.sampled_from(["adamw", "muon"]))
experiments = st.builds(Experiment, st.integers(), models, optimizers, datas, st.lists(datas, max_size=3).map(tuple),
                        texts)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(experiments)
def test_what_is_written_loads_to_the_equal_config(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("run")
    write(config, folder)
    again = load([folder / "config.gin"], [], Experiment, ALTERNATIVES)
    assert again == config and flat(again) == flat(config)
    assert repr(again) == repr(config)  # 1 and 1.0 and True are equal, but differ
    assert sorted(p.name for p in folder.iterdir()) == ["config.gin", "config.json"]


def test_json_and_flat_name_the_class_only_where_it_is_open(tmp_path):
    config = resolve("Model.mixer=@Shift()", "Experiment.tests=[@Data()]")
    write(config, tmp_path)
    tree = json.loads((tmp_path / "config.json").read_text())
    assert tree["model"]["mixer"] == {"component": "Shift", "by": 1, "inner": {"weight": 0.5}}
    assert tree["train"] == {"path": "here", "rows": None} and "component" not in tree["model"]
    leaves = flat(config)
    assert leaves["model.mixer.component"] == "Shift" and leaves["model.mixer.inner.weight"] == 0.5
    assert leaves["tests.0.path"] == "here" and leaves["model.windows"] == (8, 0) and leaves["model.shift"] is None


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path):
    with pytest.raises(ConfigError, match="cannot write"):
        write(Experiment(1, Model(extra={"a": 1})), tmp_path)
    assert not list(tmp_path.iterdir())
