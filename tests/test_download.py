"""Fetching, from a server of our own that lies and fails."""
import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from attnlib.data import download
from attnlib.data.download import SOURCES, Source

GOOD = b"good" * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves GOOD, but as the path's name says."""

    def do_GET(self):
        way = self.path[1:]
        self.server.asked.append(way)
        if way == "failing":
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write({"wrong": b"x" * len(GOOD), "cut": GOOD[:99]}.get(way, GOOD))

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def source(server, *ways: str) -> Source:
    address = f"http://127.0.0.1:{server.server_port}/"
    return Source(tuple(address + way for way in ways), "deep/set.bin",
                  hashlib.sha256(GOOD).hexdigest())


def test_the_first_address_that_gives_the_file_is_the_last_one_asked(server, tmp_path, capsys):
    where = source(server, "failing", "wrong", "cut", "good", "unasked")
    assert download.retrieve(where, tmp_path).read_bytes() == GOOD
    assert server.asked == ["failing", "wrong", "cut", "good"]
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["set.bin"]
    assert str(tmp_path) not in capsys.readouterr().out
    download.retrieve(where, tmp_path)                  # it is there and right: nobody is asked
    assert len(server.asked) == 4
    (tmp_path / "deep" / "set.bin").write_bytes(b"torn")
    assert download.retrieve(where, tmp_path).read_bytes() == GOOD


def test_an_archive_stays_in_its_folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with tarfile.open(folder / "set.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"), io.BytesIO(b""))
    with pytest.raises(tarfile.TarError):
        download.unpack(folder / "set.tar.gz", folder)
    assert not (tmp_path / "escaped").exists()


def test_every_listed_file_has_https_addresses_and_its_home_comes_last():
    for sources in SOURCES.values():
        for s in sources:
            assert len(s.sha256) == 64 and all(url.startswith("https://") for url in s.urls)
            assert all(s.file.rpartition("/")[2] in url for url in s.urls)
            assert s.urls[-1].startswith((download.TORONTO, download.ZALANDO))
