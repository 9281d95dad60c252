"""Checkpoints on the disk: written with a digest of all that they hold; read without running code,
and believed only where the digest fits and all is as train.py writes it."""

import errno
import io
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from toolbox.descriptions import check_description, check_weights, state_of, told
from toolbox.digests import Strange, digest_of
from toolbox.errors import InputError, is_out_of_memory
from toolbox.files import in_run, write_atomic

import torch
from torch import Tensor, nn

FORMAT = 1
LAST_RECORD, RECORD_SIZE = b"PK\5\6", 22  # of a zip file, with a remark after it
FARTHEST = 2**16 + RECORD_SIZE  # bytes from its end
NEEDED = {"format", "model", "weights", "classes", "image_size"}
# What other files begin with, and what they are then.
BEGINNINGS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "an array of numpy",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"version https://git-lfs": "what Git LFS keeps in place of a file; `git lfs pull` brings it",
    b"<": "a web page",
    b"\x80": "a pickle",
}


# ---- writing ----


def save_tensors(path: Path, content: dict) -> None:
    content = {**content, "digest": digest_of(content)}
    memory = io.BytesIO()  # told of a full disk, torch.save says nothing that a user understands
    torch.save(content, memory)
    write_atomic(path, lambda file: file.write(memory.getbuffer()))


# ---- what can't be read ----


def cure(path: Path) -> str:
    """What to do about a file that is of no use any more."""
    if path.name == "last.pth":
        return (
            "put a copy of it back, or start a new run; the run's best.pth colours pictures "
            "all the same"
        )
    return "take another copy: unet_model.pth and its run's best.pth are alike"


def damaged(path: Path, found: str) -> InputError:
    return InputError(f"{path} is damaged: {found}; {cure(path)}")


def not_ours(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} is not a checkpoint of this project ({found}); expected one that train.py wrote"
    )


def check_file(path: Path) -> None:
    """What can be seen before it is read."""
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:  # as where its folder is closed, or its name too long
        raise unreadable(path, error) from error
    if is_folder:
        inside = [*in_run(path, "best.pth"), path / "best.pth"]
        raise InputError(f"{path} is a folder; name a checkpoint in it, such as {inside[0]}")
    if not is_file:
        raise InputError(f"checkpoint {path} is not there; `python train.py` makes one")


def unreadable(path: Path, error: OSError) -> InputError:
    if isinstance(error, PermissionError):
        cause = "give leave to read it"
    else:
        cause = f"its disk may be failing: {cure(path)}"
    return InputError(f"{path} can't be read ({error.strerror or error}); {cause}")


def unreadable_content(path: Path, error: Exception) -> InputError:
    """What to say of a file from which torch.load makes nothing."""
    if is_out_of_memory(error):
        size = f"{path.stat().st_size:,}"
        return InputError(
            f"{path} is too big ({size} bytes) for the memory that is free; make room"
        )
    with open(path, "rb") as file:
        beginning = file.read(64)
        file.seek(max(0, path.stat().st_size - FARTHEST))
        tail = file.read()
    if LAST_RECORD in tail[: 4 - RECORD_SIZE]:
        return unreadable_zip(path, error)
    if b"PK".startswith(beginning[:2]):
        size = path.stat().st_size
        return InputError(f"{path} is cut off: only {size:,} bytes are left of it; {cure(path)}")
    for start, kind in BEGINNINGS.items():
        if beginning.startswith(start):
            return not_ours(path, f"it looks like {kind}")
    return not_ours(path, f"it begins with {beginning[:12]!r}")


def unreadable_zip(path: Path, error: Exception) -> InputError:
    try:
        with zipfile.ZipFile(path) as archive:
            is_torchs = any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as problem:
        return damaged(path, f"its table of contents can't be read ({problem})")
    if not is_torchs:
        return not_ours(path, "it is a zip file, but none of torch's")
    if "Unsupported global" in str(error) or "Unsupported class" in str(error):
        return not_ours(
            path, "it holds objects of Python, not plain weights; such files can run code"
        )
    return damaged(path, f"torch can't read it ({type(error).__name__})")


def load_tensors(path: Path) -> dict:
    """What save_tensors wrote; weights_only, so that a stranger's file can't run code."""
    check_file(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch.load was led to a place that no file has
            raise unreadable_content(path, error) from error
        raise unreadable(path, error) from error
    except Exception as error:  # a dozen kinds for a file that is torn, foreign or hostile
        raise unreadable_content(path, error) from error


# ---- what is of another kind ----


def what_it_is(content: object) -> str:
    """What a file is that torch can read and that is no checkpoint of ours."""
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return "it looks like a state_dict: weights, without the net that they are of"
    lacking = ", ".join(sorted(NEEDED - content.keys()))
    if any(isinstance(key, str) and "state_dict" in key for key in content):
        return f"it looks like another project's, which keeps a state_dict; it lacks {lacking}"
    return f"it lacks {lacking}"


def check_kind(path: Path, content: object) -> None:
    if not isinstance(content, dict) or not NEEDED <= content.keys():
        raise not_ours(path, what_it_is(content))
    number = content["format"]
    if type(number) is int and number > FORMAT:
        raise InputError(
            f"{path} is of format {number}, and this version of the project reads {FORMAT}; take "
            "the version that wrote it, or a newer one"
        )
    if type(number) is not int or number != FORMAT:
        found = (
            told(number) if isinstance(number, (str, int, float)) else f"a {type(number).__name__}"
        )
        raise not_ours(path, f"its format is {found}, and not {FORMAT}")


# ---- reading ----


def look_into(path: Path, build: Callable[..., nn.Module] | None = None) -> tuple[dict, bool]:
    """What a checkpoint holds, all of it checked, and whether a digest was there to be compared.

    build makes a net of the arguments in the checkpoint, whose weights must then fit it.
    """
    content = load_tensors(path)
    check_kind(path, content)
    given = content.pop("digest", None)
    try:
        found = digest_of(content, most=2**30 + 4 * path.stat().st_size)
    except Strange as strange:
        raise not_ours(path, f"it holds {strange}") from strange
    if given is not None and given != found:
        raise damaged(path, "its digest does not fit its content")
    check_description(path, content)
    if build:
        check_weights(path, content["weights"], state_of(path, content["model"], build))
    return content, given is not None


def read_checkpoint(path: Path, build: Callable[..., nn.Module] | None = None) -> dict:
    """What a file holds, if it is a checkpoint of this project."""
    content, has_digest = look_into(path, build)
    if not has_digest:
        print(
            f"{path} was written before checkpoints had a digest: it can't be told whether it is "
            "damaged",
            file=sys.stderr,
        )
    return content
