"""Read NVIDIA's network pickles without executing anything that is in them.

A pickle is a program that names functions to call. This reader looks every name up in a short,
fixed list of stand-ins: it imports nothing, and it discards the source code that these files
contain. A name that is not on the list becomes an `Inert` object, which remembers the name and
ignores whatever the program does to it. Such an object is an error only if the generator needs it.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, TypeGuard

import numpy
from torch import Tensor

from .storages import storage, tensor

_MOST_OBJECTS = 200_000  # a real generator has some thousand
_LONGEST_NAME = 1000  # characters of a dotted name
EMBEDDING = "torch.nn.modules.sparse.Embedding"  # the only foreign class of a real generator


class Module:
    """A network module as the pickle describes it: the name of its class, and its attributes."""

    def __init__(self, class_name: str, state: dict):
        self.class_name = class_name
        self.state = state

    def __getitem__(self, name: str) -> Module:
        """Return the submodule `name`. Raises KeyError."""
        submodule: Module = self.state["_modules"][name]
        return submodule

    def get(self, name: str, default=None):
        """Return a plain attribute. An array becomes a list."""
        value = self.state.get(name, default)
        if isinstance(value, _Array) and value.value is not None:
            return value.value.tolist()
        return value


class Inert:
    """A stand-in for a name that is not allowed: it accepts every operation and does nothing.

    origin: the name.
    """

    origin = ""
    state: dict

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)  # not in __init__, which a pickle may skip
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
    """Return the object in the file, made of `Module`, `Inert`, tensors, numbers and containers.

    Nothing in the file is executed. Raises ValueError if the file attempts what is not allowed; a
    damaged file may raise any other exception.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        machine = _Networks(file, size)
        return machine.load()


def state_dict(module: Module) -> dict[str, Tensor]:
    """Return the tensors of a module by their dotted names.

    Raises ValueError if the module contains a name that is not allowed.
    """
    _refuse_foreign(module)
    tensors: dict[str, Tensor] = {}
    queue: list[tuple[str, object]] = [("", module)]
    for prefix, node in queue:
        too_many = len(queue) > _MOST_OBJECTS or len(prefix) > _LONGEST_NAME
        if too_many or not isinstance(node, (Module, Inert)):
            name = prefix[:_LONGEST_NAME].rstrip(".")
            raise ValueError(f"{name} is no module, or one of too many")
        for kind in ("_parameters", "_buffers"):
            values = node.state.get(kind) or {}
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[prefix + name] = value
        children = node.state.get("_modules") or {}
        for name, child in children.items():
            if child is not None:
                queue.append((f"{prefix}{name}.", child))
    return tensors


def _refuse_foreign(root: object) -> None:
    """Raise ValueError if `root` contains, at any depth, a name that is not allowed."""
    stack = [root]
    visited = set()
    while stack:
        node = stack.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if len(visited) > _MOST_OBJECTS:
            raise ValueError("the generator holds too many objects")
        stack += _contents(node)


def _contents(node: object) -> list:
    """The objects inside `node`. Raises ValueError if `node` itself is not allowed."""
    if isinstance(node, Inert):
        _check_origin(node.origin)
        return [node.state]
    if _is_inert_class(node):
        _check_origin(node.origin)
        return []
    if isinstance(node, Module):
        return [node.state]
    if isinstance(node, _Array) and node.value is None:
        raise ValueError("the generator holds a numpy array of something else than numbers")
    if isinstance(node, dict):
        return [*node.keys(), *node.values()]
    if isinstance(node, (list, tuple, set, frozenset)):
        return list(node)
    return []


def _is_inert_class(node: object) -> TypeGuard[type[Inert]]:
    return isinstance(node, type) and issubclass(node, Inert)


def _check_origin(origin: str) -> None:
    """Raise ValueError for every name that is not allowed, except that of an embedding."""
    if origin != EMBEDDING:
        raise ValueError(
            f"the generator needs {origin}, which is not allowed; nothing of it was run"
        )


# Stand-ins for the names on the list -------------------------------------------------------------


class _EasyDict(dict):
    """dnnlib's dictionary."""


class _DType:
    """numpy's dtype."""

    NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")

    def __init__(self, code: str, *_):
        self.code = code
        self.order = "<"

    def __setstate__(self, state):
        self.order = state[1]

    def real(self) -> numpy.dtype | None:
        """Return the dtype of numpy, or None if it is not a dtype of numbers."""
        if self.code not in self.NUMBERS:
            return None
        order = "<" if self.order in ("|", "=") else self.order
        return numpy.dtype(order + self.code)


class _Array:
    """numpy's array. `value` is set with its state, if the elements are numbers."""

    value: numpy.ndarray | None = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        real = dtype.real()
        if real is not None:
            order: Literal["F", "C"] = "F" if fortran else "C"
            numbers = numpy.frombuffer(data, real)
            self.value = numbers.reshape(shape, order=order)


def _reconstruct(*_) -> _Array:
    return _Array()


def _from_buffer(data: bytes, dtype: _DType, shape: tuple, order: str) -> _Array:
    array = _Array()
    fortran = order == "F"
    array.__setstate__((1, shape, dtype, fortran, data))
    return array


def _create_array(builder: object, args: tuple, state: tuple, attributes: object = None) -> object:
    """dill's way to write an array: the builder's result receives a state."""
    if builder is not _reconstruct:
        return _inert("an array that numpy does not build")
    array = _Array()
    array.__setstate__(state)
    return array


def _scalar(dtype: _DType, data: bytes) -> float | Inert:
    real = dtype.real()
    if real is None:
        return _inert("a numpy scalar that is no number")
    number: float = numpy.frombuffer(data, real).item()
    return number


