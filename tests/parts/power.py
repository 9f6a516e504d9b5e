"""A disk that loses power: it has of each file what that held when it was synced last, and nothing that came later.
A file that was removed is gone from it once the folder was synced.

SQLite's own table of functions (its VFS, in this process) gets another one for syncing a file, which does what the one
before did and then copies the file to the folder that plays the disk. What a real disk has after a power loss is at
least that.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sqlite3  # loads the library that is changed
import stat
from pathlib import Path
from typing import Any

assert sqlite3.sqlite_version_info >= (3, 7, 17), "the version of SQLite with these tables"

_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Open = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _Vfs(ctypes.Structure):
    """The beginning of `sqlite3_vfs` (sqlite3.h)."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("size_of_file", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", _Open),
    )


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods` (sqlite3.h)."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("before", ctypes.c_void_p * 4),
        ("sync", _Sync),
        ("after", ctypes.c_void_p * 13),
    )


class Disk:
    """Keeps, from now on, what of a folder's files that SQLite opens would outlive a power loss.

    Args:
        original: the folder.
        folder: gets a copy of each of its files whenever that is synced.

    Raises:
        RuntimeError: this Python has an SQLite built in, which cannot be changed.
    """

    def __init__(self, original: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._original, self._folder = original, folder
        self._names: dict[int, Path] = {}
        self._kept: dict[int, _Methods] = {}  # by the address of those that they replace
        maps = Path("/proc/self/maps").read_text().splitlines()
        library = next((line.split()[-1] for line in maps if "libsqlite3" in line), None)
        if library is None:
            raise RuntimeError("this Python has an SQLite built in: take one that uses the system's")
        find = ctypes.CDLL(library).sqlite3_vfs_find
        find.restype = ctypes.POINTER(_Vfs)
        vfs = find(None).contents
        # ctypes hands out a view on the field; what is called later must be what it points to now.
        self._open = _Open(_address(vfs.open))
        self._opened = _Open(self._on_open)
        vfs.open = self._opened
        self._sync = os.fsync
        setattr(os, "fsync", self._on_fsync)  # noqa: B010 - mypy takes no assignment to a function

    def _on_fsync(self, descriptor: int) -> None:
        self._sync(descriptor)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            for copy in self._folder.iterdir():
                if not (self._original / copy.name).exists():
                    copy.unlink()

    def _on_open(self, vfs: int, name: int | None, file: int, flags: int, out_flags: int) -> int:
        # The name as its address, because SQLite keeps that, and what it has behind the name.
        result: int = self._open(vfs, name, file, flags, out_flags)
        methods = ctypes.cast(file, ctypes.POINTER(ctypes.c_void_p))
        if result == 0 and name is not None and methods[0] is not None:
            self._names[file] = Path(ctypes.string_at(name).decode())
            methods[0] = ctypes.addressof(self._replacing(methods[0]))
        return result

    def _replacing(self, address: int) -> _Methods:
        """Return the functions of a file with another one for syncing it."""
        if address not in self._kept:
            ours = _Methods.from_buffer_copy(ctypes.string_at(address, ctypes.sizeof(_Methods)))
            sync = _Sync(_address(ours.sync))

            def syncing(file: int, flags: int) -> int:
                result: int = sync(file, flags)
                name = self._names[file]
                if result == 0 and name.parent == self._original:
                    shutil.copyfile(name, self._folder / name.name)
                return result

            ours.sync = _Sync(syncing)
            self._kept[address] = ours
        return self._kept[address]


def _address(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
