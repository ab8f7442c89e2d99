"""Restore: look for the image that, degraded, is the observation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from degrade.images import check_image, warn_if_signed
from degrade.movement import coarsest_pixel
from degrade.operator import Operator
from degrade.rng import child_seed
from degrade.spec import operator_of
from degrade.values import show

from . import perceptual as perceptual_net
from .denoiser import Denoiser
from .generator import Generator
from .generator.mapping import Label, labels
from .identity import FaceIdentity
from .method import RestorationMethod, check_options, check_prior
from .methods import DEFAULT_METHODS, method_of
from .problem import Prior, Problem, image_shape
from .result import Restoration, Step

COARSEST = 2  # pixels of the image; wider ones of an observation show no details
Classifier = Callable[[Tensor], Label]  # returns the class of each image, or scores of all classes


def restore(
    observation: Tensor,
    operator: Operator | str,
    prior: Generator | Denoiser,
    method: str | RestorationMethod | None = None,
    seed: int | Sequence[int] = 0,
    callback: Callable[[Step], None] | None = None,
    *,
    perceptual: str = "vgg",
    steps: int | None = None,
    lr_scale: float | None = None,
    class_label: Label | Classifier = None,
    init: Tensor | str | None = None,
    identity: FaceIdentity | None = None,
    consistency: bool | None = None,
) -> Restoration:
    """Search what `prior` finds plausible for images that `operator` turns into `observation`.

    observation: [B, C, h, w] in [0, 1], of the prior's channels, on its device. operator: what a
    solver may assume, usually f.sample(...).approx(), or its text, such as "jpeg:30". prior: a
    generator or a denoiser, see `load_prior`; the method says which one it needs. A denoiser of
    any size restores images of the shape `operator.input_shape(observation.shape)`, and grey ones
    if the observation has one channel. method: a name of METHODS, or a Method; None is
    `calibrated` for a generator and `pnp` for a denoiser. seed: one for all images (each gets the
    same stream, so its result does not depend on the other images of the batch, but for rounding),
    or one per image.
    callback: called with a `Step` after every step.
    perceptual: "vgg", or "alex" for speed, for terms that do not name their own network. steps: in
    all; every phase is shortened in proportion. lr_scale: factor of the learning rates of style
    codes, above 0 to 1000; None takes the generator's own spread of W, relative to FFHQ's.

    class_label: for a prior with classes: one class, one per image, features [B, c_dim], or a
    classifier. It is called with the observation, and returns classes, or scores [B, c_dim]
    of which the highest counts. init: a latent of W, W+ or W++ to go on from, which skips
    the phases of smaller spaces; or "random", to begin at a code drawn by the seed. identity: the
    person, for methods with a term for it. consistency: whether the final image is made consistent
    with the observation by the operator's `project`; the latent and the phases' images stay. None
    leaves it to the method.

    It works under torch.no_grad(), torch.inference_mode() and torch.autocast(), which change no
    result. Raises ValueError when the operator does not lead from the prior's images to the
    observation, the prior lacks what the method needs, or its weights are not finite.
    """
    check_image(observation, "observation")
    if observation.is_meta:
        raise ValueError("observation is on the meta device, which holds no values to restore")
    warn_if_signed(observation, "observation")
    if consistency is not None and not isinstance(consistency, bool):
        raise ValueError(f"consistency={consistency!r} must be True, False or None")
    operator = operator_of(operator, "operator")
    check_is_prior(prior)
    with own_settings(observation.device):
        prior = prior.suited_to(observation)
        check_shapes(observation, operator, prior)
        check_weights(prior)
        if method is None:
            method = DEFAULT_METHODS[prior.prior_kind]
        solver = method_of(method, steps)
        problem = Problem(
            observation=usable(observation),
            operator=operator,
            prior=prior,
            seeds=image_seeds(seed, len(observation)),
            net=perceptual_net.check(perceptual),
            identity=identity,
            init=init,
            lr_scale=lr_scale,
            method_name=repr(method) if isinstance(method, str) else "own",
        )
        check_options(solver, problem, class_label)
        check_prior(solver, problem)
        classes = class_label
        classes = classes_of(class_label, problem)
        label = labels(classes, problem.batch, prior.c_dim, problem.device)
        problem = replace(problem, label=label)
        solver.check(problem)
        restoration = solver.solve(problem, callback or ignore)
        if callable(class_label):
            restoration = with_note(restoration, f"the classifier says: {in_words(classes)}")
        if consistency is None and solver.keeps_pixels:
            return made_consistent(restoration, problem, shown_in_detail(problem))
        if consistency:
            return made_consistent(restoration, problem, [True] * problem.batch)
        return restoration


@contextmanager
def own_settings(device: torch.device) -> Iterator[None]:
    """Compute with gradients and in the tensors' own types, whatever the caller has switched on."""
    with (
        default_device(),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast(device.type, enabled=False),
    ):
        try:
            yield
        except RuntimeError as error:
            if "Inference tensor" not in str(error):
                raise
            raise ValueError(
                "the prior, the operator or the identity was made under "
                "torch.inference_mode() and has no gradients; make it outside"
            ) from error


def default_device() -> AbstractContextManager[object]:
    """A context in which new tensors without `device=` are on the CPU.

    If the CPU is torch's default device already, the context does nothing: entering torch's
    own context would slow down every call.
    """
    chosen = torch.get_default_device()
    return nullcontext() if chosen.type == "cpu" else torch.device("cpu")


