"""NVIDIA's network pickles, read without running a line of what is in them.

A pickle is a program that names functions to call. Here the names are looked up in a short list of
our own stand-ins and nowhere else: nothing is imported, and the source code that these files carry
is thrown away unread. A name that is not on the list becomes an `Inert` object, which remembers the
name, takes whatever is done to it and does nothing; it is an error only where a generator needs it.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy
from torch import Tensor

from .storages import storage, tensor

_MOST_OBJECTS = 200_000  # a real generator has some thousand
_LONGEST_NAME = 1000  # of a tensor, with those of all modules around it
EMBEDDING = "torch.nn.modules.sparse.Embedding"  # the one foreign class of a real generator (StyleGAN-XL); a table


class Module:
    """A network module as the pickle describes it: the name of its class and its attributes."""

    def __init__(self, class_name: str, state: dict):
        self.class_name, self.state = class_name, state

    def __getitem__(self, name: str):
        """The submodule `name`; raises KeyError."""
        return self.state["_modules"][name]

    def get(self, name: str, default=None):
        """A plain attribute; arrays as lists."""
        value = self.state.get(name, default)
        return value.value.tolist() if isinstance(value, _Array) else value


class Inert:
    """Stands for what is never to be had: takes anything, does nothing, and remembers its name."""

    origin = ""

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)  # here, since a pickle may make one without __init__
        self.state = {}
        return self

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        self.state = state if isinstance(state, dict) else {}

    def _nothing(self, *args, **kwargs):
        return None

    append = extend = add = __setitem__ = _nothing

    def __call__(self, *args, **kwargs):
        return self


def read(path: Path) -> object:
    """The object in the file, made of `Module`, `Inert`, tensors, numbers and containers.

    Nothing in the file is ever run. Raises ValueError where it asks for what it may not have, and
    whatever a damaged program may end in.
    """
    with path.open("rb") as file:
        return _Networks(file, path.stat().st_size).load()


def state_dict(module: Module) -> dict[str, Tensor]:
    """The tensors of a module by their dotted names. Raises ValueError where it holds what is on no list."""
    _refuse_foreign(module)
    found: dict[str, Tensor] = {}
    waiting = [("", module)]
    for prefix, node in waiting:
        if (
            len(waiting) > _MOST_OBJECTS
            or len(prefix) > _LONGEST_NAME
            or not isinstance(node, (Module, Inert))
        ):
            raise ValueError(
                f"{prefix[:_LONGEST_NAME].rstrip('.')} is no module, or one of too many"
            )
        for kind in ("_parameters", "_buffers"):
            tensors = (node.state.get(kind) or {}).items()
            found |= {prefix + name: value for name, value in tensors if isinstance(value, Tensor)}
        children = (node.state.get("_modules") or {}).items()
        waiting += [(f"{prefix}{name}.", child) for name, child in children if child is not None]
    return found


def _refuse_foreign(node: object) -> None:
    """Raise ValueError naming something on no list that `node` holds, however deep."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if len(seen) > _MOST_OBJECTS:
            raise ValueError("the generator holds too many objects")
        if isinstance(node, Inert) or (isinstance(node, type) and issubclass(node, Inert)):
            if node.origin != EMBEDDING:
                raise ValueError(
                    f"the generator needs {node.origin}, which is not allowed; nothing of it was run"
                )
            waiting.append(node.state)
        elif isinstance(node, Module):
            waiting.append(node.state)
        elif isinstance(node, _Array) and node.value is None:
            raise ValueError("the generator holds a numpy array of something else than numbers")
        elif isinstance(node, dict):
            waiting += [*node.keys(), *node.values()]
        elif isinstance(node, (list, tuple, set, frozenset)):
            waiting += node


# Stand-ins for the names on the list -------------------------------------------------------------


class _EasyDict(dict):
    """dnnlib's dictionary."""


class _DType:
    """numpy's dtype."""

    def __init__(self, code: str, *_):
        self.code, self.order = code, "<"

    def __setstate__(self, state):
        self.order = state[1]

    def real(self) -> numpy.dtype | None:
        """As numpy has it; None for what is no number."""
        if self.code not in (
            "b1",
            "i1",
            "i2",
            "i4",
            "i8",
            "u1",
            "u2",
            "u4",
            "u8",
            "f2",
            "f4",
            "f8",
        ):
            return None
        return numpy.dtype(("<" if self.order in ("|", "=") else self.order) + self.code)


