"""Rows that were prepared elsewhere, such as those of CWM's stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cwm_jax.data.buckets import Bucket, ReadyRows, RowSet
from cwm_jax.data.corpus import TESTS, copy_tests
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.mixture import NAME, Drawn, ResolvedMixture
from cwm_jax.files import write_whole
from cwm_jax.text.load import VOCABULARY, load_vocabulary


@dataclass(frozen=True)
class PreparedRows:
    """Packed rows in a folder with a manifest, or a mixture of several such folders; many runs may read them.

    Attributes:
      folder: where they are, or where `prepare` wrote what a `Mixture` comes to.
      vocabulary_size: of the vocabulary that made their tokens; default: CWM's.
      buckets: tokens of the longest document in each bucket, ascending; the last is the length of every row.
      windows: for each bucket how many tokens global layers see. Documents of 16,385 tokens need 16,384: their last
        token predicts nothing. CWM cuts those up to 65,537 down to 32,768 and leaves the longest whole (paper §4.2).
    """

    folder: str
    vocabulary_size: int = 128_256
    buckets: tuple[int, ...] = (16_385, 65_537, 131_072)
    windows: tuple[int, ...] = (16_384, 32_768, 131_072)

    def __post_init__(self):
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"PreparedRows.buckets={self.buckets} must be ascending, such as (16_385, 131_072)")
        if len(self.windows) != len(self.buckets) or min(self.windows) < 1:
            raise ValueError(f"PreparedRows.windows={self.windows} must be one window for each of {self.buckets}")

    @property
    def layout(self) -> tuple[Bucket, ...]:
        length = self.buckets[-1]
        windows = (window if window < length else None for window in self.windows)
        return tuple(Bucket(limit, length, window) for limit, window in zip(self.buckets, windows))

    def size_of_vocabulary(self, run: Path) -> int:
        """Tokens of the vocabulary that made the rows."""
        return self.vocabulary_size

    def ready(self, out: Path) -> ReadyRows:
        """The rows. The run takes copies of a vocabulary and of test sets that lie beside them, to be used with these.

        Args:
          out: the folder of the run.

        Raises:
          FileNotFoundError: the folder holds none.
          ValueError: they are in other buckets, of another size of vocabulary, or no longer those that were mixed.
        """
        sets = self._sets(Path(out) / "data")
        for one in sets:
            held = set(one.manifest.rows)
            if held - set(self.buckets) or max(held) != self.buckets[-1]:
                raise ValueError(
                    f"{one.folder} holds rows of buckets {sorted(held)}, PreparedRows.buckets={self.buckets}; bind "
                    f"PreparedRows.buckets = {tuple(sorted(held))}"
                )
        self._take([one.folder for one in sets], Path(out) / "data")
        return ReadyRows(sets, self.layout, self.vocabulary_size)

    def _sets(self, data: Path) -> tuple[RowSet, ...]:
        folder = Path(self.folder)
        if (folder / NAME).exists():
            mixture = (folder / NAME).read_bytes()
            if (data / NAME).exists() and (data / NAME).read_bytes() != mixture:
                raise ValueError(
                    f"{folder / NAME} has changed since the run in {data.parent} began; to go on with that one, copy "
                    f"{data / NAME} back, else choose another --out"
                )
            write_whole(data / NAME, mixture)
            return tuple(
                RowSet(Path(drawn.folder), _unchanged(folder, drawn), drawn.row_rate)
                for drawn in ResolvedMixture.read(folder).sets
            )
        try:
            return (RowSet(folder, Manifest.read(folder)),)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"PreparedRows.folder={self.folder} holds no manifest and no {NAME}; name a folder that `prepare` made "
                "of packed rows, or of a mixture of them"
            ) from None

    def _take(self, folders: Sequence[Path], data: Path) -> None:
        """Copies what lies beside the rows to the run: their vocabulary, which must fit, and test sets."""
        vocabulary = next((folder / VOCABULARY for folder in folders if (folder / VOCABULARY).exists()), None)
        if vocabulary:
            size = load_vocabulary(vocabulary).vocab_size
            if size != self.vocabulary_size:
                raise ValueError(
                    f"{vocabulary} has {size} tokens, PreparedRows.vocabulary_size={self.vocabulary_size}; bind "
                    f"PreparedRows.vocabulary_size = {size}"
                )
            write_whole(data / VOCABULARY, vocabulary.read_bytes())
        tested = next((folder for folder in folders if (folder / TESTS).exists()), None)
        if tested:
            copy_tests(tested, data)


def _unchanged(folder: Path, drawn: Drawn) -> Manifest:
    """The manifest of a set; ValueError where it is not the one that was mixed."""
    manifest = Manifest.read(Path(drawn.folder))
    if (manifest.tokens, sum(manifest.rows.values())) != (drawn.tokens, drawn.rows):
        raise ValueError(
            f"{drawn.folder} holds {manifest.tokens:,} tokens now, {drawn.tokens:,} when {folder / NAME} was written; "
            "give the command again that wrote it, which works out the rates anew"
        )
    return manifest
