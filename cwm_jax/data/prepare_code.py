"""Plain code -> tokens -> packed rows, in a folder with a manifest, as `prepare` makes of programs.

`PreparedRows` reads them. Every file is one document, learnt whole; beside the rows, `files.jsonl` tells of each file
where it is from and its licence, for whoever passes data or model on.
"""

import hashlib
import json
import platform
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cwm_jax.components import plain
from cwm_jax.data.buckets import Bucket
from cwm_jax.data.code import CodeFile, PlainCode
from cwm_jax.data.documents import make_document
from cwm_jax.data.manifest import Manifest
from cwm_jax.data.rows import Document, pack, write_rows
from cwm_jax.files import write_whole
from cwm_jax.report.progress import progress
from cwm_jax.text.special_tokens import BEGIN_OF_TEXT, END_OF_TEXT
from cwm_jax.text.vocabulary import Vocabulary

FILES = "files.jsonl"
_MOST_IN_A_ROW = 2**16 - 1  # as rows store the number of a document


@dataclass(frozen=True)
class CodeConfig:
    """How a set of plain code is made.

    Attributes:
      source: the files.
      buckets: tokens of the longest document in each bucket, ascending; the last is the length of every row, and longer
        files are left out (default: those of CWM's mid-training).
    """

    source: PlainCode
    buckets: tuple[int, ...] = (16_385, 65_537, 131_072)

    def __post_init__(self):
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"CodeConfig.buckets={self.buckets} must be ascending, such as (16_385, 131_072)")


def prepare_code(config: CodeConfig, vocabulary: Vocabulary, folder: Path) -> Manifest:
    """Makes `folder` hold the packed files that `config` describes, or reads what it holds already.

    All documents are held in memory, 8 bytes a token: cut a large set into several by `PlainCode.paths`.

    Raises:
      ValueError: the folder holds rows of other files, settings or another vocabulary; no file is fit.
      FileNotFoundError: a path of the source is not there.
    """
    folder, started = Path(folder), time.monotonic()
    dropped: Counter = Counter()
    files = list(config.source.documents(dropped))
    settings = _settings(config, vocabulary, files)
    try:
        manifest = Manifest.read(folder)
    except FileNotFoundError:
        pass
    else:
        if manifest.settings != settings:
            raise ValueError(f"{folder} holds rows of other files or settings; name another folder, or delete this one")
        return manifest
    documents, kept = _tokenise(files, vocabulary, config.buckets[-1], dropped)
    if not documents:
        raise ValueError(f"no file of PlainCode.paths={config.source.paths} is fit; left out: {dict(dropped)}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = _write(documents, config.buckets, folder)
    told = [(file.origin, file.licence, len(document.tokens)) for file, document in zip(kept, documents)]
    lines = [json.dumps(dict(zip(("origin", "licence", "tokens"), one))) + "\n" for one in told]
    write_whole(folder / FILES, "".join(lines))
    manifest = Manifest(
        settings=settings,
        vocabulary=vocabulary.fingerprint,
        rows=rows,
        documents=len(documents),
        tokens=sum(len(document.tokens) for document in documents),
        predicted_tokens=sum(len(document.tokens) - 1 for document in documents),
        programs=dict(Counter(file.licence for file in kept)),
        tests={},
        dropped=dict(dropped),
        seconds=round(time.monotonic() - started, 1),
        python=platform.python_version(),
    )
    manifest.write(folder)
    return manifest


def _settings(config: CodeConfig, vocabulary: Vocabulary, files: list[CodeFile]) -> str:
    """A hash of what shapes the rows. Where the files lie does not: the same sdists elsewhere give the same rows."""
    shaping = plain(config)
    del shaping["source"]["paths"]
    digest = hashlib.sha256(json.dumps([shaping, vocabulary.fingerprint], sort_keys=True).encode())
    for file in files:
        digest.update(json.dumps(file).encode())
    return digest.hexdigest()


def _tokenise(files, vocabulary, longest: int, dropped: Counter) -> tuple[list[Document], list[CodeFile]]:
    documents, kept = [], []
    with progress("tokenising", len(files), unit="files") as bar:
        for number, file in enumerate(files, start=1):
            document = make_document(vocabulary, [(BEGIN_OF_TEXT, 1.0), (file.text, 1.0), (END_OF_TEXT, 1.0)])
            if len(document.tokens) > longest:
                dropped["too many tokens"] += 1
            else:
                documents.append(document)
                kept.append(file)
            bar.update(number)
    return documents, kept


def _write(documents: list[Document], buckets: tuple[int, ...], folder: Path) -> dict[int, int]:
    """Writes a file for each bucket; rows in each."""
    rows, shorter = {}, 0
    for limit in buckets:
        inside = [document for document in documents if shorter < len(document.tokens) <= limit]
        rows[limit] = write_rows(Bucket(limit, buckets[-1]).path(folder), pack(inside, buckets[-1], _MOST_IN_A_ROW))
        shorter = limit
    return rows