def usable(observation: Tensor) -> Tensor:
    """The observation in float32, as a tensor that may enter autograd."""
    if observation.is_inference():
        observation = observation.clone()
    return observation.float()


def ignore(step: Step) -> None:
    """The callback of a caller who gave none."""


def made_consistent(restoration: Restoration, problem: Problem, chosen: list[bool]) -> Restoration:
    """Project the chosen images of the batch onto those that agree with the observation."""
    if not any(chosen):
        return restoration
    drawn = restoration.image
    projected = problem.operator.project(drawn, problem.observation).clamp(0, 1)
    is_chosen = torch.tensor(chosen, device=drawn.device).view(-1, 1, 1, 1)
    image = torch.where(is_chosen, projected, drawn)
    return replace(restoration, image=image, drawn=drawn)


def shown_in_detail(problem: Problem) -> list[bool]:
    """For each image, whether the observation determines more of it than means of large blocks.

    Its pixels are at most COARSEST pixels of the image wide, at every stage of the operator. An
    image that is moved onto the means of larger blocks shows the blocks.
    """
    _, *image = problem.image_shape
    shape = (1, *image)
    answers = []
    for index in range(problem.batch):
        f = problem.operator.row(index, problem.batch)
        answers.append(f.certain and coarsest_pixel(f, shape) <= COARSEST)
    return answers


def check_shapes(observation: Tensor, operator: Operator, prior: Prior) -> None:
    """Raise ValueError where the operator does not make observations of this shape."""
    shape = image_shape(observation, operator, prior)
    height, width = shape[2:]
    expected = operator.output_shape(shape)
    if tuple(observation.shape) == tuple(expected):
        return
    if prior.resolution is None:
        raise ValueError(
            f"the observation is {list(observation.shape)}, but {operator} turns {list(shape)} "
            f"images of the denoiser into {list(expected)}; crop it, convert it to "
            f"{prior.channels} channels, or change the operator"
        )
    raise ValueError(
        f"the observation is {list(observation.shape)}, but {operator} turns the "
        f"{prior.prior_kind}'s {height}×{width} images into {list(expected)}; "
        "crop or resize it, or change the operator"
    )


def check_is_prior(prior: object) -> None:
    """Raise ValueError for what is neither a generator nor a denoiser."""
    if isinstance(prior, (Generator, Denoiser)):
        return
    mend = "give what invert.load_prior, invert.wrap or invert.Denoiser returns"
    if isinstance(prior, (str, Path)):
        mend = f"give invert.load_prior({str(prior)!r})"
    raise ValueError(f"prior={show(prior)} must be a generator or a denoiser; {mend}")


def check_weights(prior: Generator | Denoiser) -> None:
    """Raise ValueError for weights that are not finite."""
    for name, value in prior.named_parameters():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"the {prior.prior_kind}'s {name} holds NaN or infinity; "
                "its file is damaged, get it anew"
            )


def classes_of(class_label: Label | Classifier, problem: Problem) -> Label:
    """The classes of the images, which a classifier recognises in the observations."""
    if not callable(class_label):
        return class_label
    observation = problem.observation.clone()  # which the classifier may change
    return recognised(class_label(observation), problem.prior.c_dim)


def with_note(restoration: Restoration, note: str) -> Restoration:
    """The restoration with one more note."""
    return replace(restoration, notes=(*restoration.notes, note))


def in_words(classes: Label) -> str:
    """The classes of a batch, such as "class 3" or "classes 3, 1"."""
    numbers = torch.as_tensor(classes).flatten().tolist()
    word = "class" if len(numbers) == 1 else "classes"
    return f"{word} {', '.join(map(str, numbers))}"


def recognised(result: Label, c_dim: int) -> Label:
    """The classes that a classifier returned; of scores [B, c_dim], the class of the highest."""
    if result is None or isinstance(result, int):
        return result
    wanted = f"give classes [B], or scores [B, {c_dim}]"
    try:
        scores = torch.as_tensor(result)
    except (RuntimeError, TypeError, ValueError) as error:
        kind = type(result).__name__
        raise ValueError(f"class_label: the classifier returned a {kind}; {wanted}") from error
    if scores.ndim < 2:
        return result
    scores = scores.float()
    if scores.ndim > 2 or scores.shape[1] != c_dim:
        raise ValueError(f"class_label: the classifier returned {list(scores.shape)}; {wanted}")
    if scores.isnan().any():
        raise ValueError(f"class_label: the classifier returned NaN; {wanted}")
    return scores.argmax(1)


def image_seeds(seed: int | Sequence[int], batch: int) -> tuple[int, ...]:
    """A seed for each image, from which everything is drawn."""
    seeds = [seed] * batch if is_integer(seed) else seed
    if not isinstance(seeds, Sequence) or not all(is_integer(s) for s in seeds):
        raise ValueError(f"seed={seed!r} must be an integer, or one per image")
    if len(seeds) != batch:
        raise ValueError(
            f"seed has {len(seeds)} values for {batch} images; give one, or one per image"
        )
    return tuple(child_seed(int(s), "restore") for s in seeds)


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, and not True or False."""
    return isinstance(value, Integral) and not isinstance(value, bool)
