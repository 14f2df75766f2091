"""The loop that everyone copies, kept to be compared with: torchvision transforms on one PIL image
after another, a DataLoader with two workers, float32, eager, torch's default memory format, and the
loss read from the device at every step.

Network, initial weights, batch size, optimiser, learning rate of every step, loss and the colour of
the crop's padding (black borders learn slower) are ours: what differs is how images get there and
in which precision and layout they are computed."""
import time

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms as T

from ..data.datasets import Dataset
from ..names import derive
from ..training.environment import machine
from ..training.optim import make_optimizer, set_lr
from ..training.run import Run
from ..training.trainer import network
from .measure import wait_for

WORKERS = 2


class Images(TorchDataset):
    """(image after ``transform``, label) one at a time, from uint8 [N, H, W, C] arrays."""

    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        image = self.images[index]
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        return self.transform(picture), int(self.labels[index])


def loader(run: Run, data: Dataset, split: str = "train") -> DataLoader:
    """The usual loader of a split: the training split shuffled and augmented as the recipe says.
    Its workers stay from epoch to epoch, which is kinder to it than the default."""
    training, how = split == "train", run.how
    fill = tuple(round(255 * level) for level in data.mean)
    steps = [T.ToTensor(), T.Normalize(data.mean, data.std)]
    if training and how.flip:
        steps.insert(0, T.RandomHorizontalFlip())
    if training and how.crop:
        size = data.images[split].shape[1]
        steps.insert(0, T.RandomCrop(size, padding=how.crop, fill=fill))
    images, labels = data.split(split, getattr(run, f"n_{split}"))
    return DataLoader(Images(images, labels, T.Compose(steps)), how.batch_size, shuffle=training,
                      drop_last=training and len(labels) >= how.batch_size, num_workers=WORKERS,
                      persistent_workers=training, pin_memory=machine().device == "cuda",
                      generator=torch.Generator().manual_seed(derive("plain", run.seed)))


class PlainLoop:
    """`Trainer`'s counterpart: the same `epoch`, its history row and an accuracy."""

    def __init__(self, run: Run, data: Dataset):
        self.run, self.how, self.data, self.device = run, run.how, data, machine().device
        self.model = network(run, data.row).to(self.device)
        self.optimizer = make_optimizer(self.model, self.how)
        self.batches = loader(run, data)

    def epoch(self, epoch: int) -> dict:
        """One pass over the training split: mean ``loss`` and wall ``seconds``."""
        torch.manual_seed(derive("train", self.run.seed, epoch))
        self.model.train()
        started, total = time.perf_counter(), 0.0
        for step, (x, y) in enumerate(self.batches):
            x, y = x.to(self.device), y.to(self.device)
            set_lr(self.optimizer, self.how, (epoch + step / len(self.batches)) / self.how.epochs)
            loss = F.cross_entropy(self.model(x), y, label_smoothing=self.how.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        wait_for(self.device)
        return {"loss": total / len(self.batches), "seconds": time.perf_counter() - started}

    @torch.no_grad()
    def score(self, split: str) -> dict:
        """``accuracy``: the share of a split that is classified correctly, 0..1."""
        self.model.eval()
        right = [self.model(x.to(self.device)).argmax(1).cpu() == y
                 for x, y in loader(self.run, self.data, split)]
        return {"accuracy": torch.cat(right).float().mean().item()}
