"""A data set in a .zip, as labelling tools and web sites give it: unpacked once beside it, whole or
not at all, and nothing outside that folder."""

import json
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from toolbox.bars import Counting
from toolbox.errors import InputError
from toolbox.files import JUNK, fingerprint, writing
from toolbox.sweeping import make_aside, sweep_unfinished

ENDING = ".zip"
NOTE = ".unpacked.json"  # in the folder: which archive it was unpacked from
MOST_FILES = 500_000
MOST_BYTES = 200 << 30
SMALL = 1 << 30  # bytes that are unpacked however small they were packed
MOST_PACKED = 200  # times smaller than its content: pictures with their masks are so 1 to 20 times
ENCRYPTED, IS_UTF_8 = 0x1, 0x800  # flags of an entry
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)


class Packed(NamedTuple):
    """A file in an archive, and where it goes below the folder."""

    info: zipfile.ZipInfo
    place: PurePosixPath


def is_archive(path: Path) -> bool:
    return path.suffix.lower() == ENDING and path.is_file()


# ---- what is in it ----


def name_of(info: zipfile.ZipInfo) -> str:
    """An entry's name; Macs write UTF-8 without saying so, old Windows programs a \\ for a /."""
    name = info.filename
    if not info.flag_bits & IS_UTF_8:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def place_of(archive: Path, info: zipfile.ZipInfo) -> PurePosixPath:
    """Where an entry goes; out of the folder it may not go."""
    name = name_of(info)
    place = PurePosixPath(name)
    if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in place.parts:
        raise InputError(
            f"{archive} has an entry {name!r}, which leads out of its folder; nothing is unpacked. "
            "Get it anew from where it comes from, or unpack what you need by hand"
        )
    return place


def check_is_plain(archive: Path, info: zipfile.ZipInfo) -> None:
    """Files and folders only, that anybody may read."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if stat.S_ISLNK(kind) else "a device or a pipe"
        raise InputError(
            f"{archive} holds {info.filename!r}, which is {what}; expected files and folders only: "
            "pack it with the files themselves"
        )
    if info.flag_bits & ENCRYPTED:
        raise InputError(
            f"{archive} is encrypted ({info.filename!r}); unpack it by hand, and name the folder"
        )


def is_junk(place: PurePosixPath) -> bool:
    """What Macs and file managers add: hidden files, __MACOSX, Thumbs.db."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in place.parts)
    return hidden or not place.parts or place.name.lower() in JUNK


def check_places(archive: Path, entries: Sequence[Packed]) -> None:
    """No two files of one name, and none where another has its folder."""
    taken = set()
    for entry in entries:
        if entry.place in taken:
            raise InputError(f"{archive} holds {str(entry.place)!r} twice; pack it anew")
        taken.add(entry.place)
    for entry in entries:
        for folder in entry.place.parents:
            if folder in taken:
                raise InputError(
                    f"{archive} holds {str(folder)!r} as a file and as a folder; pack it anew"
                )


def check_amount(archive: Path, entries: Sequence[Packed]) -> None:
    """Not more than a data set may be, nor than a small file can honestly hold, nor than fits."""
    size = sum(entry.info.file_size for entry in entries)
    by_hand = "unpack it by hand if you trust it, and name the folder"
    if len(entries) > MOST_FILES or size > MOST_BYTES:
        raise InputError(
            f"{archive} holds {len(entries):,} files of {size / 1e9:,.1f} GB; at most "
            f"{MOST_FILES:,} of {MOST_BYTES / 1e9:,.1f} GB are unpacked: {by_hand}"
        )
    packed = max(1, archive.stat().st_size)
    if size > SMALL and size / packed > MOST_PACKED:
        raise InputError(
            f"{archive} would grow {size / packed:,.0f} times, to {size / 1e9:,.1f} GB, as "
            f"archives do that are made to fill a disk; {by_hand}"
        )
    free = shutil.disk_usage(archive.parent).free
    if size > free:
        raise InputError(
            f"{archive} needs {size / 1e9:,.1f} GB, and {archive.parent} has {free / 1e9:,.1f} GB "
            "left; make room, or move it to another disk"
        )


def entries_of(archive: Path, file: zipfile.ZipFile) -> list[Packed]:
    """What is to be unpacked, all of it checked."""
    entries = []
    for info in file.infolist():
        place = place_of(archive, info)
        if is_junk(place):
            continue
        check_is_plain(archive, info)
        if not info.is_dir() and not name_of(info).endswith("/"):
            entries.append(Packed(info, place))
    check_places(archive, entries)
    check_amount(archive, entries)
    if not entries:
        raise InputError(f"{archive} holds no files; expected a data set in it")
    return entries


# ---- unpacking ----


def write_entries(file: zipfile.ZipFile, entries: Sequence[Packed], folder: Path) -> None:
    """Each entry below folder; its content is compared with its checksum as it is read."""
    for entry in Counting(entries, "unpacking", len(entries), unit="file", leave=False):
        path = folder / entry.place
        path.parent.mkdir(parents=True, exist_ok=True)
        with file.open(entry.info) as source, open(path, "xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def unpack(archive: Path, file: zipfile.ZipFile, folder: Path, note: dict) -> None:
    """Unpack aside, then rename in one move: a kill leaves nothing half done."""
    entries = entries_of(archive, file)
    sweep_unfinished(folder.parent, "zip")
    with writing(folder):
        aside = make_aside(folder.parent, "zip")
        try:
            unfinished = aside / folder.name
            unfinished.mkdir()
            write_entries(file, entries, unfinished)
            (unfinished / NOTE).write_text(json.dumps(note))
            if not os.path.lexists(folder):  # else another was quicker
                os.rename(unfinished, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    print(f"{archive} is unpacked into {folder}, {len(entries)} files", flush=True)


def contents_of(file: zipfile.ZipFile) -> dict:
    """What tells an archive from another: its entries, their sizes and checksums."""
    facts = [(info.filename, info.file_size, info.CRC) for info in file.infolist()]
    return {"entries": len(facts), "fingerprint": fingerprint(facts)}


def check_is_its_own(archive: Path, folder: Path, note: dict) -> None:
    """An existing folder is used only if it was unpacked from this archive as it is now."""
    found = None
    with suppress(OSError, ValueError):
        found = json.loads((folder / NOTE).read_text())
    if found is None:
        raise InputError(
            f"{folder} is there already, and was not unpacked from {archive}; set dataset to "
            f"{folder} if that is meant, else move it away or rename the archive"
        )
    if found != note:
        raise InputError(
            f"{archive} has changed since {folder} was unpacked from it; move {folder} away to "
            f"have it unpacked anew, or set dataset to {folder} to go on with what is there"
        )


def unpacked(archive: Path) -> Path:
    """The folder beside an archive with what is in it, unpacked the first time."""
    folder = archive.with_suffix("")
    try:
        with zipfile.ZipFile(archive) as file:
            note = contents_of(file)
            if not os.path.lexists(folder):
                unpack(archive, file, folder, note)
            check_is_its_own(archive, folder, note)
    except DAMAGED as error:
        raise InputError(
            f"{archive} can't be unpacked ({error or type(error).__name__}); get or pack it anew"
        ) from error
    except OSError as error:
        raise InputError(
            f"{archive} can't be read ({error.strerror or error}); give leave to read it"
        ) from error
    return folder
