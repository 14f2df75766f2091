"""The package's front door."""
import importlib

import pytest

import attnlib


@pytest.mark.parametrize("name", attnlib.HOME)
def test_every_public_name_is_there(name):
    assert getattr(attnlib, name) is not None and name in dir(attnlib)


def test_train_is_the_function_though_a_module_has_that_name():
    """Importing the module, as grid does, would put it in the function's place."""
    importlib.import_module("attnlib.train")
    from attnlib import train
    assert callable(train) and train is attnlib.train
    assert train is importlib.import_module("attnlib.train").train


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no 'trian'.*train"):
        attnlib.trian  # noqa: B018
