"""Fetching from several sources: from a server of our own, which cuts, stalls, lies and fails."""
import hashlib
import http.server
import re
import threading

import numpy as np
import pytest

from attnlib.data import fetch
from attnlib.data.fetch import SOURCES, Broken, Source, download

GOOD = np.random.default_rng(0).bytes(300_000)
BAD = GOOD[:-1] + bytes([GOOD[-1] ^ 1])


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves GOOD in the way that the path names; ``server.asked``: (path, Range) of every request.
    """

    def do_GET(self):
        way, asked = self.path[1:], self.headers.get("Range")
        self.server.asked.append((way, asked))
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and way != "deaf" else 0
        if way == "failing" or (way == "once" and len(self.server.asked) > 1):
            self.send_error(503)
            return
        raw = {"wrong": BAD, "long": GOOD + b"x"}.get(way, GOOD)[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + (way == 'shifted')}-299999/300000")
        if way not in ("long", "unsaid"):
            self.send_header("Content-Length", str(123 if way == "page" else len(raw)))
        self.end_headers()
        self.wfile.write(raw[:len(raw) // 2 + 1] if way in ("cut", "once", "deaf") else raw[:123]
                         if way == "page" else raw)

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
    return Source(tuple(address + way for way in ways), "set.bin", len(GOOD),
                  hashlib.sha256(GOOD).hexdigest())


def got(server, tmp_path, *ways: str) -> bool:
    """Download from those sources; whether the file is right, with nothing left beside it."""
    path = tmp_path / "set.bin"
    download(source(server, *ways), path)
    return path.read_bytes() == GOOD and [p.name for p in tmp_path.iterdir()
                                          if p.name != "out"] == ["set.bin"]


def test_the_first_source_that_gives_the_file_is_the_last_one_asked(server, tmp_path, capsys):
    assert got(server, tmp_path, "failing", "good", "unsaid")
    assert server.asked == [("failing", None), ("good", None)]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "503" in lines[0]
    assert re.search(r"set.bin from 127.0.0.1:\d+: 0.3 MB at [\d.]+ MB/s, SHA-256 right", lines[1])


@pytest.mark.parametrize("way", ["wrong", "long", "page", "failing"])
def test_what_is_not_the_file_is_refused_and_the_next_source_asked(server, tmp_path, way):
    assert got(server, tmp_path, way, "good")
    assert server.asked[-1] == ("good", None)            # from its start: nothing of the other kept


@pytest.mark.parametrize("way", ["wrong", "long", "page", "failing", "deaf", "once", "shifted"])
def test_a_file_that_no_source_gives_is_told_with_what_was_expected(server, tmp_path, way):
    if way == "shifted":
        (tmp_path / "set.bin.part").write_bytes(GOOD[:99])
    with pytest.raises(Broken) as error:
        download(source(server, way), tmp_path / "set.bin")
    assert str(error.value).startswith("set.bin: expected 300,000 bytes of SHA-256 ")
    assert f"…, found at 127.0.0.1:{server.server_port}: " in str(error.value)
    assert not (tmp_path / "set.bin").exists()
    kept = (tmp_path / "set.bin.part")
    assert not kept.exists() or GOOD.startswith(kept.read_bytes())


def test_a_download_that_is_cut_goes_on_where_it_was_cut(server, tmp_path):
    assert got(server, tmp_path, "cut")
    ranges = [asked for _, asked in server.asked]
    assert ranges[:3] == [None, "bytes=150001-", "bytes=225001-"]


def test_the_next_call_and_another_source_go_on_from_the_part(server, tmp_path):
    with pytest.raises(Broken, match="503"):
        download(source(server, "once"), tmp_path / "set.bin")
    assert (tmp_path / "set.bin.part").read_bytes() == GOOD[:150_001]
    server.asked.clear()
    assert got(server, tmp_path, "good")
    assert server.asked == [("good", "bytes=150001-")]


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(GOOD[:1000])
    with pytest.raises(Broken):
        download(source(server, "deaf"), tmp_path / "set.bin")
    assert (tmp_path / "set.bin.part").read_bytes() == GOOD[:150_001]      # no 1000 bytes before it


@pytest.mark.parametrize("part", [b"x" * 1000, BAD, GOOD + b"more", GOOD])
def test_a_wrong_part_is_fetched_again_as_a_whole(server, tmp_path, part):
    (tmp_path / "set.bin.part").write_bytes(part)
    assert got(server, tmp_path, "good")
    assert len(server.asked) == {1000: 2, len(GOOD): part != GOOD, len(GOOD) + 4: 1}[len(part)]


class Clock:
    """Ticks so many seconds a look, the more of them the slower a source seems."""

    def __init__(self, tick: float):
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_a_slow_source_is_left_while_there_is_another(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "clock", Clock(10.0))             # 6.5 kB/s and less
    assert got(server, tmp_path, "failing", "good", "unsaid")
    ways = [way for way, _ in server.asked]
    assert ways == ["failing", "good", "unsaid", "good"][:len(ways)] and len(ways) >= 3
    assert "kB/s, so another is tried first" in capsys.readouterr().out
    assert server.asked[2][1]                                   # the next one went on from there


def test_the_last_source_is_waited_for_however_slow(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "clock", Clock(10.0))
    assert got(server, tmp_path, "good")
    assert len(server.asked) == 1


def test_two_at_once_do_not_write_into_one_part(server, tmp_path):
    from attnlib.experiments.store import taken
    with open(tmp_path / "set.bin.part", "ab") as held:
        assert taken(held)
        with pytest.raises(Broken, match="fetched by another process"):
            download(source(server, "good"), tmp_path / "set.bin")


def test_every_listed_source_is_of_one_file_and_its_home_comes_last():
    homes = ("www.cs.toronto.edu", "fashion-mnist.s3-website.eu-central-1.amazonaws.com")
    for sources in SOURCES.values():
        for s in sources:
            assert len(s.sha256) == 64 and s.size > 1000 and len(set(s.urls)) == len(s.urls) >= 2
            assert all(s.file.rpartition("/")[2] in url for url in s.urls)
            assert all(url.startswith("https://") for url in s.urls[:-1])
            assert fetch.host(s.urls[-1]) in homes