class _ModuleName(Inert):
    """The name of a Python module that dill 0.3.4 asks to import. It is never imported."""


def _import_module(name: object, *_) -> Inert:
    if not isinstance(name, str):
        return _inert("a module without a name")
    module = _ModuleName()
    module.origin = name
    return module


def _encoded(text: str, encoding: str = "utf-8") -> bytes | Inert:
    if encoding != "latin1":
        return _inert("a text in another encoding")
    return text.encode("latin1")


def _module(meta: dict) -> Module:
    class_name = meta["class_name"]
    state = meta["state"]
    if not isinstance(class_name, str) or not isinstance(state, dict):
        raise ValueError("a module has no name, or no state")
    return Module(class_name, state)


def _type(name: str) -> Callable:
    return _set if name == "set" else _OtherType


def _set(items: Iterable = ()) -> set:
    return set(map(_key, items))


def _ordered(items: Iterable = ()) -> OrderedDict:
    ordered = OrderedDict()
    for key, value in items:
        ordered[_key(key)] = value
    return ordered


def _dictionary(keys: list, values: list) -> dict:
    dictionary = {}
    for key, value in zip(keys, values, strict=True):
        dictionary[_key(key)] = value
    return dictionary


def _key(key: object) -> object:
    """Return the key. Raises ValueError for nested tuples, which may take forever to hash."""
    if isinstance(key, (tuple, frozenset)):
        for part in key:
            if isinstance(part, (tuple, frozenset)):
                raise ValueError("a key is a tuple of tuples")
    return key


class _OtherAttribute(Inert):
    """An attribute of something that is no module."""

    origin = "an attribute that dill names"


class _OtherType(Inert):
    """A type that dill names in a way of its own."""

    origin = "a type that dill names"


def _inert(origin: str) -> Inert:
    stand_in = Inert()
    stand_in.origin = origin
    return stand_in


def _parameter(tensor: Tensor, *_) -> Tensor:
    return tensor


_NUMPY_MODULES = ("multiarray", "_multiarray_umath")  # the second where dill 0.3.4 finds them

_ALLOWED: dict[str, Callable] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _module,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_tensor_v2": tensor,
    "collections.OrderedDict": _ordered,
    "builtins.set": _set,
    "__builtin__.set": _set,  # as protocol 2 writes it
    "dill._dill._load_type": _type,
    "dill._dill._import_module": _import_module,
    "dill._dill._create_array": _create_array,
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    "dnnlib.util.EasyDict": _EasyDict,
    "_codecs.encode": _encoded,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.numeric._frombuffer"] = _from_buffer
    for _name in _NUMPY_MODULES:
        _ALLOWED[f"{_core}.{_name}.scalar"] = _scalar
        _ALLOWED[f"{_core}.{_name}._reconstruct"] = _reconstruct


class _Networks(pickle._Unpickler):
    """Python's own pickle machine with our stand-ins.

    The machine in C would let a short file allocate huge tables and set the state of any object.
    """

    # what the machine of Python has and its type declaration lacks
    stack: list
    append: Callable[[object], None]
    pop_mark: Callable[[], list]

    def __init__(self, file: io.BufferedIOBase, size: int):
        super().__init__(file)
        self._bytes_left = size  # all storages together are no larger than the file
        self._stand_ins = _ALLOWED | {
            "torch.storage._load_from_bytes": self._storage,
            "dill._dill._get_attr": self._attribute,
        }

    def _storage(self, blob: bytes) -> Tensor:
        self._bytes_left -= len(blob)
        if self._bytes_left < 0:
            raise ValueError("its storages hold more than the file")
        return storage(blob)

    def _attribute(self, module: object, name: object) -> Callable:
        """Look `name` up in the same list as every other name."""
        if isinstance(module, _ModuleName) and isinstance(name, str):
            return self.find_class(module.origin, name)
        return _OtherAttribute

    def find_class(self, module: str, name: str) -> Callable:
        """Return the stand-in for a name. Nothing is imported."""
        if len(module) + len(name) > _LONGEST_NAME:
            raise ValueError(f"it names something in more than {_LONGEST_NAME} characters")
        origin = f"{module}.{name}"
        if origin not in self._stand_ins:
            attributes = {"origin": origin}
            self._stand_ins[origin] = type("Inert", (Inert,), attributes)
        return self._stand_ins[origin]

    def persistent_load(self, pid):
        raise ValueError("it refers to data outside itself")

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (Inert, _DType, _Array)):
            target.__setstate__(state)
        elif state and not _is_inert_class(target):
            raise ValueError(f"it sets the state of a {type(target).__name__}")

    def _set_items(self) -> None:
        keys, values = self._pop_pairs()
        self._fill(keys, values)

    def _set_item(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._fill([key], [value])

    def _pop_pairs(self) -> tuple[list, list]:
        """The keys and the values above the mark, which alternate."""
        items = self.pop_mark()
        keys = items[::2]
        values = items[1::2]
        return keys, values

    def _fill(self, keys: list, values: list) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(_dictionary(keys, values))
        elif not isinstance(target, Inert):
            raise ValueError(f"it sets items of a {type(target).__name__}")

    def _dict(self) -> None:
        keys, values = self._pop_pairs()
        self.append(_dictionary(keys, values))

    def _add_items(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if isinstance(target, set):
            target.update(map(_key, items))

    def _frozenset(self) -> None:
        keys = map(_key, self.pop_mark())
        self.append(frozenset(keys))

    _opcodes: dict[int, Callable[..., None]] = {
        pickle.BUILD[0]: _build,
        pickle.SETITEMS[0]: _set_items,
        pickle.SETITEM[0]: _set_item,
        pickle.DICT[0]: _dict,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _frozenset,
    }
    dispatch = pickle._Unpickler.dispatch | _opcodes
