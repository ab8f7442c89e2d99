"""What a worker does for one picture: it restores the whole, or parts of it, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import degrade
from invert import linear_model, unexplained
from invert.methods import DEFAULT_METHODS, method_of

from .classes import label_of
from .faces import Where
from .memory import return_blocks_at_once
from .options import PriorOptions
from .photo import Photo
from .solver import Solved, Solver, assumed_operator
from .spot import Spot

if TYPE_CHECKING:
    from invert.problem import Prior

    from .progress import SolveBar

MOST_UNEXPLAINED = 0.4  # beyond it, what a generator drew is refused; docs/photos.md has the margin
LARGE = 3 * 2**22  # values of a photo that is restored with as little memory as possible
QUICK_LOOK = 12  # steps; what a search of fewer drew is not refused


@dataclass(frozen=True, kw_only=True)
class RestoreSettings(PriorOptions):
    """What decides a restoration besides the observation; kept in its log.

    method: for the prior. face_method: for the face prior, if there is one.
    """

    method: str
    face_method: str | None = None
    op: str | None = None
    samples: int = 1
    identity: str | None = None  # digests of the embedding and of the reference photo
    where: str = ""  # which part of a photo, see `faces.Where`
    keep_visible: bool | None = None  # None leaves it to the method

    def model(self, operator: degrade.Operator) -> degrade.Operator:
        """What a search assumes of an operator: all that is known, and a model of the rest."""
        return assumed_operator(operator, self.oracle_mask)

    def model_with_filters(self, operator: degrade.Operator, observed: Tensor) -> degrade.Operator:
        """The same for a denoiser, which uses the true filter of a reduction."""
        shape = operator.input_shape(observed.shape)
        return assumed_operator(operator, self.oracle_mask, shape)

    @property
    def search_method(self) -> str:
        """The method that the options for generators belong to."""
        return self.face_method or self.method

    @property
    def is_quick_look(self) -> bool:
        """Whether the search was shortened so much that its result tells nothing of the prior."""
        if self.steps is None:
            return False
        return self.steps < QUICK_LOOK


def methods_of(
    chosen: str | None, prior: Prior, face_prior: Prior | None
) -> tuple[str, str | None]:
    """The methods of the prior and of the face prior; `chosen` is for the one that it needs."""
    main = DEFAULT_METHODS[prior.prior_kind]
    if face_prior is None:
        _check_method(chosen, prior)
        return chosen or main, None
    face = DEFAULT_METHODS[face_prior.prior_kind]
    if chosen is None:
        return main, face
    if method_of(chosen, None).prior_kind == face_prior.prior_kind:
        return main, chosen
    return chosen, face


def _check_method(chosen: str | None, prior: Prior) -> None:
    """Raise ValueError for an unknown method, and for one that needs a prior of another kind."""
    if chosen is None:
        return
    needed = method_of(chosen).prior_kind
    if needed != prior.prior_kind:
        example = {"generator": "avatars-128", "denoiser": "photo"}[needed]
        raise ValueError(
            f"method={chosen!r} needs a {needed}, such as the prior {example}, and the prior given "
            f"is a {prior.prior_kind}; change one of them"
        )


def step_count(method: str, steps: int | None) -> int:
    """How many steps a method makes in all."""
    return sum(stage.steps for stage in method_of(method, steps).stages())


@dataclass(frozen=True)
class RestoreJob:
    """A picture to restore.

    assumed: the operator that is assumed of the whole picture; None if only parts are restored.
    happened: what happened to the picture, from which the operators of its parts follow. seeds: one
    for each sample. class_label: see `Classes.of`, for a conditional generator. force: whether a
    generator's image is used even if it explains too little. guessed: whether `happened` was
    estimated from the file. Such an operator loses pixels at the border where it shifts the blocks
    of an earlier JPEG, but the photo shows them.
    """

    name: str
    observed: Tensor  # [1, C, h, w]
    happened: degrade.Operator
    assumed: degrade.Operator | None
    spots: tuple[Spot, ...]
    seeds: list[int]
    init: Tensor | str | None
    force: bool = False
    guessed: bool = False
    class_label: int | str | None = None

    def with_border(self, image: Tensor) -> Tensor:
        """A restored image with the photo's own pixels where a guessed operator loses them."""
        if not self.guessed or image.shape != self.observed.shape:
            return image
        model = linear_model.linear_model(self.happened, self.observed)
        if model.linear is None:  # it loses nothing
            return image
        shown = model.adjoint(torch.ones_like(self.observed)) > 0
        if shown.all():
            return image
        return torch.where(shown, image, self.observed)


