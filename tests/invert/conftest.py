import pytest

from .solving import lively


@pytest.fixture(scope="session")
def small():
    return lively()
