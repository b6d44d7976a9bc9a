"""A resolved mixture as seqio knows mixtures, for whoever works with seqio. The only file that imports it.

seqio brings TensorFlow (about 3 GB, seconds to import): it is imported when called, and nothing else needs it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cwm_jax.data.manifest import Manifest
from cwm_jax.data.mixture import Drawn, ResolvedMixture
from cwm_jax.data.rows import Row, RowFile

if TYPE_CHECKING:
    import seqio


def as_seqio(mixture: ResolvedMixture, vocab_size: int, name: str = "cwm") -> "seqio.Mixture":
    """A `seqio.Mixture` of one sub-mixture for each group, of one `seqio.Task` for each set.

    Its examples are packed rows, drawn at `row_rate`: seqio's rates count examples. None is put in seqio's registry.

    Args:
      mixture: what is drawn.
      vocab_size: of the vocabulary that made the rows.
      name: of the mixture; `NAME.GROUP` and `NAME.SET` are those of its parts.

    Raises:
      ImportError: seqio is not installed.
    """
    try:
        import seqio
    except ImportError as error:
        raise ImportError("seqio is missing; install it with: pip install -r requirements-data.txt") from error
    features = {
        field: seqio.Feature(seqio.PassThroughVocabulary(vocab_size), add_eos=False, dtype=_DTYPES[field])
        for field in Row._fields
    }
    groups: dict[str, list] = {}
    for drawn in mixture.sets:
        task = seqio.Task(f"{name}.{drawn.name}", _source(drawn), features, preprocessors=())
        groups.setdefault(drawn.group, []).append((task, drawn.row_rate))
    return seqio.Mixture(
        name,
        [
            (seqio.Mixture(f"{name}.group.{group}", tasks), sum(rate for _, rate in tasks))
            for group, tasks in groups.items()
        ],
    )


_DTYPES = {"tokens": np.int32, "segment_ids": np.int32, "positions": np.int32, "loss_weights": np.float32}


def _source(drawn: Drawn) -> "seqio.FunctionDataSource":
    import seqio
    import tensorflow as tf

    signature = {field: tf.TensorSpec([None], dtype) for field, dtype in _DTYPES.items()}

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(lambda: _rows(Path(drawn.folder)), output_signature=signature)

    return seqio.FunctionDataSource(dataset, ["train"], {"train": drawn.rows}, caching_permitted=False)


def _rows(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    for limit, count in sorted(Manifest.read(folder).rows.items()):
        file = RowFile(folder / f"rows-{limit}.array_record", count)
        for index in range(count):
            row = file.read(np.array([index]))
            yield {field: array[0] for field, array in row._asdict().items()}
