"""A tensor that an operator holds, given as such or by the path of a file: one value either way."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from .constants import ordinary_tensors
from .imagefile import contents, picture
from .kinds import TensorKind
from .operator import Operator
from .params import check_count
from .transforms import is_transformed


class Held(Operator):
    """Mixed into an operator with one `tensor(…)` parameter. Operators are equal where its values are.

    Files are read at the first use: a picture as `channels` of 8 bits, or the tensor of that name in
    a .safetensors file. A tensor prints as its digest; write it to a file for a text that can be parsed.
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

    @cached_property
    def _tensor(self) -> Tensor:
        given = getattr(self, self.held)
        with ordinary_tensors():
            return given.float() if isinstance(given, Tensor) else self._read(given)

    def _read(self, path: str) -> Tensor:
        import numpy
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load

        name = f"{self.held}={path!r}"
        try:
            data = contents(path, name)
            if Path(path).suffix != ".safetensors":
                shown = numpy.atleast_3d(
                    numpy.array(picture(data, name, self._kind.channels), dtype="float32")
                )
                return torch.from_numpy(shown / 255).permute(2, 0, 1)[None]
            value = load(data)[self.held]
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{name} cannot be read as a {self.held}: {error}") from error
        if not value.is_floating_point():
            raise ValueError(f"{name} holds {value.dtype}; save it as float32")
        self._kind.check_tensor(self.held, value.float())
        return value.float()

    @cached_property
    def _digest(self) -> str:
        import numpy

        size = "x".join(map(str, self._tensor.shape))
        values = self._tensor.cpu().contiguous()
        if is_transformed(
            values
        ):  # such as under torch.func.grad, where there is no array to share
            array = numpy.array(values.tolist(), dtype="float32")
        else:
            array = values.numpy()
        return f"{size}-{sha256(array.tobytes()).hexdigest()[:16]}"

    def arguments(self) -> list[tuple[str, object, bool]]:
        given = super().arguments()
        return [
            (n, self._digest if isinstance(v, Tensor) else v, positional)
            for n, v, positional in given
        ]

    def row(self, index: int, batch: int) -> Operator:
        given = getattr(self, self.held)
        if given is None or len(self._tensor) == 1:
            return self
        check_count(self.held, tuple(self._tensor), batch)
        return self.with_values({self.held: self._tensor[index : index + 1]})

    def same(self, other: object) -> bool:
        """For __eq__, which a dataclass does not inherit."""
        if type(self) is not type(other):
            return False
        mine, others = ({n: v for n, v, _ in f.arguments() if n != f.held} for f in (self, other))
        paths = [getattr(f, f.held) for f in (self, other)]
        if mine != others:
            return False
        if not any(isinstance(path, Tensor) for path in paths) and paths[0] == paths[1]:
            return True  # even if nothing is there yet
        try:
            return not any(path is None for path in paths) and self._digest == other._digest
        except ValueError:  # a file that cannot be read equals only itself
            return False

    def kind(self) -> int:
        """For __hash__: one value may have several paths."""
        return hash(self.name)
