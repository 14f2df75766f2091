"""Class activation maps: against closed forms and against pytorch-grad-cam's own pictures."""
import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import attnlib
from attnlib.experiments.predict import probabilities
from attnlib.explain import cam, focus, interventions, road
from attnlib.figures.predicted import activation_maps

CLASSES = [1, 5, 9]
NAMES = {"grad_cam": "GradCAM", "grad_cam_pp": "GradCAMPlusPlus", "hirescam": "HiResCAM",
         "layer_cam": "LayerCAM", "xgrad_cam": "XGradCAM", "eigen_cam": "EigenCAM"}


def images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(attention: str = "se", backbone: str = "resnet18", **options):
    """An untrained network whose blocks are no longer at their careful start."""
    model = attnlib.build_model(backbone, attention, width=0.125, **options).eval()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "attention" in name or name.startswith("head"):
            torch.nn.init.normal_(parameter)
    return model


def test_where_theory_says_so_the_methods_agree():
    """With a mean and a linear layer behind the last stage, ∂z/∂A_k = W_yk / (h w) everywhere:
    CAM, Grad-CAM, HiResCAM and XGrad-CAM are one map, the first hw times the second."""
    model = network("cbam")
    p = cam.pass_of(model, images(), CLASSES)
    plain = cam.summed(model.classifier.weight.detach().numpy()[CLASSES], p).clip(0) / 16
    assert plain.shape == (3, 4, 4) and (plain.max((1, 2)) > 0).all()
    for name in ("grad_cam", "hirescam", "xgrad_cam"):
        np.testing.assert_allclose(cam.make(name, p), plain, rtol=1e-3, atol=1e-5)
    p = cam.pass_of(network("cbam", placement="head"), images(), CLASSES)
    one, other = (cam.scaled_maps(cam.make(name, p)) for name in ("grad_cam", "hirescam"))
    assert not np.allclose(one, other, atol=1e-4)           # a gate behind the target ends that


@pytest.mark.parametrize("stage", [-2, -1])
def test_scaled_they_are_pytorch_grad_cams_own(stage):
    model, x = network("hybrid"), images()
    p = cam.pass_of(model, x, CLASSES, stage)
    for name, theirs in NAMES.items():
        with getattr(pytorch_grad_cam, theirs)(model, [model.stages[stage]]) as method:
            known = method(x, [ClassifierOutputTarget(c) for c in CLASSES])
        mine = scale_cam_image(scale_cam_image(cam.make(name, p), (32, 32)))
        np.testing.assert_allclose(mine, known, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("backbone, stage", [
    ("resnet18", -2), ("alexnet", -2), ("vgg16", -3), ("squeezenet", -2)])
def test_every_network_has_a_stage_that_can_say_where(backbone, stage):
    model, x = network("none", backbone), images(1)
    size = cam.stage_sizes(model, x)[stage]
    assert cam.focus_stage(model, x) == stage and min(size) >= cam.LEAST
    assert cam.grad_cam(model, x, [0], stage).shape == (1, *size)


# --- What is refused, and what a caller keeps ---


LIGHT, WHOLE = torch.rand(4, 3, 32, 32), torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)


@pytest.mark.parametrize("x, classes, stage, why", [
    (images(4), [0, 1], -1, r"4 images need as many classes.* shape \(2,\)"),
    (images(4), np.zeros((4, 1), int), -1, r"4 images need as many classes.* shape \(4, 1\)"),
    (images(4), [0, 1, 2, 10], -1, "but the network has 10, counted from 0"),
    (images(4), np.array([-1, 0, 0, 0]), -1, "but the network has 10, counted from 0"),
    (images(1), [0], 7, r"stage 7 has no map .* valid: -4 \(32×32\), .*-1 \(4×4"),
    (LIGHT, [0] * 4, -1, "should be normalised.*these are light"),
    (LIGHT.half(), [0] * 4, -1, "should be normalised.*these are light"),
    (WHOLE, [0] * 4, -1, "should be normalised.*these are 1 of torch.uint8"),
    (LIGHT[:0], [], -1, "should be normalised.*these are 0 of torch.float32")])
def test_what_cannot_have_maps_is_refused(x, classes, stage, why):
    with pytest.raises(ValueError, match=why):
        cam.grad_cam(network("none"), x, classes, stage)


