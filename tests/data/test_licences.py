"""Licences are told as their authors tell them, and a doubt never permits."""

from importlib.metadata import distributions
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cwm_jax.data.licences import PERMISSIVE, UNKNOWN, is_evidence, of_folder, of_header, of_text, permits

NAMES = ("MIT", "Apache-2.0", "GPL-3.0-only", "MPL-2.0")
COMMON = Path("/usr/share/common-licenses")  # Debian's copies


def of_installed():
    """Evidence of every distribution installed here that carries a licence file: `(name, stated, files)`."""
    for found in distributions():
        stated = found.metadata.get("License-Expression") or found.metadata.get("License") or ""
        paths = [path for path in found.files or () if ".dist-info" in str(path) and is_evidence(path.name)]
        files = {path.name: found.locate_file(path).read_text(errors="replace") for path in paths}
        if files:
            yield found.name, stated, files | {"PKG-INFO": found.read_text("METADATA")}


INSTALLED = {name: (stated, files) for name, stated, files in of_installed()}
EXACT = sorted(name for name, (stated, _) in INSTALLED.items() if stated in PERMISSIVE)


@pytest.mark.parametrize("name", EXACT)
def test_the_text_of_an_installed_licence_is_what_its_metadata_states(name):
    stated, files = INSTALLED[name]
    texts = set().union(*(of_text(text) for name, text in files.items() if name != "PKG-INFO"))
    assert texts & {stated, {"PSF-2.0": "Python-2.0"}.get(stated)}, texts  # Python's text holds the former ones too
    assert permits(of_folder({"PKG-INFO": files["PKG-INFO"]}), PERMISSIVE)


def test_enough_is_installed_to_tell():
    assert len(EXACT) >= 20
    assert not permits(of_folder(INSTALLED["hypothesis"][1]), PERMISSIVE)  # MPL-2.0


@pytest.mark.skipif(not COMMON.is_dir(), reason=f"{COMMON} is Debian's")
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("GPL-1", "GPL-1.0"), ("GPL-2", "GPL-2.0"), ("GPL-3", "GPL-3.0"), ("LGPL-2", "LGPL-2.0"),
        ("LGPL-2.1", "LGPL-2.1"), ("LGPL-3", "LGPL-3.0"), ("MPL-2.0", "MPL-2.0"), ("Apache-2.0", "Apache-2.0"),
        ("BSD", "BSD-3-Clause"), ("CC0-1.0", "CC0-1.0"),
    ],
)  # fmt: skip
def test_whole_texts(file, name):
    found = of_text((COMMON / file).read_text())
    assert {one.removesuffix("-or-later") for one in found} >= {name}
    assert permits(" AND ".join(found), PERMISSIVE) == (name in PERMISSIVE)


EXPRESSIONS = st.recursive(
    st.sampled_from(NAMES), lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner)
)


@given(st.lists(st.tuples(EXPRESSIONS, st.sampled_from(["AND", "OR"])), min_size=1), st.sets(st.sampled_from(NAMES)))
def test_expressions_are_met_as_python_meets_them(parts, allowed):
    text = " ".join(word for part in parts for word in part).rsplit(" ", 1)[0]
    python = text.replace("AND", "and").replace("OR", "or")
    for number, name in enumerate(NAMES):
        python = python.replace(name, f"N[{number}]")
    assert permits(text, allowed) == eval(python, {"N": [name in allowed for name in NAMES]})


@pytest.mark.parametrize("text", ["", "(MIT", "MIT)", "MIT AND", "MIT MIT", "AND", "none stated", "LicenseRef-MIT"])
def test_what_is_no_expression_permits_nothing(text):
    assert not permits(text, PERMISSIVE)


def test_an_exception_only_permits_more():
    assert permits("Apache-2.0 WITH LLVM-exception", PERMISSIVE)
    assert not permits("GPL-2.0-only WITH Classpath-exception-2.0", PERMISSIVE)


MIT = next(text for _, files in INSTALLED.values() for text in files.values() if of_text(text) == {"MIT"})
CLASSIFIER = "License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"LICENSE": MIT}, "MIT"),
        ({"COPYING": "All rights reserved."}, UNKNOWN),
        ({"LICENSE": MIT, "PKG-INFO": f"Name: a\nClassifier: {CLASSIFIER}BSD License\n\n"}, "MIT"),
        ({"PKG-INFO": f"Name: a\nClassifier: {CLASSIFIER}ISC License (ISCL)\n\n"}, "ISC"),
        ({"PKG-INFO": "Name: a\nLicense: UNKNOWN\n\nLicense: MIT"}, ""),
        ({"PKG-INFO": "Name: a\nLicense-Expression: MIT OR ISC\n\n", "LICENSE": "As you like."}, "MIT OR ISC"),
        ({"pyproject.toml": '[project]\nlicense = "0BSD"'}, "0BSD"),
        ({"pyproject.toml": '[project]\nlicense = {text = "Apache License 2.0"}'}, "Apache-2.0"),
        ({"pyproject.toml": "[project"}, ""),
        ({"setup.cfg": f"[metadata]\nclassifiers =\n  Topic :: X\n  {CLASSIFIER}MIT License"}, "MIT"),
        ({"setup.cfg": "[metadata]\nlicense = BSD-2-Clause"}, "BSD-2-Clause"),
        ({"setup.cfg": "license = MIT"}, ""),
    ],
)
def test_what_a_folder_states(files, licence):
    assert of_folder(files) == licence


def test_a_text_does_not_hide_another_that_the_classifiers_name():
    stated = {"LICENSE": MIT, "PKG-INFO": f"Classifier: {CLASSIFIER}GNU General Public License v3 (GPLv3)\n\n"}
    assert not permits(of_folder(stated), PERMISSIVE)


def test_headers():
    assert of_header("#!/bin/python\n# SPDX-License-Identifier: MIT OR GPL-2.0-only\nx\n") == "MIT OR GPL-2.0-only"
    notice = "# under the terms of the GNU\n# General Public License as published by the FSF\n"
    assert of_header(notice) == "GPL-1.0-or-later"
    assert of_header("import os\n") == ""
