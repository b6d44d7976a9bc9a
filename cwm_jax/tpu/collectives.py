"""Collectives of a compiled program, counted in its optimised HLO.

The compiler's own cost analysis counts the body of a loop once. Here a loop counts as often as it runs, and an
asynchronous collective once, however many fusions it is spread over.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "collective-permute", "all-to-all")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = (\(?.*?\)?) ([a-z][\w\-]*)\((.*)$")
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_SHAPE = re.compile(r"\b(pred|[a-z]+\d+(?:e\dm\d\w*)?)\[([\d,]*)\]")


@dataclass(frozen=True)
class Collective:
    """A collective of one step.

    Attributes:
      kind: one of `KINDS`.
      bytes: of the whole array on one device: what a gather makes, what a reduction takes, what a permute sends.
      group: positions in the mesh, flattened, of one group of devices that take part together.
      trips: how often the loop around it runs in one step; 1 outside loops.
    """

    kind: str
    bytes: int
    group: tuple[int, ...]
    trips: int

    def axes(self, mesh_shape: dict[str, int]) -> tuple[str, ...]:
        """The axes of the mesh that it goes along."""
        places = np.unravel_index(np.array(self.group), tuple(mesh_shape.values()))
        return tuple(name for name, place in zip(mesh_shape, places) if len(set(place.tolist())) > 1)


def collectives(hlo: str) -> list[Collective]:
    """All collectives of the program whose optimised HLO this is, in order; those of one device are left out.

    Raises:
      ValueError: a loop with collectives in it does not say how often it runs.
    """
    computations, entry = _computations(hlo)
    return [collective for collective in _walk(computations, entry) if len(collective.group) > 1]


def table(found: Sequence[Collective], mesh_shape: dict[str, int]) -> list[dict]:
    """One row for each kind, axes and loop: how many a trip, and their mebibytes a trip on one device."""
    count, size = Counter(), Counter()
    for collective in found:
        key = collective.trips, KINDS.index(collective.kind), collective.axes(mesh_shape)
        count[key] += 1
        size[key] += collective.bytes
    return [
        {
            "kind": KINDS[kind],
            "axes": list(axes),
            "trips": trips,
            "count": count[trips, kind, axes],
            "mib": round(size[trips, kind, axes] / 2**20, 3),
        }
        for trips, kind, axes in sorted(count, key=lambda key: (-key[0], *key[1:]))
    ]


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the one that starts."""
    computations: dict[str, list[str]] = {}
    lines, entry = [], ""
    for line in hlo.splitlines():
        if header := _COMPUTATION.match(line):
            lines = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        else:
            lines.append(line)
    return computations, entry


def _walk(computations: dict[str, list[str]], name: str) -> Iterator[Collective]:
    """Collectives of one computation and all that it calls, for one run of it."""
    # XLA for TPUs spreads a collective over fusions that do other work meanwhile, and repeats it in each: the first
    # one starts it, those that follow have this name, the last one ends it.
    if name.startswith("async_collective_fusion") or any("AsyncCollectiveDone" in line for line in computations[name]):
        return
    for line in computations[name]:
        if not (parsed := _INSTRUCTION.match(line)):
            continue
        result, opcode, rest = parsed.groups()
        if opcode == "while":
            yield from _loop(computations, rest)
        elif (kind := opcode.removesuffix("-start")) in KINDS:
            yield _collective(kind, result, opcode != kind, rest, name.startswith("all-reduce-scatter"))
        elif not opcode.endswith(("-update", "-done")):
            called = _CALLED.findall(rest)
            for branches in _BRANCHES.findall(rest):
                called += re.findall(r"%?([\w.\-]+)", branches)
            for inner in called:
                yield from _walk(computations, inner)


def _loop(computations: dict[str, list[str]], rest: str) -> list[Collective]:
    condition = re.search(r"condition=%?([\w.\-]+)", rest)[1]
    body = list(_walk(computations, re.search(r"body=%?([\w.\-]+)", rest)[1]))
    if not body:
        return []
    if known := re.search(r'known_trip_count"?:\{"n":"(\d+)"', rest):
        times = int(known[1])
    else:  # a scan counts from zero to a constant
        bounds = re.findall(r" s32\[\]\S* constant\((\d+)\)", "\n".join(computations[condition]))
        if len(bounds) != 1:
            raise ValueError(f"the loop with condition {condition!r} does not say how often it runs: {bounds}")
        times = int(bounds[0])
    return [replace(collective, trips=collective.trips * times) for collective in body]


def _collective(kind: str, result: str, start: bool, rest: str, scatter: bool) -> Collective:
    arrays = [(dtype, dims) for dtype, dims in _SHAPE.findall(result) if dims or not start]
    if start and kind in ("all-gather", "collective-permute"):
        arrays = arrays[len(arrays) // 2 :]  # operands come first, then results
    group = _pair(rest) if kind == "collective-permute" else _group(rest)
    size = int(sum(math.prod(map(int, filter(None, dims.split(",")))) * _width(dtype) for dtype, dims in arrays))
    if kind == "reduce-scatter":
        size *= len(group)
    elif scatter:  # on TPUs a reduce-scatter is a fusion of an all-reduce and a slice
        kind = "reduce-scatter"
    return Collective(kind, size, group, trips=1)


def _width(dtype: str) -> float:
    if dtype == "pred":
        return 1
    return int(re.search(r"\d+", dtype)[0]) / 8


def _pair(rest: str) -> tuple[int, ...]:
    pair = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", rest)
    return tuple(map(int, pair.groups())) if pair else (0,)


def _group(rest: str) -> tuple[int, ...]:
    """The first group, from any of the three ways to write them: a list, a reshaped iota, axes of a mesh."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return tuple(map(int, listed[1].split(",")))
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
        groups, shape = (tuple(map(int, text.split(","))) for text in iota.groups()[:2])
        ids = np.arange(math.prod(shape)).reshape(shape)
        if iota[3]:
            ids = ids.transpose(tuple(map(int, iota[3].split(","))))
        return tuple(ids.reshape(groups)[0].tolist())
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        return _mesh_group(sizes, re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", mesh[2]))
    return (0,)


def _mesh_group(sizes: dict[str, int], along: list[tuple[str, str, str]]) -> tuple[int, ...]:
    """The group at the origin along some axes, or along part of one: `(m)k` is k steps after the first m parts."""
    index = []
    chosen = {name: (before, size) for name, before, size in along}
    for name, size in sizes.items():
        before, part = chosen.get(name, ("", "1"))
        taken = int(part) if part else size
        stride = size // (int(before) * taken) if before else 1
        index.append(range(0, taken * stride, stride))
    ids = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    return tuple(ids[np.ix_(*index)].ravel().tolist())