class _Array:
    """numpy's array, once its state has arrived, if it is one of numbers."""

    value: numpy.ndarray | None = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        if dtype.real() is not None:
            self.value = numpy.frombuffer(data, dtype.real()).reshape(
                shape, order="F" if fortran else "C"
            )


def _from_buffer(data: bytes, dtype: _DType, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _scalar(dtype: _DType, data: object) -> float | Inert:
    if dtype.real() is None:
        return _inert("a numpy scalar that is no number")
    (value,) = numpy.frombuffer(data, dtype.real())
    return value.item()


def _encoded(text: str, encoding: str = "utf-8") -> bytes | Inert:
    return text.encode("latin1") if encoding == "latin1" else _inert("a text in another encoding")


def _module(meta: dict) -> Module:
    if not isinstance(meta["class_name"], str) or not isinstance(meta["state"], dict):
        raise ValueError("a module has no name, or no state")
    return Module(meta["class_name"], meta["state"])


def _type(name: str) -> Callable:
    return _set if name == "set" else type("Inert", (Inert,), {"origin": "a type that dill names"})


def _set(items: list = ()) -> set:
    return set(map(_key, items))


def _ordered(items: list = ()) -> OrderedDict:
    return OrderedDict((_key(key), value) for key, value in items)


def _key(key: object) -> object:
    """Refuses what could take forever to hash: a tuple within a tuple within a tuple…"""
    if isinstance(key, (tuple, frozenset)) and any(
        isinstance(part, (tuple, frozenset)) for part in key
    ):
        raise ValueError("a key is a tuple of tuples")
    return key


def _inert(origin: str) -> Inert:
    return type("Inert", (Inert,), {"origin": origin})()


def _parameter(tensor: Tensor, *_) -> Tensor:
    return tensor


class _Networks(pickle._Unpickler):
    """The machine, in Python: C's lets a short file set up huge tables, and set the state of anything."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BufferedIOBase, size: int):
        super().__init__(file)
        self._bytes_left = size  # storages hold no more than the file

        def counted(blob: bytes) -> Tensor:
            self._bytes_left -= len(blob)
            if self._bytes_left < 0:
                raise ValueError("its storages hold more than the file")
            return storage(blob)

        self._allowed: dict[str, Callable] = {
            "torch_utils.persistence._reconstruct_persistent_obj": _module,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_tensor_v2": tensor,
            "torch.storage._load_from_bytes": counted,
            "collections.OrderedDict": _ordered,
            "builtins.set": _set,
            "__builtin__.set": _set,  # as protocol 2 writes it
            "dill._dill._load_type": _type,
            "numpy.dtype": _DType,
            "numpy.ndarray": _Array,
            "dnnlib.util.EasyDict": _EasyDict,
            "_codecs.encode": _encoded,
        } | {
            f"numpy.{core}.{name}": stand_in
            for core in ("core", "_core")
            for name, stand_in in (
                ("multiarray.scalar", _scalar),
                ("multiarray._reconstruct", lambda *_: _Array()),
                ("numeric._frombuffer", _from_buffer),
            )
        }

    def find_class(self, module: str, name: str):
        origin = f"{module}.{name}"
        return self._allowed.get(origin) or type("Inert", (Inert,), {"origin": origin})

    def persistent_load(self, pid):
        raise ValueError("it refers to data outside itself")

    def _build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if isinstance(built, (Inert, _DType, _Array)):
            built.__setstate__(state)
        elif state and not (isinstance(built, type) and issubclass(built, Inert)):
            raise ValueError(f"it sets the state of a {type(built).__name__}")

    def _set_items(self) -> None:
        items = self.pop_mark()
        self._fill(zip(items[::2], items[1::2], strict=True))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([(key, value)])

    def _fill(self, items) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update((_key(key), value) for key, value in items)
        elif not isinstance(self.stack[-1], Inert):
            raise ValueError(f"it sets items of a {type(self.stack[-1]).__name__}")

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def _add_items(self) -> None:
        items = self.pop_mark()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(map(_key, items))

    def _frozenset(self) -> None:
        self.append(frozenset(map(_key, self.pop_mark())))

    dispatch |= {
        pickle.BUILD[0]: _build,
        pickle.SETITEMS[0]: _set_items,
        pickle.SETITEM[0]: _set_item,
        pickle.DICT[0]: _dict,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _frozenset,
    }
