"""The page of each operator, made from its declaration: parameters, pictures, gradient, tests.

`mkdocs build` makes the pages, by docs/hooks.py. `python docs/explore.py` writes the table and the
pictures of docs/operators.md.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote

import torch
from PIL import Image

import degrade
from degrade.params import Parameter, described
from degrade.registry import REGISTRY
from degrade.rng import child_seed
from pipelines.atomic import write
from pipelines.files import encode, read_image, to_pil, viewable
from pipelines.operators import linear
from pipelines.sheet import sheet
from pipelines.studio.cards import cards_of

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CLEAN = ROOT / "examples" / "avatars" / "000.png"
TILE = 96  # side of a picture on the overview, in pixels
ACROSS = 9  # pictures in a row of the overview
MOST_TESTS = 8  # tests that a page names

# A text with a place for each of five strengths, or five texts
STRENGTHS: dict[str, tuple[str, ...]] = {
    "aberration": ("aberration:{}", "1.01,0.99", "0.98,1", "1.03,0.97", "1.06,1.03", "0.9,1.1"),
    "affine": ("affine:{}", "5", "-20", "45,edge=nearest", "0,scale=0.6", "10,shear=20"),
    "blur": (
        "blur:gaussian,2",
        "blur:gaussian,4,across=0.5,angle=45,side=21",
        "blur:motion,15,angle=30",
        "blur:defocus,5",
        "blur:plateau,3,side=21",
    ),
    "box": ("box:{0},{0}", "0.1", "0.3", "0.5", "0.7", "0.9"),
    "brightness": ("brightness:{}", "0.25", "0.5", "0.75", "1.5", "2.5"),
    "camera": ("camera(shotread:{})", "0.0001", "0.001", "0.004", "0.012", "0.05"),
    "clamp": ("gaussian:{} >> clamp", "0.05", "0.1", "0.2", "0.4", "0.8"),
    "codec": ("codec:webp,{}", "90", "50", "20", "10", "1"),
    "compressedsensing": ("compressedsensing:{}", "0.8", "0.5", "0.2", "0.1", "0.05"),
    "contrast": ("contrast:{} >> clamp", "0.2", "0.5", "0.8", "1.5", "3"),
    "correlated": ("correlated:{}", "0.05", "0.1", "0.2", "0.4", "0.8"),
    "crop": ("crop:{0},{0},height=48,width=48", "0", "20", "40", "60", "80"),
    "deadpixels": ("deadpixels:{}", "0.02", "0.08", "0.16", "0.32", "0.64"),
    "diffjpeg": ("diffjpeg:{}", "80", "50.5", "30", "15", "5"),
    "downsample": ("downsample:{}", "2", "3", "4", "8", "16"),
    "elastic": ("elastic:{},4", "10", "20", "40", "80", "160"),
    "fog": ("fog:{}", "0.2", "0.5", "1", "2", "3"),
    "fouriermagnitude": ("fouriermagnitude:{}", "0", "1", "2", "4", "8"),
    "frame": (
        "frame(resize:scale={} >> resize:scale=1,of=frame)",
        "0.6",
        "0.4",
        "0.3",
        "0.2",
        "0.1",
    ),
    "gamma": ("gamma:{}", "0.3", "0.6", "1.5", "2.2", "4"),
    "gaussian": ("gaussian:{}", "0.02", "0.05", "0.1", "0.2", "0.4"),
    "glass": ("glass:{}", "1", "2", "4", "6", "10"),
    "gray": ("gray >> quantize:{}", "256", "16", "8", "4", "2"),
    "haze": ("haze:{}", "0.02", "0.05", "0.08", "0.14", "0.3,airlight=1"),
    "hotpixels": ("hotpixels:{}", "0.02", "0.08", "0.16", "0.32", "0.64"),
    "hsv": ("hsv:{}", "0.3", "2", "5", "1,value=0.2", "1,value=-0.3"),
    "hue": ("hue:{}", "-0.3", "-0.1", "0.1", "0.3", "0.5"),
    "identity": ("identity", "identity", "identity", "identity", "identity"),
    "jpeg": ("jpeg:{}", "75", "40", "18", "9", "3"),
    "maybe": ("maybe:{}(jpeg:6)", "0", "0.25", "0.5", "0.75", "1"),
    "oneof": (
        "oneof:weights={}(jpeg:6 ; blur:gaussian,3)",
        "1|0",
        "0.8|0.2",
        "0.5|0.5",
        "0.2|0.8",
        "0|1",
    ),
    "motionpath": ("motionpath:{}", "55,0", "61,0", "61,0.5", "61,1", "101,0.5"),
    "offset": ("offset:{}", "0.2", "-0.2", "0,0.2", "0,0,0.3", "-0.3,-0.3,-0.3"),
    "perimage": ("perimage(jpeg:{})", "75", "40", "18", "9", "3"),
    "perspective": ("perspective:jitter={}", "0.03", "0.06", "0.1", "0.15", "0.24"),
    "pixels": ("pixels:{}", "0.1", "0.3", "0.5", "0.7", "0.9"),
    "place": (
        "place:100|0|14|0|100|14,128x128",
        "place:80|-20|34|20|80|14,128x128",
        "place:60|20|24|-20|60|44,128x128",
        "place:30|0|90|0|30|90,128x128",
        "place:90|40|0|0|60|34,128x128",
    ),
    "poisson": ("poisson:{}", "384", "96", "24", "6", "2"),
    "poissongaussian": ("poissongaussian:{}", "384,0.02", "96,0.05", "48,0.1", "24,0.2", "6,0.4"),
    "pool": ("pool:{}", "2", "3", "4", "8", "16"),
    "quantize": ("quantize:{}", "32", "16", "8", "4", "2"),
    "resize": ("resize:{}", "96", "64", "32", "24,filter=box", "96x48"),
    "saltpepper": ("saltpepper:{}", "0.02", "0.05", "0.1", "0.3", "0.3,each=channel"),
    "saturation": ("saturation:{}", "0", "0.5", "1.5", "2", "4"),
    "scaledpoisson": ("scaledpoisson:{}", "0.5", "1", "2", "3", "3,gray=1"),
    "shake": ("shake:{}", "10", "20", "40", "60,anxiety=0.001", "60,anxiety=0.05"),
    "shotread": ("shotread:{}", "0.0005", "0.002", "0.005", "0.012", "0.05"),
    "shift": ("shift:{}", "4,4", "10,-10", "-20,20", "30,0", "-40,-40"),
    "shuffle": ("shuffle(jpeg:{} ; gaussian:0.1 ; blur:gaussian,1)", "75", "40", "18", "9", "3"),
    "sinc": ("sinc:{}", "2", "1.5", "1", "0.7", "0.4"),
    "snow": ("snow:{}", "0.1", "0.3", "0.45", "0.55", "0.6"),
    "spatter": (
        "spatter:water,threshold=0.7",
        "spatter:water",
        "spatter:water,threshold=0.65,amount=1",
        "spatter:mud,size=1,threshold=0.75,amount=1",
        "spatter:mud,size=1,threshold=0.65,amount=1.5",
    ),
    "speckle": ("speckle:{}", "0.05", "0.1", "0.2", "0.5", "1"),
    "strokes": ("strokes:{}", "1", "3", "5", "9", "17"),
    "subsample": ("subsample:{}", "2,0.5", "2,1", "4,1", "4,2", "8,3"),
    "turn": ("turn:{}", "1,0", "2,0", "3,0", "0,1", "1,1"),
    "uncrop": ("uncrop:{}", "0.8", "0.6", "0.4", "0.25", "0.25,where=center"),
    "uniform": ("uniform:{}", "0.05", "0.1", "0.3", "0.6", "1"),
    "usm": ("usm:{}", "0.5", "1", "2", "4", "8"),
    "vignette": ("vignette:{}", "0.2", "0.4", "0.6", "1", "2"),
    "zoomblur": ("zoomblur:{}", "1.05", "1.1", "1.2", "1.4", "1.8"),
}


def names() -> list[str]:
    """The operators of the package, without those that a user registered."""
    return sorted(n for n, cls in REGISTRY.items() if cls.__module__.startswith("degrade."))


def strengths(name: str) -> list[degrade.Operator]:
    """An operator at five strengths. A mask and a photograph are made here."""
    ramp = torch.linspace(0, 1, 128).expand(1, 1, 128, 128)
    if name == "mask":
        return [degrade.Mask(ramp**power) for power in (0.25, 0.5, 1, 2, 4)]
    if name == "frost":
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(1, 3, 160, 160, generator=generator)
        photograph = degrade.Blur("gaussian", 2)(noise)
        pairs = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
        return [degrade.Frost(photograph, keep, weight) for keep, weight in pairs]
    texts = STRENGTHS[name]
    if len(texts) == 6:
        template, *values = texts
        texts = tuple(template.format(value) for value in values)
    return [degrade.parse(text) for text in texts]


def text_of(f: degrade.Operator) -> str:
    """The text of an operator; of one with a tensor, with FILE in its place."""
    return re.sub(r"\d+x\d+x\d+x\d+-[0-9a-f]{16}", "FILE", str(f))


def degraded(f: degrade.Operator) -> Image.Image:
    """The picture that an operator makes of the clean one."""
    seed = child_seed(0, text_of(f))
    y = f(read_image(CLEAN), torch.Generator().manual_seed(seed))
    return to_pil(viewable(y))


def picture(name: str) -> bytes:
    """The clean picture and the five strengths in a row, as a PNG file."""
    tiles = {"clean": to_pil(read_image(CLEAN))}
    for number, f in enumerate(strengths(name), 1):
        tiles[f"{number}. {text_of(f)[:28]}"] = degraded(f)
    return encode(sheet(tiles))


# What the declaration and the docstring say -------------------------------------------------------


def docstring(name: str) -> tuple[list[str], dict[str, str]]:
    """The paragraphs of the docstring, and what it says of each parameter."""
    paragraphs = []
    meanings: dict[str, str] = {}
    for block in (inspect.getdoc(REGISTRY[name]) or "").split("\n\n"):
        entries = _entries(name, block)
        if entries:
            meanings.update(entries)
        else:
            paragraphs.append(block)
    for parameter, kind in REGISTRY[name].kinds.items():
        if kind.nested:
            meanings.setdefault(parameter, "what stands in the parentheses")
        elif parameter not in meanings:
            meanings[parameter] = _sentence_about(parameter, paragraphs)
    return paragraphs, meanings


def _entries(name: str, block: str) -> dict[str, str]:
    """The parameters that a block of a docstring is about, with their meaning; {} if it is prose.

    A block of entries begins with one. Each begins a line or a sentence: `name, name of …: text`.
    """
    known = "|".join(REGISTRY[name].kinds)
    if not known:
        return {}
    start = rf"(?:{known})(?:, (?:{known}))*(?: of [^:.]*)?: "
    if not re.match(start, block):
        return {}
    entries = {}
    for entry in re.split(rf"(?:\n|(?<=\.) )(?={start})", block):
        names, _, meaning = entry.partition(": ")
        names, _, whose = names.partition(" of ")
        text = re.sub(r"\s+", " ", meaning)
        for parameter in names.split(", "):
            entries[parameter] = f"of {whose}: {text}" if whose else text
    return entries


def _sentence_about(parameter: str, paragraphs: list[str]) -> str:
    """The first sentence that names a parameter in backticks."""
    for paragraph in paragraphs:
        text = re.sub(r"\s+", " ", paragraph)
        for sentence in re.split(r"(?<=\.) (?=[A-Z])", text):
            if f"`{parameter}`" in sentence:
                return sentence
    return ""


def parameter_table(name: str) -> str:
    parameters = described(REGISTRY[name])
    if not parameters:
        return "None.\n"
    _, meanings = docstring(name)
    rows = ["| parameter | meaning | allowed | default | also |", "|---|---|---|---|---|"]
    for parameter in parameters:
        meaning = meanings[parameter.name]
        default = "required" if parameter.required else parameter.default_text or "None"
        cells = [f"`{parameter.name}`", meaning, parameter.description, default, traits(parameter)]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def traits(parameter: Parameter) -> str:
    """What else a parameter allows: a range, a gradient."""
    words = []
    if parameter.kind.drawn:
        words.append("may be a range, `low..high`")
    if parameter.kind.learnable:
        words.append("has a gradient")
    return "; ".join(words)


def properties(name: str) -> list[str]:
    """Sentences on what a solver can ask of an operator."""
    cls = REGISTRY[name]
    sentences = {
        "yes": "Linear: it has an exact `adjoint`.",
        "depends": "Linear, with an exact `adjoint`, depending on a parameter or on what is drawn.",
        "": "Not linear.",
    }
    lines = [sentences[linear(cls)]]
    if cls.noisy is True:
        lines.append("It draws anew at every call, also after `sample`.")
    if hasattr(cls, "agree"):
        lines.append("`project` (data consistency) holds an image to an observation.")
    return lines


# Where it is tested and used ----------------------------------------------------------------------


@cache
def sources_of_tests() -> list[tuple[str, str, str]]:
    """The file, the name and the source of each test."""
    tests = []
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                first = min([node.lineno, *(line.lineno for line in node.decorator_list)])
                source = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
                tests.append((f"tests/{path.name}", node.name, source))
    return tests


def tests_of(name: str) -> list[str]:
    """Tests of an operator: first those whose names say that its values equal something."""
    class_name = REGISTRY[name].__name__
    mentions = re.compile(rf"\b{class_name}\b|[\"']{name}[:\"' (]|>> {name}\b")
    equal_by_name = []
    equal = []
    by_name = []
    for file, test, source in sources_of_tests():
        text = f"`{file}::{test}`"
        is_of_equality = re.search("equal|exact", test)
        is_named = f"_{name}_" in test
        if is_of_equality and is_named:
            equal_by_name.append(text)
        elif is_of_equality and mentions.search(source):
            equal.append(text)
        elif is_named:
            by_name.append(text)
    return (equal_by_name + equal + by_name)[:MOST_TESTS]


def where_tested(name: str) -> str:
    """Where an operator is tested, in words."""
    places = tests_of(name)
    users_of_it = " ".join(users().get(name, []))
    if "imagenet-c/" in users_of_it:
        places.append("`tests/test_imagenet_c.py`, as a part of the corruptions below")
    if re.search(r'pipelines\["(?!imagenet)', users_of_it):
        places.append("`tests/test_published.py`, as a part of the pipelines below")
    places.append("`tests/properties`, as every operator")
    return "".join(f"\n* {place}" for place in places)


def all_stages(f: degrade.Operator) -> Iterator[degrade.Operator]:
    """The stages of an operator and of all operators within it."""
    for stage in f.stages:
        yield stage
        for inner in stage.nested:
            yield from all_stages(inner)


@cache
def users() -> dict[str, list[str]]:
    """For each operator the named pipelines and tasks that use it."""
    used: dict[str, list[str]] = {}
    for kind, mapping in (("pipelines", degrade.pipelines), ("tasks", degrade.tasks)):
        for key, f in mapping.items():
            label = re.sub(r"^(imagenet-c/\w+)/\d$", r"\1/1 … 5", key)
            text = f'`degrade.{kind}["{label}"]`'
            for stage_name in {stage.name for stage in all_stages(f)}:
                entries = used.setdefault(stage_name, [])
                if text not in entries:
                    entries.append(text)
    return used


def in_studio(f: degrade.Operator) -> list[str]:
    """A paragraph that leads to the cards of the studio; none if it refuses the operator."""
    text = text_of(f)
    try:
        cards_of(text)
    except ValueError:
        return []
    address = f"http://127.0.0.1:7860/?op={quote(text)}"
    return [
        f'Move its sliders in the [studio](../studio.md): `degrade studio --op "{text}"`, or, '
        f"while one runs on your machine, [open it there]({address})."
    ]


def page(name: str) -> str:
    """The page of an operator in Markdown."""
    cls = REGISTRY[name]
    paragraphs, _ = docstring(name)
    examples = strengths(name)
    listed = "\n".join(f"{i}. `{text_of(f)}`" for i, f in enumerate(examples, 1))
    concrete = text_of(examples[-1].sample((1, 3, 128, 128), 0))
    using = users().get(name, [])
    used_by = "\n".join(f"* {user}" for user in using) if using else "None."
    parts = [
        f"# {name}",
        *paragraphs,
        f"## At five strengths\n\n![{name} at five strengths]({name}.png)\n\n{listed}",
        *in_studio(examples[-1]),
        f"## Parameters\n\n{parameter_table(name)}",
        "## Values and gradient",
        f"Values equal: {cls.exact}. Gradient: {cls.gradient}. " + " ".join(properties(name)),
        f"It is tested in\n{where_tested(name)}",
        f"## As text\n\n`sample` makes of the last example: `{concrete}`",
        f"In Python, the class is `degrade.{cls.__name__}`.",
        f"## Published pipelines and tasks that use it\n\n{used_by}",
    ]
    return "\n\n".join(parts) + "\n"


# The overview -------------------------------------------------------------------------------------


def row(name: str) -> str:
    cls = REGISTRY[name]
    first, *_ = docstring(name)[0][0].replace("\n", " ").split(". ")
    summary = first.rstrip(".").replace("|", "\\|")
    return f"| `{name}` | {summary} | {cls.exact} | {cls.gradient} | {linear(cls)} |"


def table() -> str:
    """The table of docs/operators.md."""
    head = "| operator | what it does | values equal | gradient | linear |\n|---|---|---|---|---|\n"
    return head + "\n".join(map(row, names())) + "\n"


def with_links(text: str) -> str:
    """The table with links to the pages, which only the site has."""
    return re.sub(r"^\| `(\w+)` \|", r"| [`\1`](operators/\1.md) |", text, flags=re.M)


def overview() -> Image.Image:
    """A picture of each operator, in the order of the table."""
    tiles = [degraded(strengths(name)[3]) for name in names()]
    rows = -(-len(tiles) // ACROSS)
    canvas = Image.new("RGB", (ACROSS * TILE, rows * TILE), "white")
    for i, tile in enumerate(tiles):
        tile.thumbnail((TILE, TILE))
        canvas.paste(tile, (i % ACROSS * TILE, i // ACROSS * TILE))
    return canvas


def main() -> None:
    path = DOCS / "operators.md"
    before, _, _ = path.read_text(encoding="utf-8").partition("| operator |")
    write(path, (before + table()).encode())
    overview().save(DOCS / "operators.jpg", quality=85)


if __name__ == "__main__":
    main()
