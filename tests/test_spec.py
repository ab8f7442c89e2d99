import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import degrade
from degrade import JPEG, Downsample, Gaussian, Mask, Poisson, SpecError, Strokes, parse
from degrade.registry import REGISTRY

from .conftest import cases, rng


def test_parse_and_str_of_the_basic_example():
    text = "downsample:8 >> poisson:24 >> deadpixels:0.16 >> jpeg:12 >> strokes:9"
    f = parse(text)
    assert f == Downsample(8) >> Poisson(24) >> degrade.DeadPixels(0.16) >> JPEG(12) >> Strokes(9)
    assert str(f) == text


def test_parse_keywords_and_values_per_image():
    assert parse("jpeg:quality=12,subsampling=4:2:0") == JPEG(12)
    assert parse("jpeg:12,subsampling=4:4:4") == JPEG(12, subsampling="4:4:4")
    assert parse("gaussian:0.1|0.2") == Gaussian((0.1, 0.2))
    assert parse(" strokes : 3 , width = 0.1 ".replace(" :", ":")) == Strokes(3, width=0.1)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "missing"),
        ("  ", "missing"),
        ("jpeg:12 >>", "missing"),
        (">> jpeg:12", "missing"),
        ("poisson:", "value is missing"),
        ("poisson", "peak"),
        ("jpg:12", "did you mean jpeg"),
        ("downsampel:2", "downsample"),
        ("jpeg:0", "quality=0"),
        ("jpeg:101", "quality=101"),
        ("jpeg:12,nosuch=1", "no parameter 'nosuch'"),
        ("gaussian:nan", "sigma=nan"),
        ("gaussian:-1", "sigma=-1"),
        ("gaussian:abc", "sigma='abc'"),
        ("poisson:0", "peak=0"),
        ("deadpixels:1.5", "prob=1.5"),
        ("downsample:0", "factor=0"),
        ("downsample:2.5", "factor=2.5"),
        ("downsample:2,filter=sharp", "filter='sharp'"),
        ("strokes:99999999999", "count=99999999999"),
        ("clamp:1", "takes no parameters"),
        ("gaussian:0.1,sigma=0.2", "twice"),
        ("strokes:count=3,0.1", "name it too"),
        ("jpeg:30..5", "quality=30..5 is empty"),
        ("jpeg:0..5", "quality=0..5"),
        ("oneof", "operator is missing"),
        ("oneof()", "operator is missing"),
        ("oneof(jpeg:12", "not closed"),
        ("jpeg:12)", "without an opening"),
        ("jpeg(clamp)", "parentheses"),
        ("jpeg(30)", "write jpeg:30"),
        ("clamp >> jpeg( quality=30 )", "write jpeg:quality=30"),
        ("clamp()", "write clamp"),
        ("oneof(clamp) clamp", "after its parentheses"),
        ("oneof(clamp ; )", "operator is missing"),
        ("maybe(clamp)", "prob is missing"),
        ("blur:plateau", "size is missing, as in blur:plateau,2"),
        ("maybe:0.5(clamp ; clamp)", "too many"),
        ("maybe:2(clamp)", "prob=2"),
        ("oneof(" * 30 + "clamp" + ")" * 30, "within each other"),
    ],
)
def test_parse_names_the_mistake(text, words):
    with pytest.raises(SpecError) as error:
        parse(text)
    assert words in str(error.value)
    assert isinstance(error.value, ValueError)


def test_parse_and_str_of_choices_and_ranges():
    text = "maybe:0.5(blurred) >> oneof(jpeg:5..30 ; poisson:6..96 >> jpeg:50) >> clamp".replace(
        "blurred", "gaussian:0.1"
    )
    f = parse(text)
    assert str(f) == text and len(f) == 3
    assert f[1] == degrade.OneOf(
        JPEG(degrade.Range(5, 30)), Poisson(degrade.Range(6, 96)) >> JPEG(50)
    )


