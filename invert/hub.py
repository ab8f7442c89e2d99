"""Priors on huggingface.co: save one with its model card in a folder, and push the folder.

`load_prior("owner/name")` reads it again. huggingface_hub is imported only to push.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

PRIOR_FILE = "prior.safetensors"  # the weights, in the folder that is pushed
CARD_FILE = "README.md"
LICENCE = re.compile(r"[A-Za-z0-9][\w.+-]*")  # one word; more would change the front matter
TAGS = ("degrade", "image-restoration", "inverse-problems")

CARD = """\
---
license: {licence}
library_name: degrade
pipeline_tag: image-to-image
tags:
{tags}
---

# {title}

{about}

```python
import degrade, invert

prior = invert.load_prior("{name}")
f = degrade.parse("downsample:2 >> jpeg:40")     # what happened to the picture
restored = invert.restore(y, f.approx(), prior)  # y: [B, {channels}, H, W] in [0, 1]
```

| fact | value |
|---|---|
{facts}

## Training data

{data}

## Measured

{measured}
"""


@dataclass(frozen=True)
class Card:
    """What a model card says that the weights do not tell.

    data: the pictures of the training, in words, with their source and licence. licence: of the
    weights, as huggingface.co spells it, such as "apache-2.0" or "cc-by-sa-4.0". about: a sentence
    or two for whom the prior is. psnr: what you measured, the standard deviation of the noise (of
    255) → PSNR in dB. on: the pictures on which it was measured.
    """

    data: str
    licence: str
    about: str = ""
    psnr: Mapping[float, float] = field(default_factory=dict)
    on: str = "held-out pictures"

    def __post_init__(self) -> None:
        for name in ("data", "licence"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(
                    f"{name}={value!r} must say something; readers of the card need it"
                )
        if not LICENCE.fullmatch(self.licence):
            raise ValueError(
                f"licence={self.licence!r} must be one word, such as 'mit' or 'cc-by-4.0'; "
                "say more in `about`"
            )
        for sigma, decibels in self.psnr.items():
            if not (math.isfinite(sigma) and math.isfinite(decibels)):
                raise ValueError(f"psnr={{{sigma}: {decibels}}} must be finite numbers")

    def text(self, name: str, prior: HubPrior) -> str:
        """The card as Markdown with huggingface.co's front matter. name: "owner/name"."""
        facts = prior.facts()
        about = self.about or f"A {prior.prior_kind} that restores pictures with `degrade`."
        return CARD.format(
            licence=self.licence,
            tags="\n".join(f"- {tag}" for tag in (*TAGS, prior.prior_kind)),
            title=name.rpartition("/")[2],
            about=about,
            name=name,
            channels=prior.channels,
            facts="\n".join(f"| {fact} | {value} |" for fact, value in facts.items()),
            data=self.data,
            measured=self._measured(),
        )

    def _measured(self) -> str:
        if not self.psnr:
            return "Nothing was measured."
        rows = [f"Gaussian noise on {self.on}:", "", "| σ of 255 | PSNR |", "|---|---|"]
        for sigma, decibels in self.psnr.items():
            rows.append(f"| {sigma:g} | {decibels:.2f} dB |")
        return "\n".join(rows)


class HubPrior(nn.Module):
    """A prior that can be saved in a folder of huggingface.co and pushed there."""

    prior_kind: str
    channels: int
    resolution: int | None

    def facts(self) -> dict[str, str]:
        """What the prior declares of itself, by name, as text."""
        side = self.resolution
        size = "any size" if side is None else f"{side}×{side}"
        count = sum(tensor.numel() for tensor in self.parameters())
        return {
            "kind": self.prior_kind,
            "images": f"{size}, {self.channels} channels",
            "parameters": f"{count:,}",
        }

    def save(self, path: str | Path) -> None:
        """Write the weights as .safetensors, for `load_prior`.

        Raises ValueError for a prior with a network that is not one of this package.
        """
        raise ValueError(f"a {type(self).__name__} cannot be saved; save its own module")

    def save_pretrained(self, folder: str | Path, card: Card, name: str | None = None) -> Path:
        """Save the weights and a model card in a folder, and return the folder.

        The folder holds prior.safetensors and README.md, and `load_prior` reads it. name: the
        "owner/name" that the card shows; by default the name of the folder. Raises ValueError for
        a prior that cannot be saved.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / PRIOR_FILE)
        text = card.text(name or folder.resolve().name, self)
        (folder / CARD_FILE).write_text(text, encoding="utf-8")
        return folder

    def push_to_hub(self, name: str, card: Card, private: bool = False) -> str:
        """Push the weights and a model card to huggingface.co, and return the name.

        name: "owner/name"; the repository is made if there is none. private: whether a new one is
        private. `invert.load_prior(name)` reads it again. It needs the extra `degrade[hub]`, and a
        login as huggingface_hub expects it (`hf auth login`). Raises ValueError, in one line, if
        the push fails.
        """
        try:
            import huggingface_hub
        except ImportError as error:
            raise ValueError("pushing needs huggingface_hub; pip install 'degrade[hub]'") from error
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(temporary, card, name)
            try:
                huggingface_hub.create_repo(name, private=private, exist_ok=True)
                message = f"Push a {self.prior_kind} of degrade"
                huggingface_hub.upload_folder(
                    repo_id=name, folder_path=folder, commit_message=message
                )
            except Exception as error:  # the library raises errors of several HTTP clients
                reason = " ".join(str(error).split())[:300]
                raise ValueError(f"{name} cannot be pushed to huggingface.co: {reason}") from error
        return name
