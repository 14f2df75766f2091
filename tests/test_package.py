"""The package's front door."""
import pytest

import attnlib


@pytest.mark.parametrize("name", attnlib.HOME)
def test_every_public_name_is_there(name):
    assert getattr(attnlib, name) is not None and name in dir(attnlib)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no 'trian'.*train"):
        attnlib.trian  # noqa: B018
