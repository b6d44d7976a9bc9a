"""A small project of our own, built without network: its build backend is in its folder, pytest is copied from here."""

import importlib.metadata
import shutil
import sysconfig
import textwrap
from dataclasses import dataclass
from pathlib import Path

from cwm_jax.repos import Build, Builder

FILES = {
    "pyproject.toml": """
        [build-system]
        requires = []
        build-backend = "backend"
        backend-path = ["."]
        [project]
        name = "tiny"
        version = "1.0"
        """,
    "backend.py": """
        import zipfile
        from pathlib import Path

        ABOUT = {"METADATA": "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n", "RECORD": "",
                 "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}

        def build_wheel(folder, config_settings=None, metadata_directory=None):
            with zipfile.ZipFile(Path(folder) / "tiny-1.0-py3-none-any.whl", "w") as wheel:
                for path in Path("src").rglob("*.py"):
                    wheel.write(path, path.relative_to("src"))
                for name, text in ABOUT.items():
                    wheel.writestr(f"tiny-1.0.dist-info/{name}", text)
            return "tiny-1.0-py3-none-any.whl"
        """,
    "src/tiny/__init__.py": "",
    "src/tiny/helper.py": """
        from __future__ import annotations

        FACTOR = 2

        def double(x: int) -> int:
            return x * FACTOR

        def stranger(x):
            return x
        """,
    "src/tiny/counters.py": '''
        """A class that needs another module."""
        from __future__ import annotations
        import functools
        from tiny.helper import double

        def traced(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper

        class Counter:
            def __init__(self, start):
                self.count = start

            def __repr__(self):
                return f"Counter({self.count})"

            @traced
            def add(self, x):  # twice
                self.count += double(x)
                return self.count
        ''',
    "src/tiny/plain.py": """
        import dataclasses
        import time

        def factorial(n):
            if n < 2:
                return 1
            below = factorial(n - 1)
            return n * below

        def squares(n):
            for i in range(n):
                yield i * i

        def total(n):
            found = 0
            for square in squares(n):
                found += square
            return found

        def fail(x):
            items = []
            items.append(x)
            raise ValueError(x)

        def guarded(x):
            text = "none"
            try:
                fail(x)
            except ValueError as error:
                text = str(error)
            return text

        def first(n):
            found = squares(n)
            return next(found)

        def now():
            return time.perf_counter_ns()

        def forever():
            while True:
                pass

        def where():
            return __file__

        def module():
            return time.__name__, dataclasses
        """,
    "tests/test_good.py": """
        import pytest
        from tiny.counters import Counter
        from tiny.plain import factorial, fail, first, guarded, module, now, squares, total, where

        def test_counter():
            counter = Counter(1)
            assert counter.add(2) == 5 and counter.add(3) == 11

        def test_plain():
            assert factorial(4) == 24
            assert list(squares(3)) == [0, 1, 4]
            assert total(4) == 14
            assert guarded(3) == "3"
            assert first(3) == 0
            assert [factorial(4) for _ in range(20)] == [24] * 20

        def test_raises():
            with pytest.raises(ValueError):
                fail(7)

        def test_changing():
            assert now() > 0
            assert "tiny" in where()
            assert module()
        """,
}
BAD = """
    import socket
    import shutil
    from pathlib import Path
    from tiny.plain import factorial, forever

    def test_hangs():
        assert factorial(2) == 2
        forever()

    def test_writes_outside():
        Path("MARK").write_text("x")

    def test_opens_a_socket():
        socket.create_connection(("127.0.0.1", PORT), 2)

    def test_wrong():
        assert factorial(3) == 7

    def test_wipes_its_folder():
        shutil.rmtree(Path.cwd())
        assert not Path("src").exists()
    """


BUILDER = Builder(requirements=(), pip=("--no-index", "--no-build-isolation"))


@dataclass(frozen=True)
class Tiny:
    """Writes and builds the project."""

    folder: Path

    def build(self, **files: str) -> Build:
        """Builds it with these files in `tests/` in place of the good ones, if any are given; names without `.py`."""
        source = self.write(**files)
        built = BUILDER.build(str(source), self.folder / "built")
        copy_pytest(built.environment)
        return built

    def write(self, **files: str) -> Path:
        """Writes its files; the folder that holds them."""
        texts = dict(FILES)
        if files:
            del texts["tests/test_good.py"]
            texts |= {f"tests/{name}.py": text for name, text in files.items()}
        source = self.folder / "tiny"
        for name, text in texts.items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"))
        return source


def copy_pytest(environment: Path) -> None:
    here = Path(sysconfig.get_path("purelib"))
    there = environment.joinpath(*here.parts[-3:])
    for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        for file in importlib.metadata.files(name):
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (there / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), there / file)
