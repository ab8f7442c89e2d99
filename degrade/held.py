"""Base of operators with a tensor parameter, which may be given as the path of a file."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from .constants import ordinary_tensors
from .imagefile import NO_SAFETENSORS, contents, picture
from .kinds import TensorKind
from .operator import Operator, Shape
from .params import check_count
from .transforms import is_transformed, not_recorded, numbers_in

Self = TypeVar("Self", bound="Held")


class Held(Operator):
    """Base of operators with one `tensor(…)` parameter.

    A file is read when the operator is first used. An image file gives `channels` of 8 bits, a
    .safetensors file the tensor with the parameter's name. Two operators are equal if the values
    of their tensors are equal, whether these were given as tensors or as paths. A tensor prints as
    its digest, which cannot be parsed; give the path of a file if the text must be parsed.
    """

    @property
    def held(self) -> str:
        """The name of the parameter that holds the tensor."""
        (name,) = self.files
        return name

    @property
    def _kind(self) -> TensorKind:
        kind = self.kinds[self.held]
        assert isinstance(kind, TensorKind)
        return kind

    @property
    def _tensor(self) -> Tensor:
        given = getattr(self, self.held)
        if isinstance(given, Tensor):
            return given
        return _tensor_of_file(self)

    def _read(self, path: str) -> Tensor:
        import numpy
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        name = f"{self.held}={path!r}"
        data = contents(path, name)
        if Path(path).suffix != ".safetensors":
            image = picture(data, name, self._kind.channels)
            levels = numpy.array(image, dtype="float32")
            with_channels = numpy.atleast_3d(levels / 255)
            channels_last = torch.from_numpy(with_channels)
            pixels = channels_last.permute(2, 0, 1)
            return pixels[None]
        try:
            tensors = load(data)
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{name} cannot be read: {NO_SAFETENSORS}; save it anew") from error
        if self.held not in tensors:
            names = ", ".join(map(repr, tensors)) or "none"
            raise ValueError(
                f"{name} holds no tensor of the name {self.held!r}, but {names}; "
                "save it under this name"
            )
        value = tensors[self.held]
        if not value.is_floating_point():
            raise ValueError(f"{name} holds {value.dtype}; save it as float32")
        checked = self._kind.check(name, value)
        assert isinstance(checked, Tensor)
        return checked

    @cached_property
    def _digest(self) -> str:
        import numpy

        sides = map(str, self._tensor.shape)
        size = "x".join(sides)
        with not_recorded():
            values = self._tensor.detach().cpu().contiguous()
            # torch.func wraps a tensor, so numpy cannot share its memory
            array = numpy.array(numbers_in(values)) if is_transformed(values) else values.numpy()
        in_float32 = array.astype("float32")
        if (in_float32 == array).all():  # equal values have equal digests, whatever their type
            array = in_float32
        digest = sha256(array.tobytes()).hexdigest()
        return f"{size}-{digest[:16]}"

    def arguments(self) -> list[tuple[str, object, bool]]:
        arguments = []
        for name, value, positional in super().arguments():
            printed = self._digest if isinstance(value, Tensor) else value
            arguments.append((name, printed, positional))
        return arguments

    def __copy__(self: Self) -> Self:
        return self  # a value does not change

    def __getstate__(self) -> dict[str, object]:
        """The parameters without a graph of autograd, for deep copies and pickles."""
        parameters = {name: getattr(self, name) for name in self.kinds}
        given = parameters[self.held]
        if isinstance(given, Tensor):
            parameters[self.held] = given.detach()
        return parameters

    def row(self, index: int, batch: int) -> Operator:
        values = self.row_values(index, batch)
        given = getattr(self, self.held)
        if given is not None and len(self._tensor) > 1:
            check_count(self.held, tuple(self._tensor), batch)
            values[self.held] = self._tensor[index : index + 1]
        return self.with_values(values)

    def fitting(self, shape: Shape) -> Tensor:
        """The tensor, for images of `shape`. Raises ValueError if its sides or number differ."""
        batch, _, *sides = shape
        fits_sides = list(self._tensor.shape[2:]) == sides
        fits_batch = len(self._tensor) in (1, batch)
        if not (fits_sides and fits_batch):
            raise ValueError(
                f"{self._quoted} is {list(self._tensor.shape)}, the images are {list(shape)}; "
                "give one of their size"
            )
        return self._tensor

    @property
    def _quoted(self) -> str:
        """The tensor as an error names it: with the path of its file, if it has one."""
        given = getattr(self, self.held)
        return f"the {self.held}" if isinstance(given, Tensor) else f"{self.held}={given!r}"

    def same(self, other: object) -> bool:
        """Whether both operators are of one class, with equal parameters and equal tensors.

        Subclasses set it as `__eq__`. Two paths may name files with equal content, so files are
        compared by content unless the paths are the same.
        """
        if not isinstance(other, Held) or type(self) is not type(other):
            return False
        if self._other_arguments() != other._other_arguments():
            return False
        mine = getattr(self, self.held)
        others = getattr(other, other.held)
        if mine is None or others is None:
            return mine is others
        both_paths = not isinstance(mine, Tensor) and not isinstance(others, Tensor)
        if both_paths and mine == others:
            return True  # equal even if the file does not exist
        try:
            return self._digest == other._digest
        except ValueError:  # a file that cannot be read is equal to itself only
            return False

    def _other_arguments(self) -> dict[str, object]:
        """The parameters besides the tensor."""
        others = {}
        for name, value, _ in self.arguments():
            if name != self.held:
                others[name] = value
        return others

    def kind(self) -> int:
        """A hash by the class only, since equal tensors may be given by different paths.

        Subclasses set it as `__hash__`.
        """
        return hash(self.name)


def _tensor_of_file(f: Held) -> Tensor:
    """The tensor of the file that an operator names, which is read once.

    Under torch.compile it is read while the graph is made, and the graph holds it.
    """
    kept = vars(f)
    if "_of_file" not in kept:
        with not_recorded(), ordinary_tensors():
            kept["_of_file"] = f._read(getattr(f, f.held))
    tensor: Tensor = kept["_of_file"]
    return tensor


# what torch.compiler.assume_constant_result sets, without the second its import takes
_tensor_of_file._dynamo_marked_constant = True  # type: ignore[attr-defined]
