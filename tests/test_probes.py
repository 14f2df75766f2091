"""ShapeTex's probes: of networks whose answers are known, and of a real one."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import attnlib
from attnlib.explain import probes


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(probes, "SPLIT_IMAGES", 40)


def measured(dataset: str = "shapetex") -> dict:
    model = attnlib.build_model("resnet18", "se", width=0.125)
    run = attnlib.Run(dataset=dataset, width=0.125, n_train=10, n_val=10, n_test=10)
    return probes.measure_probes(model, run, 12)


def row(found: dict, name: str) -> dict:
    return next(row for row in probes.probe_rows(found) if row["probe"] == name)


def answering(monkeypatch, field: str) -> None:
    """Let every network answer with the images' ``labels`` or ``background``."""
    drawn = {}

    def images_of(n, **options):
        data = make(n, **options)
        drawn[id(data.images)] = data
        return data
    def logits_of(model, images):
        return torch.eye(10)[torch.as_tensor(getattr(drawn[id(images)], field)).long()]
    make = probes.shapetex_images
    for name, stand_in in {
            "shapetex_images": images_of, "logits_of": logits_of,
            "as_input": lambda images, row: images, "focus_stage": lambda model, images: 0,
            "pass_of": lambda model, images, *_: SimpleNamespace(
                logits=logits_of(model, images).numpy()),
            "make": lambda method, found: np.ones((len(found.logits), 8, 8))}.items():
        monkeypatch.setattr(probes, name, stand_in)


@pytest.mark.parametrize("field, worst", [("labels", 100), ("background", 0)])
def test_who_answers_with_the_background_has_a_worst_group_of_nothing(monkeypatch, field, worst):
    answering(monkeypatch, field)
    found = measured("shapetex(rho=0.9)")
    swapped, usual = (row(found, name)["accuracy"] for name in ("swap_background", "split=test"))
    assert found["probe_groups"].tolist() == [100, worst] and (swapped < usual) == (worst == 0)
    assert row(found, "split=flip")["accuracy"] == worst
    assert (found["probe_accuracy"] == 100).all() == (worst == 100)


def test_areas_and_shares():
    found = measured()
    gone = row(found, "remove_object")
    assert gone["object_area"] == 0 == gone["object"] and gone["distractors"] > 0
    assert 0.05 < row(found, "split=test")["object_area"] < 0.2
    assert row(found, "remove_distractors")["distractors"] == 0
    shares = np.concatenate([found["probe_object"], found["probe_distractors"]])
    assert (shares[~np.isnan(shares)] <= 1).all()


def test_other_data_have_no_probes():
    assert measured("cifar10") == {}
