"""A module with a block behind it."""
import torch
from torch import nn

KEY = "added_attention"      # the block's name in its host: nothing else in a network is called so


class FromIdentity(nn.Module):
    """y = x + t (block(x) − x), t learned and 0 at the start, where y = x: the start of ReZero,
    Bachlechner et al. 2020, arXiv:2003.04887. Parameters: the block's + 1."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block
        self.t = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.t * (self.block(x) - x)


class Attended(nn.Module):
    """y = added_attention(host(x)). What is asked of it or set and not its own is the host's, and
    its state dict is the host's with the block's keys, so that weights from before fit."""

    def __init__(self, host: nn.Module, block: nn.Module):
        super().__init__()
        self.host, self.added_attention = host, block
        self.training = host.training

    def forward(self, *args, **kwargs) -> torch.Tensor:
        return self.added_attention(self.host(*args, **kwargs))

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("running_mean", "running_var"):        # `fuse_conv_bn_eval` reads them
                raise AttributeError("a block follows this norm, so it cannot be merged into the "
                                     "convolution before it: its .host can, in its place") from None
            return getattr(super().__getattr__("host"), name)

    def __setattr__(self, name: str, value):
        own = hasattr(Attended, name) or name in self.__dict__ or name in self._modules
        if own or not hasattr(self._modules.get("host"), name):
            super().__setattr__(name, value)
        else:
            setattr(self.host, name, value)

    def state_dict(self, *, destination=None, prefix: str = "", keep_vars: bool = False):
        out = self.host.state_dict(destination=destination, prefix=prefix, keep_vars=keep_vars)
        return self.added_attention.state_dict(destination=out, prefix=f"{prefix}{KEY}.",
                                               keep_vars=keep_vars)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for key in [key for key in state_dict if key.startswith(prefix)]:
            if not key.startswith(f"{prefix}{KEY}."):
                state_dict[f"{prefix}host.{key.removeprefix(prefix)}"] = state_dict.pop(key)


def exchange(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if child is old and parent is not new:
                parent._modules[key] = new


def attach(model: nn.Module, host: nn.Module, block: nn.Module) -> None:
    """Make ``block`` the last thing that ``host`` does."""
    if type(host).forward is nn.Sequential.forward:
        host.add_module(KEY, block)
    else:
        exchange(model, host, Attended(host, block))


def detach(model: nn.Module, host: nn.Module) -> None:
    """Undo `attach`."""
    if KEY in host._modules:
        delattr(host, KEY)
    for module in list(model.modules()):
        if isinstance(module, Attended) and module.host is host:
            exchange(model, module, host)