def test_parse_marks_the_position_of_the_mistake():
    with pytest.raises(SpecError) as error:
        parse("downsample:2 >> jpg:12")
    assert "downsample:2 >> ⟨here⟩jpg:12" in str(error.value)
    with pytest.raises(SpecError, match="did you mean jpeg"):
        parse("JPEG:12")
    assert error.value.position == len("downsample:2 >> ")


@pytest.mark.parametrize("text", ["{}", "jpeg:{}", "jpeg:{}=3", "jpeg:{0},{0}", "maybe:0.5({})"])
def test_errors_quote_only_a_part_of_a_long_text(text):
    with pytest.raises(SpecError) as error:
        parse(text.format("x" * 100_000))
    assert len(str(error.value)) < 400


numbers = (
    st.integers(-3, 40)
    | st.floats(0, 1)
    | st.sampled_from([10**9, 10**30, float("nan"), "1e999", "١", "-0"])
)
words = st.sampled_from(
    [*REGISTRY, "any", "box", "4:2:0", "gaussian", "motion", "webp", "seed", "sigma", "a/b"]
)
signs = st.sampled_from([*":,;()=|%", "..", ">>", " >> ", "%2", "%3A", "(clamp)", " ", "\n", "\0"])
pieces = st.one_of(words, signs, numbers.map(str), st.text(max_size=3))
stages = st.builds(
    "{}:{}".format,
    st.sampled_from([*REGISTRY]),
    st.lists(numbers, max_size=4).map(lambda values: ",".join(map(str, values))),
)


@cases(150)
@given(
    st.text(max_size=60)
    | st.lists(pieces, max_size=9).map("".join)
    | st.lists(stages, max_size=3).map(" >> ".join)
)
def test_parse_accepts_or_refuses_any_text(text):
    try:
        f = parse(text)
    except SpecError as error:
        assert (
            0 <= error.position <= len(text)
            and "⟨here⟩" in str(error)
            and str(error).count("\n") <= text.count("\n")
        )
        return
    assert parse(str(f)) == f
    try:
        y = f(torch.rand(1, 3, 5, 6, generator=rng()), rng())
    except ValueError:
        return
    assert y.shape == f.output_shape((1, 3, 5, 6))


@example("１２")
@example("²")
@example("1..2")
@example("nan")
@example("not utf-8 \udcff")
@given(st.text(min_size=1, max_size=30).filter(lambda s: "\0" not in s))
def test_text_keeps_any_file_name(name):
    assert parse(str(Mask(name))) == Mask(name)


def test_parse_refuses_files_outside_the_folder(tmp_path):
    assert parse("mask:m.png", folder=tmp_path) == Mask(tmp_path.resolve() / "m.png")
    for outside in ("../m.png", "/etc/m.png"):
        with pytest.raises(ValueError, match="outside"):
            parse(f"mask:{outside}", folder=tmp_path)


def test_parse_knows_registered_operators_of_users():
    from degrade.registry import REGISTRY

    try:

        @degrade.register("fade")
        class Fade(degrade.Operator):
            amount: degrade.params.Numbers = degrade.params.number(default=0.5)

            def forward(self, x, rng):
                return x * self.amount

        f = parse("fade:amount=0.25 >> clamp")
        assert f == Fade(0.25) >> degrade.Clamp()
        assert str(Fade(0.25)) == "fade:amount=0.25" and str(Fade()) == "fade"
        for taken in ("jpeg", "fade"):  # the second by a class that happens to be called the same
            with pytest.raises(ValueError, match="taken"):
                degrade.register(taken)(type("JPEG", (degrade.Operator,), {}))
        for name in ("a b", "", "1", "a:b", "größe"):
            with pytest.raises(ValueError, match="could not be parsed"):
                degrade.register(name)(type("Odd", (degrade.Operator,), {}))
    finally:
        REGISTRY.pop("fade", None)


def test_constructor_rejects_unknown_keywords():
    with pytest.raises(TypeError):
        Gaussian(0.1, nosuch=1)