@dataclass(frozen=True)
class Drawn:
    """What a generator drew for a picture or a part of it.

    solved: one for each sample. unexplained: the share of the observation that it leaves
    unexplained; of the best sample. refused: whether that is too much to use it.
    """

    solved: list[Solved]
    unexplained: float
    refused: bool


@dataclass(frozen=True)
class Restored:
    """The result for one picture.

    pictures: the restored pictures, one for each sample; none if what was drawn is refused.
    whole: solves of the whole picture. drawn: what a generator drew, the whole or the parts.
    """

    pictures: list[Tensor]
    whole: list[Solved]
    drawn: list[Drawn]

    @property
    def searches(self) -> list[Solved]:
        """All solves."""
        solves = list(self.whole)
        for drawn in self.drawn:
            if drawn.solved is not self.whole:
                solves += drawn.solved
        return solves


@dataclass(frozen=True)
class Restorer:
    """Restores pictures with one prior, or the whole with one and its parts with another.

    solver: of the main prior. part_solver: of the generator that draws parts of photos; it is the
    same as `solver` where there is no face prior. bar: shows the steps.
    """

    settings: RestoreSettings
    solver: Solver
    part_solver: Solver
    bar: SolveBar | None = None

    def __call__(self, job: RestoreJob) -> Restored:
        if job.observed.numel() > LARGE:
            return_blocks_at_once()
        if self.bar is not None:
            self.bar.start(job.name, self._step_counts(job))
        whole: list[Solved] = []
        drawn: list[Drawn] = []
        pictures: list[Tensor] = []
        if job.assumed is not None:
            whole = self._solve_whole(job, job.assumed)
            pictures = [job.with_border(solution.image) for solution in whole]
            if self.solver.prior.prior_kind == "generator":
                drawn.append(self._judged(whole, job.observed, job.assumed, job))
                if drawn[0].refused:
                    pictures = []
        if job.spots:
            parts, pictures = self._draw_parts(job, pictures)
            drawn += parts
        return Restored(pictures, whole, drawn)

    def _step_counts(self, job: RestoreJob) -> list[int]:
        """The number of steps of each solve, for the progress bar."""
        settings = self.settings
        counts = []
        if job.assumed is not None:
            steps = None if settings.face_method else settings.steps
            counts.append(step_count(settings.method, steps))
        counts += [step_count(settings.search_method, settings.steps)] * len(job.spots)
        return [max(count, 1) for count in counts]

    def _solve_whole(self, job: RestoreJob, operator: degrade.Operator) -> list[Solved]:
        if self.settings.face_method is None:
            return self._search(self.solver, job, job.observed, operator, job.init)
        # a denoiser gives one answer, and all other options are meant for the generator
        whole = self.solver.solve(
            job.observed,
            operator,
            self.settings.method,
            job.seeds[:1],
            consistency=self.settings.keep_visible,
        )
        if self.bar is not None:
            self.bar.next_solve()
        return whole * len(job.seeds)

    def _search(
        self,
        solver: Solver,
        job: RestoreJob,
        observed: Tensor,
        operator: degrade.Operator,
        init: Tensor | str | None,
    ) -> list[Solved]:
        """Solve once for each seed of a job, with all options."""
        settings = self.settings
        seeds = job.seeds
        options: dict[str, Any] = settings.arguments()
        solved = solver.solve(
            observed.expand(len(seeds), -1, -1, -1),
            operator,
            settings.search_method,
            seeds,
            **options,
            class_label=label_of(job.class_label),
            init=init,
            identity=solver.identity,
            consistency=settings.keep_visible,
        )
        if self.bar is not None:
            self.bar.next_solve()
        return solved

    def _draw_parts(
        self, job: RestoreJob, wholes: list[Tensor]
    ) -> tuple[list[Drawn], list[Tensor]]:
        """Draw every part, and paste it into each sample's picture.

        wholes: the restored pictures; parts are pasted into the observation if there are none.
        Each part is drawn with the parts before it in their places.
        """
        samples = len(job.seeds)
        backgrounds: Sequence[Tensor | None] = wholes or [None] * samples
        pictures = wholes
        parts = []
        for number, spot in enumerate(job.spots):
            photos = [Photo(job.observed, job.happened, spot, image) for image in backgrounds]
            part = self._draw_part(job, photos[0], number)
            parts.append(part)
            if part.refused:
                continue
            pictures = []
            for photo, solution in zip(photos, part.solved, strict=True):
                pictures.append(photo.pasted(solution.image, bool(self.settings.keep_visible)))
            backgrounds = pictures
        return parts, pictures

    def _draw_part(self, job: RestoreJob, photo: Photo, number: int) -> Drawn:
        side = self.part_solver.prior.resolution
        assert side is not None  # of a generator
        observed, operator = photo.problem(side)
        assumed = self.settings.model(operator)
        init = job.init
        if isinstance(init, Tensor) and len(job.spots) > 1:
            samples = len(job.seeds)
            init = init[number * samples : (number + 1) * samples]
        solved = self._search(self.part_solver, job, observed, assumed, init)
        return self._judged(solved, observed, assumed, job)

    def _judged(
        self, solved: list[Solved], observed: Tensor, operator: degrade.Operator, job: RestoreJob
    ) -> Drawn:
        """Measure how much of the observation the best sample leaves unexplained."""
        shares = []
        for solution, seed in zip(solved, job.seeds, strict=True):
            shares.append(unexplained(observed, operator, solution.judged, seed))
        share = min(shares)
        too_much = share > MOST_UNEXPLAINED
        refused = too_much and not job.force and not self.settings.is_quick_look
        return Drawn(solved, share, refused)


