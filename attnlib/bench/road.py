"""How fast our ROAD is beside pytorch-grad-cam's, and that both fill in the same pixels."""
import numpy as np
import torch

from ..data.batches import as_input
from ..explain.cam import enlarged
from ..explain.road import NOISE, PERCENTILES, impute, kept_pixels, ranks, road, surprise
from ..networks.build import build_model
from ..training.environment import machine
from .measure import in_turns


def road_speed(data, seconds: float, backbone: str = "resnet18", width: float = 0.25,
               images: int = 16) -> dict:
    """Seconds an image of ours and of pytorch-grad-cam's, in turns, on the same images, maps
    without ties and untrained network: ``ours`` and ``theirs``, filling in alone, and ``…_whole``,
    with the network's answers; all percentiles, both orders. ``difference``: of filled images."""
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined  # optional
    device = machine().device
    pictures, classes = data.split("test", images)
    x, n = as_input(pictures, data).contiguous(), len(pictures)
    maps = enlarged(np.random.default_rng(0).random((n, 8, 8)), tuple(x.shape[2:]))
    maps = maps + 1e-4 * np.random.default_rng(1).random(maps.shape, np.float32)
    model = build_model(backbone, "se", width=width, in_channels=x.shape[1],
                        num_classes=len(data.classes)).eval().to(device)
    rank, light = ranks(maps), x.numpy()
    stay = [kept_pixels(p, maps[0].size) for p in PERCENTILES]
    holes = [rank < k for k in stay] + [rank >= maps[0].size - k for k in stay]
    imputer, on_device = NoisyLinearImputer(noise=0), x.to(device)
    targets = [lambda z, c=int(c): z.softmax(-1)[c] for c in classes]

    def theirs():
        return [[imputer(image, torch.from_numpy(k).float()) for image, k in
                 zip(x, known, strict=True)] for known in holes]

    def ours():
        off = surprise(light)
        return [impute(light, known, off) for known in holes]
    took = in_turns({"ours": ours, "theirs": theirs,
                     "ours_whole": lambda: road(model, on_device, maps, classes),
                     "theirs_whole": lambda: ROADCombined(list(PERCENTILES))(
                         on_device, maps, targets, model)}, seconds, device, most=9)
    gap = max(np.abs(mine - torch.stack(other).numpy()).max()
              for mine, other in zip(ours(), theirs(), strict=True))
    return {name: [t / n for t in times] for name, times in took.items()} | {
        "backbone": backbone, "width": width, "images": n, "noise": NOISE,
        "difference": float(gap)}
