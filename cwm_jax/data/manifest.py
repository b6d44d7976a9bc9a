"""What lies in a folder that `prepare` made: counts, hashes and how to read it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cwm_jax.files import write_json

NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """Written last, so a folder with a manifest is whole.

    Attributes:
      settings: hash of the configuration that made it; another configuration is another folder.
      vocabulary: fingerprint of the vocabulary.
      rows: rows in each length bucket.
      documents, tokens, predicted_tokens: of the training set, padding not counted.
      programs: training programs by family; of documents, those of each licence or, where it is unknown, kind.
      tests: items in each test set.
      dropped: programs or documents left out, by reason.
      seconds: time that recording, tokenising and packing took.
      python: the interpreter that ran the programs, or read the code.
    """

    settings: str
    vocabulary: str
    rows: dict[int, int]
    documents: int
    tokens: int
    predicted_tokens: int
    programs: dict[str, int]
    tests: dict[str, int]
    dropped: dict[str, int]
    seconds: float
    python: str

    def write(self, folder: Path) -> None:
        write_json(folder / NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises FileNotFoundError, naming the command that makes one, where there is none."""
        path = Path(folder) / NAME
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; make it with: python -m cwm_jax prepare --gin_file=F --out D")
        fields = json.loads(path.read_text())
        fields["rows"] = {int(length): count for length, count in fields["rows"].items()}
        return cls(**fields)
