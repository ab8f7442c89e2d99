"""Settings that differ are named as the options that a user types."""

import re
from dataclasses import fields

import pytest

from pipelines.bench_job import BenchSettings
from pipelines.changes import differences
from pipelines.job import RestoreSettings

from .shell import run


@pytest.mark.parametrize(
    ("command", "settings"), [("restore", RestoreSettings), ("bench", BenchSettings)]
)
def test_every_setting_is_named_by_an_option_of_its_command(command, settings):
    help_page = run(command, "--help").output
    for setting in fields(settings):
        (told,) = differences({setting.name: "a"}, {setting.name: "b"})
        options = re.findall("--[a-z-]+", told)
        assert options, told
        assert any(option in help_page for option in options), told


def test_values_are_named_as_a_user_thinks_of_them():
    before = {"keep_visible": None, "oracle_mask": False, "seed": 3, "spec": "jpeg:5", "steps": 2}
    after = {"keep_visible": True, "oracle_mask": True, "seed": 4, "spec": "clamp", "steps": 2}
    assert differences(before, after) == [
        "--keep-visible not given → yes",
        "--oracle-mask no → yes",
        "--seed 3 → 4",
        "--op 'jpeg:5' → 'clamp'",
    ]


def test_a_setting_that_an_older_record_lacks_is_no_difference():
    assert differences({"seed": 3}, {"seed": 3, "samples": 2}) == []
    assert differences(None, {"seed": 3}) == []
