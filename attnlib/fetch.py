"""Fetches the files of the real data sets: checked against their SHA-256, then unpacked.

They come to lie where torchvision looks for its own, and torchvision reads them. A file is complete
and right under its name, or it is not there."""
import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

from .paths import shown


class Broken(OSError):
    """What came is not what was expected; the message says from where, what, and what instead."""


class Source(NamedTuple):
    """One file: its address, where it goes in the data folder, its size in bytes and SHA-256."""
    url: str
    file: str
    size: int
    sha256: str


TORONTO = "https://www.cs.toronto.edu/~kriz/"
ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SOURCES = {         # sizes and digests as TensorFlow Datasets and Keras list them
    "cifar10": (Source(
        TORONTO + "cifar-10-python.tar.gz", "cifar-10-python.tar.gz", 170_498_071,
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),),
    "cifar100": (Source(
        TORONTO + "cifar-100-python.tar.gz", "cifar-100-python.tar.gz", 169_001_437,
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),),
    "fashionmnist": tuple(Source(ZALANDO + name, f"FashionMNIST/raw/{name}", size, sha256)
                          for name, size, sha256 in (
        ("train-images-idx3-ubyte.gz", 26_421_880,
         "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        ("train-labels-idx1-ubyte.gz", 29_515,
         "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ("t10k-images-idx3-ubyte.gz", 4_422_102,
         "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        ("t10k-labels-idx1-ubyte.gz", 5_148,
         "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"))),
}
PATIENCE = 30       # seconds without a byte


def fetch(name: str, folder: Path) -> None:
    """Download what is not here of a data set, and unpack it. `Broken` where a file is not the one
    expected, any other ``OSError`` where it cannot be had; called again it mends both."""
    for source in SOURCES[name]:
        path = folder / source.file
        if not (path.is_file() and digest_of(path) == source.sha256):
            download(source, path)
        unpack(path, folder)


def download(source: Source, path: Path) -> None:
    """Write a file under its name once all of it has come and its SHA-256 is right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, digest, got = path.with_name(f".{path.name}.{os.getpid()}.part"), hashlib.sha256(), 0
    try:
        with open(part, "wb") as file, urllib.request.urlopen(source.url, timeout=PATIENCE) as page:
            while block := page.read(1 << 20):
                file.write(block)
                digest.update(block)
                got += len(block)
                if got > source.size:
                    break                                    # never more than was announced
        if (got, digest.hexdigest()) != (source.size, source.sha256):
            raise Broken(f"{source.url}: expected {source.size:,} bytes of SHA-256 "
                         f"{source.sha256[:16]}…, found {got:,} of {digest.hexdigest()[:16]}…")
        os.replace(part, path)
    except Broken:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"{source.url}: expected {source.size:,} bytes, found {got:,}, then "
                     f"{type(error).__name__}: {error}") from None
    finally:
        part.unlink(missing_ok=True)


def unpack(path: Path, folder: Path) -> None:
    """Unpack a file whose SHA-256 was right: a tar archive into ``folder``, nothing outside it, or
    a gz file beside itself."""
    if path.name.endswith(".tar.gz"):
        if not hasattr(tarfile, "data_filter"):
            raise Broken(f"this Python cannot unpack {shown(path)} safely: 3.11.4 or newer can")
        try:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        except tarfile.FilterError as error:
            raise Broken(f"{shown(path)} would leave its folder: {error}") from None
    else:
        from .store import write_atomic  # here: it imports what needs the data sets' table
        write_atomic(path.with_suffix(""), gzip.decompress(path.read_bytes()))


def digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
