"""A digest of plain values and tensors: another as soon as anything in them is another."""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor, nn

TOLL = 256  # bytes that take as long as a value's way here
DEEPEST = 20  # levels of lists in lists; a checkpoint has six
DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
DTYPES |= {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


class Strange(Exception):
    """What no checkpoint of this project holds."""


class Digest:
    """Each value goes in under its kind and its length, so that no two look alike; dicts go in by
    their keys, in whatever order they were filled.

    most bounds bytes and time: a small file may name one list in another without end.
    """

    def __init__(self, most: float):
        self.hash = hashlib.blake2b(digest_size=32)
        self.left = most

    def add(self, kind: str, content: bytes | memoryview = b"") -> None:
        words = f"{kind} {len(content)}:".encode()
        self.left -= len(content) + TOLL
        if self.left < 0:
            raise Strange("more than fits into a file of its size")
        self.hash.update(words)
        self.hash.update(content)

    def take(self, value: object, deep: int = 0) -> None:
        kind = type(value)
        if deep > DEEPEST:
            raise Strange(f"lists in lists, more than {DEEPEST} deep")
        if isinstance(value, dict):
            self.take_dict(value, deep)
        elif kind in (list, tuple):
            self.take_list(value, deep)
        elif kind in (Tensor, nn.Parameter):
            self.take_tensor(value)
        elif kind is str:
            self.add("str", value.encode("utf-8", "surrogatepass"))
        elif kind is int:
            self.add("int", f"{value:x}".encode())
        elif kind is float:
            self.add("float", value.hex().encode())
        elif kind is bool or value is None:
            self.add(str(value))
        else:
            raise Strange(f"a {kind.__name__}")

    def take_dict(self, value: dict, deep: int) -> None:
        self.add(f"dict of {len(value)}")
        for key in value:
            if type(key) not in (str, int):
                raise Strange(f"an entry whose name is a {type(key).__name__}")
        for key in sorted(value, key=lambda key: (type(key).__name__, key)):
            self.take(key)
            self.take(value[key], deep + 1)

    def take_list(self, value: list | tuple, deep: int) -> None:
        self.add(f"{type(value).__name__} of {len(value)}")
        if set(map(type, value)) == {float}:  # a long run has a million rates
            self.add("floats", np.array(value, "<f8").tobytes())
            return
        for part in value:
            self.take(part, deep + 1)

    def take_tensor(self, tensor: Tensor) -> None:
        is_plain = tensor.layout == torch.strided and tensor.dtype in DTYPES
        if not is_plain or tensor.is_nested or tensor.is_neg() or tensor.is_meta:
            raise Strange(f"a tensor that is not plain ({tensor.layout}, {tensor.dtype})")
        size = tensor.numel() * tensor.element_size()
        if size > min(tensor.untyped_storage().nbytes(), self.left):
            raise Strange(f"a tensor of more numbers than it stores {tuple(tensor.shape)}")
        flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        self.add(f"{tensor.dtype} {list(tensor.shape)}", flat.numpy().data)


def digest_of(content: dict, most: float = math.inf) -> str:
    """Names all that a checkpoint holds, but for the digest in it."""
    digest = Digest(most)
    digest.take({key: value for key, value in content.items() if key != "digest"})
    return digest.hash.hexdigest()