def refuse_useless_options(
    prior: Prior, face_prior: Prior | None, where: Where, method: str, samples: int
) -> None:
    """Raise ValueError for options that nothing would use, and for priors of the wrong kind."""
    if face_prior is not None:
        _check_face_prior(prior, face_prior, where)
        return
    if prior.prior_kind == "generator":
        return
    if where:
        raise ValueError(
            "--align and --box choose the part of a photo that a generator draws; leave them out, "
            "or name a generator with --prior or --face-prior"
        )
    refuse_samples(method, samples)


def refuse_samples(method: str, samples: int) -> None:
    """Raise ValueError for several samples of a method that draws nothing."""
    if samples > 1 and not method_of(method).draws:
        raise ValueError(
            f"--samples {samples}: method {method} gives one answer; leave it out, or choose a "
            "method that draws, such as daps"
        )


def _check_face_prior(prior: Prior, face_prior: Prior, where: Where) -> None:
    """Raise ValueError unless a denoiser and a generator of as many channels know where to work."""
    if prior.prior_kind != "denoiser" or face_prior.prior_kind != "generator":
        raise ValueError(
            "--face-prior names a generator of faces, and --prior a denoiser for the rest of "
            "the photo, such as photo; with one prior for both, leave --face-prior out"
        )
    if prior.channels != face_prior.channels:
        raise ValueError(
            f"--face-prior draws {face_prior.channels} channels and --prior knows "
            f"{prior.channels}; both must be for grey, or both for colours"
        )
    if not where:
        raise ValueError(
            "--face-prior needs to know where the face is; add --align ffhq, or --box X,Y,W,H"
        )
