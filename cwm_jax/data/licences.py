"""Which licence a file of code is under, as SPDX writes it, and whether that is one we may train on.

A licence is known by what its authors state (an SPDX line, a licence expression, a classifier) and by phrases that
stand in its text and in no other. What is found together all has to be permitted: a doubt leaves a file out, never in.
"""

import configparser
import re
import tomllib
from collections.abc import Iterable, Mapping
from email.errors import HeaderParseError
from email.parser import HeaderParser

# Licences that ask for no more than that notices are kept (our choice; the paper names none).
PERMISSIVE = (
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT",
    "MIT-0", "NCSA", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
)  # fmt: skip
UNKNOWN = "LicenseRef-unknown"  # a licence is stated, but which is not clear

_SPDX_LINE = re.compile(r"SPDX-License-Identifier:[ \t]*([^\n*\"']+)")
_LICENCE_FILE = re.compile(r"(?:licen[cs]e|copying|unlicense)[^/]*", re.IGNORECASE)
_METADATA_FILES = ("pyproject.toml", "setup.cfg", "PKG-INFO")
_ATOM = re.compile(r"[A-Za-z0-9.+:-]+|[()]")

# Phrases of licence texts, spaces and case ignored. The first of a group that is found counts.
_TEXTS: tuple[tuple[tuple[str, str], ...], ...] = (
    ((r"without restriction.{0,400}the above copyright notice and this permission notice", "MIT"),
     (r"person obtaining a copy of this software and associated documentation files", "MIT-0")),
    ((r"person or organization obtaining a copy of the software and accompanying", "BSL-1.0"),),
    ((r"apache software license,? version 1", "Apache-1.1"),
     (r"all advertising materials mentioning features", "BSD-4-Clause"),
     (r"redistribution and use in source and binary forms.{0,1500}endorse or promote", "BSD-3-Clause"),
     (r"redistribution and use in source and binary forms", "BSD-2-Clause")),
    ((r"distribute this software for any purpose with or without fee is hereby granted,? provided", "ISC"),
     (r"distribute this software for any purpose with or without fee is hereby granted\.", "0BSD")),
    ((r"for any purpose and without fee is hereby granted,? provided", "HPND"),),
    ((r"apache license,? version 2\.0", "Apache-2.0"),),
    ((r"python software foundation license version 2.*cnri license agreement", "Python-2.0"),
     (r"python software foundation license version 2", "PSF-2.0")),
    ((r"free and unencumbered software released into the public domain", "Unlicense"),),
    ((r"altered source versions must be plainly marked", "Zlib"),),
    ((r"cc0 1\.0 universal", "CC0-1.0"),),
    ((r"mozilla public license,? version (?P<v>[12]\.\d)|mozilla public license, v\. (?P<w>2\.0)", "MPL"),),
    ((r"eclipse public license", "EPL-2.0"),),
)  # fmt: skip
# The title of the text, or the notice that refers to it; other licences name these too, so the words alone say nothing.
_GNU = re.compile(
    r"gnu (?P<kind>affero |lesser |library |)general public license version (?P<version>\d(?:\.\d)?), (?:\d+ )?\w+ \d"
    r"|terms of the gnu (?P<noticed>affero |lesser |library |)general public license"
)
_GNU_NAMES = {"": "GPL", "affero ": "AGPL", "lesser ": "LGPL", "library ": "LGPL"}

# How people name licences in metadata, in lower case and without "license", "the" and the like.
_NAMES = {
    "mit": "MIT", "expat": "MIT", "isc": "ISC", "iscl": "ISC", "apache": "Apache-2.0", "apache software": "Apache-2.0",
    "apache 2.0": "Apache-2.0", "apache 2": "Apache-2.0", "apache version 2.0": "Apache-2.0", "bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause", "3-clause bsd": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause",
    "2-clause bsd": "BSD-2-Clause", "simplified bsd": "BSD-2-Clause", "python software foundation": "PSF-2.0",
    "psf": "PSF-2.0", "unlicense": "Unlicense", "zlib": "Zlib", "zlib/libpng": "Zlib", "public domain": "Unlicense",
    "boost software 1.0": "BSL-1.0", "university of illinois/ncsa open source": "NCSA",
}  # fmt: skip


def permits(expression: str, allowed: Iterable[str]) -> bool:
    """Whether a licence expression can be met with licences of `allowed` alone.

    Of `A OR B` one has to be among them, of `A AND B` both; an exception (`WITH`) only permits more and is passed over.
    """
    words = _ATOM.findall(expression)
    allowed = {name.lower() for name in allowed}

    def either() -> bool:
        found = both()
        while words and words[0].upper() == "OR":
            words.pop(0)
            found = both() or found
        return found

    def both() -> bool:
        found = one()
        while words and words[0].upper() in ("AND", "WITH"):
            exception = words.pop(0).upper() == "WITH"
            found = (one() or exception) and found
        return found

    def one() -> bool:
        word = words.pop(0) if words else ""
        if word != "(":
            return word.lower() in allowed
        found = either()
        return bool(words) and words.pop(0) == ")" and found

    return either() and not words


