"""Rows that were prepared elsewhere, such as those of CWM's stages."""

from dataclasses import dataclass
from pathlib import Path

from cwm_jax.data.buckets import Bucket, ReadyRows
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.prepare import VOCABULARY
from cwm_jax.files import write_whole
from cwm_jax.text.load import load_vocabulary


@dataclass(frozen=True)
class PreparedRows:
    """Packed rows in a folder with a manifest; many runs may read them.

    Attributes:
      folder: where they are.
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

    def ready(self, out: Path) -> ReadyRows:
        """The rows. Where their vocabulary lies beside them, the run takes a copy, to be served and reinforced with.

        Args:
          out: the folder of the run.

        Raises:
          FileNotFoundError: the folder holds none.
          ValueError: they are in other buckets, or of another size of vocabulary.
        """
        try:
            manifest = Manifest.read(Path(self.folder))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"PreparedRows.folder={self.folder} holds no manifest; name a folder of packed rows, as data/ of a run"
            ) from None
        if unknown := set(manifest.rows) - set(self.buckets):
            raise ValueError(
                f"{self.folder} holds rows of buckets {sorted(unknown)}, PreparedRows.buckets={self.buckets}; bind "
                f"PreparedRows.buckets = {tuple(sorted(manifest.rows))}"
            )
        beside = Path(self.folder) / VOCABULARY
        if beside.exists():
            size = load_vocabulary(beside).vocab_size
            if size != self.vocabulary_size:
                raise ValueError(
                    f"{beside} has {size} tokens, PreparedRows.vocabulary_size={self.vocabulary_size}; bind "
                    f"PreparedRows.vocabulary_size = {size}"
                )
            write_whole(Path(out) / "data" / VOCABULARY, beside.read_bytes())
        return ReadyRows(Path(self.folder), self.layout, manifest, self.vocabulary_size)
