import json
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import JPEG, Mask, OneOf, from_json, parse, to_json
from degrade.operator import compose
from degrade.registry import REGISTRY

from .conftest import cases
from .properties.examples import chains


@given(chains)
def test_json_round_trip(stages):
    f = compose(stages)
    assert from_json(json.loads(json.dumps(to_json(f)))) == f


def test_json_record_is_plain():
    f = parse(
        "downsample:2 >> jpeg:5..30,subsampling=4:4:4 >> gaussian:0.1|0.2"
        " >> maybe:0.5(strokes:3,seed=7)"
    )
    assert to_json(f) == {
        "version": 1,
        "stages": [
            {"name": "downsample", "factor": 2},
            {"name": "jpeg", "quality": {"range": [5, 30]}, "subsampling": "4:4:4"},
            {"name": "gaussian", "sigma": [0.1, 0.2]},
            {
                "name": "maybe",
                "prob": 0.5,
                "operators": [[{"name": "strokes", "count": 3, "seed": 7}]],
            },
        ],
    }


def test_json_stores_tensors_by_reference(tmp_path):
    m = torch.rand(2, 1, 4, 5)
    f = JPEG(50) >> Mask(m) >> OneOf(Mask(1 - m), JPEG(12))
    record = to_json(f, tmp_path)
    g = from_json(json.loads(json.dumps(record)), tmp_path)
    assert g == f and torch.equal(g[1].visible((2, 3, 4, 5)), m)
    assert len(list(tmp_path.iterdir())) == 2 and str(tmp_path) not in json.dumps(record)


def test_json_records_share_a_folder(tmp_path):
    masks = [Mask(torch.full((1, 1, 2, 2), v)) for v in (0.0, 0.5, 0.5)]
    records = [to_json(f, tmp_path) for f in masks]
    assert [from_json(r, tmp_path) for r in records] == masks and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="give a folder"):
        to_json(JPEG(50) >> OneOf(masks[0], JPEG(12)))


@pytest.mark.parametrize(
    "record, words",
    [
        ([], "no operator"),
        ({"stages": []}, "version=None"),
        ({"version": 2, "stages": [{"name": "clamp"}]}, "version=2"),
        ({"version": True, "stages": [{"name": "clamp"}]}, "version=True"),
        ({"version": 1, "stages": "clamp"}, "no operator"),
        ({"version": 1, "stages": []}, "at least one stage"),
        ({"version": 1, "stages": ["clamp"]}, "object with a 'name'"),
        ({"version": 1, "stages": [{"name": "os.system"}]}, "unknown operator 'os.system'"),
        ({"version": 1, "stages": [{"name": "clamp", "x": 1}]}, "no parameter 'x'"),
        ({"version": 1, "stages": [{"name": "jpeg"}]}, "jpeg"),
        ({"version": 1, "stages": [{"name": "gaussian", "sigma": float("nan")}]}, "sigma=nan"),
        ({"version": 1, "stages": [{"name": "gaussian", "sigma": {"evil": 1}}]}, "range"),
        ({"version": 1, "stages": [{"name": "gaussian", "sigma": {"range": [0, "a"]}}]}, "sigma"),
        ({"version": 1, "stages": [{"name": "gaussian", "sigma": None}]}, "sigma=None"),
        ({"version": 1, "stages": [{"name": "downsample", "factor": 10**30}]}, "factor"),
        ({"version": 1, "stages": [{"name": "mask", "mask": "../../etc/passwd"}]}, "outside"),
        ({"version": 1, "stages": [{"name": "mask", "mask": "/etc/passwd"}]}, "outside"),
        (
            {"version": 1, "stages": [{"name": "clamp", "operators": [[{"name": "clamp"}]]}]},
            "does not belong",
        ),
        ({"version": 1, "stages": [{"name": "oneof", "operators": 3}]}, "does not belong"),
    ],
)
def test_json_refuses_hostile_records(tmp_path, record, words):
    with pytest.raises(ValueError, match=words):
        from_json(record, tmp_path)


def test_json_depth_is_bounded():
    record = [{"name": "clamp"}]
    for _ in range(40):
        record = [{"name": "oneof", "operators": [record]}]
    with pytest.raises(ValueError, match="too deep"):
        from_json({"version": 1, "stages": record})


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
)
names = st.sampled_from([*REGISTRY])
keys = st.sampled_from(
    ["operators", *{field.name for cls in REGISTRY.values() for field in fields(cls)}]
)
stage_like = st.builds(
    lambda name, rest: {"name": name, **rest}, names, st.dictionaries(keys, json_values, max_size=3)
)


@cases(150)
@given(st.lists(stage_like | json_values, max_size=3))
def test_json_accepts_or_refuses_any_record(stages):
    try:
        f = from_json({"version": 1, "stages": stages})
    except ValueError:
        return
    assert from_json(to_json(f)) == f
