"""An operator as a torch module, with parameters that an optimiser can learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .operator import Operator, compose
from .params import Range, show
from .rng import Generators
from .spec import operator_of


class Module(nn.Module):
    """Apply an operator as a part of a network, such as nn.Sequential(net, Module("jpeg:50")).

    In training mode every call draws anew from torch's global generator. In evaluation mode every
    call uses `seed`, so that a validation repeats. `forward(x, generator)` takes another generator.

    f: the operator, or its text.
    learn: names of parameters, such as "blur.size", that become an nn.Parameter each, for all
        stages of this name. `f` of the module is the operator with their present values.

    An operator holds no other state: the tensor of a mask is moved to the device of x at each call.

    >>> import degrade, torch
    >>> blur = degrade.Module("blur:gaussian,2", learn=["blur.size"])
    >>> [name for name, _ in blur.named_parameters()]
    ['blur_size']
    """

    def __init__(self, f: Operator | str, learn: Sequence[str] = (), seed: int = 0):
        super().__init__()
        self._f = operator_of(f)
        self.seed = seed
        self._names: dict[str, tuple[int, str]] = {}  # of a parameter: the stage and its field
        if isinstance(learn, str):
            raise ValueError(f"learn={learn!r} must be a list of names; give [{learn!r}]")
        for name in learn:
            self._learn(name)

    def _learn(self, name: str) -> None:
        stage_name, _, field = str(name).partition(".")
        found = False
        for index, stage in enumerate(self._f):
            if stage.name != stage_name or field not in stage.kinds:
                continue
            kind = stage.kinds[field]
            if not kind.learnable:
                raise ValueError(f"learn={name!r}: {stage} has no gradient for {field}")
            value = _first_value(name, getattr(stage, field))
            key = f"{stage_name}_{field}" if not found else f"{stage_name}{index}_{field}"
            self.register_parameter(key, nn.Parameter(value.detach().clone()))
            self._names[key] = (index, field)
            found = True
        if not found:
            raise ValueError(f"learn={name!r} is no parameter of {self._f}; give STAGE.PARAMETER")

    @property
    def f(self) -> Operator:
        """The operator with the present values of the learned parameters, and their gradients."""
        stages = list(self._f)
        for key, (index, field) in self._names.items():
            parameter = self.get_parameter(key)
            stages[index] = stages[index].with_values({field: parameter})
        return compose(stages)

    def forward(self, x: Tensor, generator: Generators = None) -> Tensor:
        if generator is None and not self.training:
            generator = self.seed
        return self.f(x, generator)

    def extra_repr(self) -> str:
        try:
            return str(self.f)
        except ValueError:  # the learned values are on the meta device, or out of range
            return str(self._f)


def _first_value(name: str, value: object) -> Tensor:
    """What a learned parameter begins with."""
    if value is None or isinstance(value, (str, Range)):
        raise ValueError(
            f"learn={name!r} has the value {show(value)}; give the operator a number to begin with"
        )
    return torch.as_tensor(value, dtype=torch.float32)