def test_what_cannot_have_maps_is_refused_elsewhere_too():
    model = network("none")
    model.mean, model.std = (0.5,) * 3, (0.25,) * 3
    with pytest.raises(ValueError, match="uint8 from 0 to 255.*float64"):
        activation_maps(model, np.random.default_rng(0).random((2, 32, 32, 3)), [0, 1])
    with pytest.raises(ValueError, match="should be normalised.*these are 4 of torch.uint8"):
        interventions.measure_swaps(network("se"), WHOLE, [0] * 4)
    with pytest.raises(ValueError, match=r"stage -1 has no map .* valid: -5 \(32×32\), .*-2 \(4×4"):
        cam.grad_cam(network("none", "vgg16"), images(1), [0], -1)


def test_a_picture_of_one_light_grey_has_a_map():
    """Normalised it could be light from 0 to 1."""
    model = network("none")
    model.mean, model.std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    grey = np.full((1, 32, 32, 3), 160, np.uint8)
    assert activation_maps(model, grey, [0]).shape == (1, 8, 8)


def state(model) -> list:
    return ([(n, m.training, len(m._forward_hooks), "forward" in vars(m))
             for n, m in model.named_modules()],
            [(n, p.requires_grad, p.grad is not None and p.grad.sum().item())
             for n, p in model.named_parameters()],
            [(n, b.double().sum().item()) for n, b in model.named_buffers()])


HARMLESS = {
    "grad_cam": lambda model, x: cam.grad_cam(model, x, CLASSES),
    "at the input": lambda model, x: cam.pass_of(model, x, CLASSES, -2, at_input=True),
    "an error": lambda model, x: pytest.raises(ValueError, cam.grad_cam, model, x, [0] * 3, 9),
    "drop": lambda model, x: focus.average_drop(
        model, x, np.ones((3, 4, 4)), CLASSES, np.ones(3), (0.5,) * 3, (0.2,) * 3),
    "road": lambda model, x: road.road(model, x, np.ones((3, 32, 32)), CLASSES, percentiles=(50,)),
    "probabilities": lambda model, x: probabilities(model, np.zeros((3, 32, 32, 3), np.uint8)),
    "swaps": lambda model, x: interventions.measure_swaps(model, x, CLASSES),
    "a wrong gate": lambda model, x: pytest.raises(RuntimeError, interventions.replaced, model, x, {
        next(iter(interventions.gate_sites(model))): torch.ones(7, 1, 1, 1)})}


@pytest.mark.parametrize("dtype, backbone, attention", [
    (torch.float32, "resnet18", "se"), (torch.bfloat16, "squeezenet", "cbam"),
    (torch.float64, "speednet", "hybrid")])
def test_a_callers_network_is_left_as_it_was(dtype, backbone, attention):
    """In train mode but for one frozen part, with gradients at hand: of any type of numbers."""
    model, x = network(attention, backbone).to(dtype).train(), images()
    model.mean, model.std = (0.5,) * 3, (0.2,) * 3
    model(x.to(dtype)).float().square().sum().backward()
    model.stages[0].eval().requires_grad_(False)
    before = state(model)
    for name, call in HARMLESS.items():
        call(model, x)
        assert state(model) == before, name


@pytest.mark.parametrize("dtype, rtol", [(torch.bfloat16, 0.1), (torch.float64, 1e-3)])
def test_maps_of_other_types_of_numbers_are_alike(dtype, rtol):
    model, x = network(), images()
    maps, other = cam.grad_cam(model, x, CLASSES), cam.grad_cam(model.to(dtype), x, CLASSES)
    assert other.dtype == np.float32
    np.testing.assert_allclose(other, maps, atol=rtol * maps.max())


def test_baselines_have_the_stages_size_and_know_nothing_of_the_image():
    found = cam.pass_of(network(), images(), CLASSES, -2, at_input=True)
    for name in ("uniform", "centre", "random", "input_gradient"):
        m = cam.make(name, found)
        assert m.shape == (3, 8, 8) and (m >= 0).all(), name
        assert (m[0] == m[1]).all() == (name in ("uniform", "centre"))
    gradient = np.abs(found.at_input).mean(1).reshape(3, 8, 4, 8, 4).mean((2, 4))
    np.testing.assert_allclose(m, gradient, rtol=1e-5)
    middle = cam.make("centre", found)[0]
    assert (middle[3:5, 3:5] == middle.max()).all() and (middle == middle.max()).sum() == 4
