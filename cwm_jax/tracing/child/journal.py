"""The journal: where frames are kept from the moment they happen, whatever becomes of this process."""

import mmap


class Journal:
    """Records in memory that is shared with the parent.

    A record counts once the byte before it is a newline, and that byte is written last: a
    process that dies half way through a record leaves the records before it and nothing else.
    """

    def __init__(self, file: int, capacity: int):
        self._capacity = capacity
        self._map = mmap.mmap(file, capacity)
        self.rewind()

    def rewind(self) -> None:
        self._at = 0
        self._map[0] = 0
        self._map.seek(1)

    def add(self, record: str) -> None:
        data = f"{record}\0".encode()
        self._map.write(data)
        self._map[self._at] = 10
        self._at += len(data)

    def note(self, record: str) -> None:
        """Writes a record that the next one replaces."""
        self._map.write(record.encode() + b"\0")
        self._map[self._at] = 10
        self._map.seek(self._at + 1)

    def drop_note(self) -> None:
        self._map[self._at] = 0

    def detach(self) -> None:
        """What a forked copy of this process writes is its own affair."""
        self._map = mmap.mmap(-1, self._capacity)
        self.rewind()