def of_header(text: str) -> str:
    """The licence that the first lines of a source file state, as an expression; empty where they state none."""
    head = text[:4000]
    if line := _SPDX_LINE.search(head):
        return line[1].strip()
    comments = " ".join(line.lstrip("# \t") for line in head.splitlines())
    return _all_of(of_text(comments))


def of_text(text: str) -> set[str]:
    """SPDX ids of the licences whose text, or the notice that refers to it, stands in `text`."""
    words = " ".join(re.sub(r"[\"'*#]+", "", text).lower().split())
    found = set()
    for group in _TEXTS:
        match, name = next(((m, name) for pattern, name in group if (m := re.search(pattern, words))), (None, ""))
        if match:
            versions = [version for version in match.groupdict().values() if version]
            found.add("-".join([name, *versions]))
    for match in _GNU.finditer(words):
        kind = match["noticed"] if match["kind"] is None else match["kind"]
        version = match["version"] or "1.0-or-later"
        found.add(f"{_GNU_NAMES[kind]}-{version if '.' in version else version + '.0'}")
    return found


def is_evidence(name: str) -> bool:
    """Whether a file of this name says under which licence the files beside it are."""
    return name in _METADATA_FILES or bool(_LICENCE_FILE.fullmatch(name) and not name.endswith((".py", ".html")))


def of_folder(files: Mapping[str, str]) -> str:
    """The licence that the files of one folder (name: text, each `is_evidence`) state, as an expression; else empty.

    An expression in the metadata counts before all; then licence texts, and of classifiers and free text what adds to
    them.
    """
    stated, expressions = set(), []
    for name in _METADATA_FILES:
        expression, names = _METADATA[name](files[name]) if name in files else ("", [])
        expressions += [expression] * bool(expression)
        stated |= {identified for words in names if (identified := _identify(words))}
    if expressions:
        return expressions[0]
    texts = set()
    for name, text in files.items():
        if name not in _METADATA_FILES:
            texts |= of_text(text) or {_identify(text) or UNKNOWN}
    if texts:  # they are more exact: "BSD License" may be any of three
        stated -= set(PERMISSIVE)
    return _all_of(texts | stated)


def _all_of(names: set[str]) -> str:
    return " AND ".join(sorted(names))


def _identify(name: str) -> str:
    """The SPDX id of a licence as people name it; empty where nothing is named."""
    brief = name.rpartition("::")[2].lower().strip()
    if brief in ("", "unknown", "osi approved"):
        return ""
    known = {spdx.lower(): spdx for spdx in PERMISSIVE}
    brief = " ".join(re.sub(r"\blicen[cs]e\b|\bthe\b|[(),]|\biscl\b|\bmpl 2\.0\b", " ", brief).split())
    return known.get(brief) or _NAMES.get(brief) or UNKNOWN


def _pyproject(text: str) -> tuple[str, list[str]]:
    try:
        project = tomllib.loads(text).get("project", {})
    except tomllib.TOMLDecodeError:
        return "", []
    licence = project.get("license", "")
    classifiers = [name for name in project.get("classifiers", []) if name.startswith("License ::")]
    if isinstance(licence, str):
        return licence, classifiers
    return _free(licence.get("text", ""), classifiers)


def _setup_cfg(text: str) -> tuple[str, list[str]]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return "", []
    metadata = parser["metadata"] if parser.has_section("metadata") else {}
    lines = [line.strip() for line in (metadata.get("classifiers") or metadata.get("classifier") or "").splitlines()]
    return _free(metadata.get("license") or "", [line for line in lines if line.startswith("License ::")])


def _pkg_info(text: str) -> tuple[str, list[str]]:
    try:
        headers = HeaderParser().parsestr(text)
    except HeaderParseError:
        return "", []
    classifiers = [line for line in headers.get_all("Classifier", []) if line.startswith("License ::")]
    if expression := headers.get("License-Expression", ""):
        return expression, []
    return _free(headers.get("License", ""), classifiers)


def _free(text: str, classifiers: list[str]) -> tuple[str, list[str]]:
    """What a field of free text adds to classifiers: an expression, a name, or nothing where it is a whole text."""
    text = text.strip()
    if "\n" in text or len(text) > 60 or text.startswith("file:"):
        return "", classifiers
    return (text, []) if re.search(r" (?:AND|OR) ", text) else ("", [*classifiers, text])


_METADATA = {"pyproject.toml": _pyproject, "setup.cfg": _setup_cfg, "PKG-INFO": _pkg_info}
