"""Training pairs have the same bits for every number of workers."""

import numpy
import pytest
import torch
from torch.utils.data import DataLoader

import degrade

from .conftest import rng

CHAIN = "maybe:0.5(blur:gaussian,0.5..2) >> gaussian:0.01..0.1 >> jpeg:30..95"


@pytest.fixture
def pairs():
    images = torch.randint(256, (6, 3, 16, 16), generator=rng(), dtype=torch.uint8)
    return degrade.Pairs(list(images), CHAIN, seed=3)


def test_tests_compute_with_one_thread():
    """Else workers that are forked here would wait for the threads of their parent forever."""
    assert torch.get_num_threads() == 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
def test_pairs_are_equal_with_and_without_workers(pairs):
    alone = list(DataLoader(pairs, batch_size=2))
    loader = DataLoader(
        pairs, batch_size=3, num_workers=4, persistent_workers=True, multiprocessing_context="fork"
    )
    for expected, found in zip(zip(*alone, strict=True), zip(*loader, strict=True), strict=True):
        assert torch.equal(torch.cat(expected), torch.cat(found))
    pairs.set_epoch(1)  # the workers live on
    second = torch.cat([degraded for degraded, _ in loader])
    assert torch.equal(second, torch.stack([degraded for degraded, _ in pairs]))
    assert not torch.equal(second, torch.cat([degraded for degraded, _ in alone]))


def test_pairs_do_not_depend_on_order_or_global_generator(pairs):
    expected = pairs[4][0]
    torch.manual_seed(1)
    assert torch.equal(pairs[4][0], expected)
    same_clean = degrade.Pairs([pairs.clean[4]] * 5, CHAIN, seed=3)
    assert torch.equal(same_clean[4][0], expected)
    assert not torch.equal(same_clean[3][0], expected)


def test_batch_degraded_at_once_equals_the_pairs(pairs):
    clean = torch.stack(pairs.clean[:3])
    seeds = [pairs.seed_of(index) for index in range(3)]
    degraded = pairs.transform(clean, seeds)
    assert torch.equal(degraded, torch.stack([pairs[index][0] for index in range(3)]))


def test_pairs_of_one_index_are_equal_by_any_integer(pairs):
    expected = pairs[5][0]
    for index in (-1, numpy.int64(5), torch.tensor(5)):
        assert torch.equal(pairs[index][0], expected)
    assert pairs.seed_of(torch.tensor(5)) == pairs.seed_of(5)
    with pytest.raises(IndexError):
        pairs[6]


@pytest.mark.parametrize("wrong", [None, "3", 1.5, -1, 2**63, True])
def test_pairs_refuse_what_is_no_seed_or_epoch(pairs, wrong):
    with pytest.raises(ValueError, match=r"^seed=.* must be an integer from 0 to"):
        degrade.Pairs([], CHAIN, seed=wrong)
    with pytest.raises(ValueError, match=r"^epoch=.* must be an integer from 0 to"):
        pairs.set_epoch(wrong)


def test_pairs_made_in_inference_mode_change_their_epoch():
    clean = [torch.zeros(3, 8, 8)]
    with torch.inference_mode():
        pairs = degrade.Pairs(clean, "gaussian:0.1")
    pairs.set_epoch(2)
    assert pairs.seed_of(0) != degrade.Pairs(clean, "gaussian:0.1").seed_of(0)
