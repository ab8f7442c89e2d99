"""How settings differ from those of earlier results, by the names of the options."""

from __future__ import annotations

_AS_OPTION = (  # settings that are called as the options that decide them
    *("batch", "channels", "denoiser", "face_prior", "generator", "init", "keep_visible"),
    *("learning_rate", "method", "op", "oracle_mask", "patch", "perceptual", "prior", "samples"),
    *("seed", "sigma", "start", "steps"),
)
_NAMES = {  # other settings, whose options have another name
    "class_label": "--class",
    "command": "command",
    "degrade": "version of degrade",
    "face_method": "--method",
    "held_out": "the held-out pictures",
    "identity": "--embedding or --person",
    "pictures": "the pictures",
    "spec": "--op",
    "start_digest": "the weights of --start",
    "where": "--align, --landmarks, --face or --box",
}
_WORDS: dict[bool | None, str] = {None: "not given", True: "yes", False: "no"}


def differences(before: dict | None, wanted: dict) -> list[str]:
    """How the settings in a record differ from those wanted, each as "--seed 0 → 1".

    Settings that the record does not hold are left out.
    """
    changes = []
    for name, value in wanted.items():
        if before is not None and name in before and before[name] != value:
            changes.append(change(name, before[name], value))
    return changes


def change(name: str, before: object, after: object) -> str:
    """One setting that differs, with its option and both values."""
    return f"{_option(name)} {_text(before)} → {_text(after)}"


def _option(name: str) -> str:
    """The option of a setting, as a user types it; plain words for a setting without one."""
    words = name.split("_")
    if name in _AS_OPTION:
        return "--" + "-".join(words)
    return _NAMES.get(name, " ".join(words))


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    return repr(value)
