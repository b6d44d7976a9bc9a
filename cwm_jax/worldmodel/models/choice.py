"""Which model: the flags that verbs share, and what they name."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from cwm_jax.checkpoints.default import default_checkpoint
from cwm_jax.worldmodel.models.model import Model


@dataclass(frozen=True)
class Choice:
    """A model as users name it.

    Attributes:
      checkpoint: folder of a run, or of its exported weights; None for the newest run, else the model of the project.
      endpoint: URL of a server, in place of a checkpoint.
      model: of those that the server lists; empty for the first.
      vocabulary: file of the server's vocabulary, where prompts go as token ids.
    """

    checkpoint: Path | None = None
    endpoint: str = ""
    model: str = ""
    vocabulary: Path | None = None

    def __post_init__(self):
        if not self.endpoint and (self.model or self.vocabulary):
            raise ValueError("model and vocabulary are those of a server; name it as endpoint (--endpoint)")
        if self.endpoint and self.checkpoint:
            raise ValueError("checkpoint and endpoint name two models; leave one out")

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Choice":
        """The choice that arguments of `add_flags` are; raises ValueError where they are none."""
        return cls(arguments.checkpoint, arguments.endpoint, arguments.model, arguments.vocabulary)

    @property
    def folder(self) -> Path | None:
        """That of the checkpoint; None for a server. Raises as `default_checkpoint`."""
        return None if self.endpoint else self.checkpoint or default_checkpoint()

    def open(self) -> Model:
        """The model; raises what `LocalModel` or `Endpoint` raise, and `folder`."""
        if (folder := self.folder) is None:
            from cwm_jax.worldmodel.models.endpoint import Endpoint

            return Endpoint(self.endpoint, self.model, self.vocabulary)
        from cwm_jax.worldmodel.models.local import LocalModel

        return LocalModel(folder)

    def open_if(self, needed: bool) -> Model | None:
        """The model; None where none is needed, and none is there. Raises as `open`."""
        try:
            there = bool(self.endpoint or self.folder)
        except FileNotFoundError:
            there = False
        return self.open() if needed or there else None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a verb that asks a model; `Choice.of` reads them."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="D",
        help="folder of a run or of exported weights; default: the newest run under runs/, else the project's model",
    )
    parser.add_argument(
        "--endpoint", metavar="URL", default="", help="a server in its place, such as http://127.0.0.1:8000"
    )
    parser.add_argument("--model", default="", metavar="NAME", help="with --endpoint; default: the first it lists")
    parser.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help="with --endpoint: its vocabulary, for token ids"
    )
