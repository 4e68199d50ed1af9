# SPDX-License-Identifier: Apache-2.0
"""Streams from a server on this machine: MJPEG over HTTP."""

import http.server
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from sample_images import encoded, number_of, picture

from st3r_ros.errors import InputError
from st3r_ros.io import live
from st3r_ros.io.address import Address, parse_address
from st3r_ros.io.live import StreamSequence
from st3r_ros.io.picture import Picture
from st3r_ros.io.sequence import Selection, StampedImage
from st3r_ros.sequences import open_sequence


class Camera(http.server.ThreadingHTTPServer):
    """A network camera. Each connection gets `images` pictures, `pause_s` apart, then is closed; of those, `served` were sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.images, self.pause_s = 10_000, 0.01
        self.served = self.connections = 0
        self.silent = threading.Event()

    def address(self, options: str = "", user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}/video{options}"


class _Connection(http.server.BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        if self.path.startswith("/absent"):
            self.send_error(404)
            return
        self.server.connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for i in range(self.server.images):
                data = encoded(picture(i % 12, 64, 48), ".jpg")
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data))
                self.server.served += 1
                time.sleep(self.server.pause_s)
                while self.server.silent.is_set():
                    time.sleep(0.01)
        except OSError:
            pass  # the reader has gone

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Camera]:
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(live, "CATCH_UP_S", 0.0)
    server = Camera()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.silent.clear()
    server.shutdown()
    server.server_close()


def test_images_come_with_the_time_of_their_arrival(server):
    before = time.time_ns()
    sequence = open_sequence(server.address(), max_frames=4)
    frames = list(sequence)
    stamps = [frame.stamp_ns for frame in frames]
    assert sequence.kind == "stream" and len(frames) == 4 and frames[0].image.shape == (48, 64, 3)
    assert stamps == sorted(stamps) and before < stamps[0] and stamps[-1] < time.time_ns()


def test_a_slow_reader_gets_the_newest_image_and_each_once():
    newest, running = live.NewestImage(), threading.Event()
    for stamp_ns in (1, 2, 3):
        newest.put(StampedImage(stamp_ns, Picture(picture(0, 8, 6))))
    image = newest.take(running)
    assert image is not None and image.stamp_ns == 3
    newest.end()
    assert newest.take(running) is None


def test_a_slow_reader_misses_images(server):
    numbers = []
    for _ in StreamSequence(parse_address(server.address()), selection=Selection(1, 6)):
        numbers.append(server.served)
        time.sleep(0.1)
    assert numbers[-1] - numbers[0] > 12


def test_a_broken_stream_is_connected_again_and_that_is_said(server, caplog):
    server.images = 3
    with caplog.at_level(logging.WARNING):
        frames = list(open_sequence(server.address(user="admin:hunter2@"), max_frames=7))
    assert len(frames) == 7 and server.connections >= 3
    assert "the stream was interrupted; reconnecting in" in caplog.text
    assert "hunter2" not in caplog.text and "admin" not in caplog.text


def test_it_ends_when_its_patience_does(server, caplog):
    absent = f"http://admin:hunter2@127.0.0.1:{server.server_port}/absent?token=s3cret#patience=0"
    with pytest.raises(InputError, match=r"delivered no image for 0 s \(the server answers 404") as raised:
        list(open_sequence(absent))
    assert not any(secret in str(raised.value) + caplog.text for secret in ("hunter2", "s3cret", "admin"))
    server.server_close()
    with pytest.raises(InputError, match="the server cannot be reached: Connection refused"):
        list(open_sequence(f"rtsp://127.0.0.1:{server.server_port}/x#patience=0"))


def test_a_process_that_ends_in_the_middle_of_a_stream_ends_in_order(server):
    code = f"from st3r_ros.sequences import open_sequence as o; print(next(iter(o({server.address()!r}))).image.shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(48, 64, 3)\n", "")


def test_an_internal_error_of_the_thread_does_not_look_like_the_end(server, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(live, "retrieve", broken)
    with pytest.raises(ZeroDivisionError):
        list(open_sequence(server.address()))


def test_images_that_a_stream_had_buffered_are_passed_over(monkeypatch):
    class Capture:
        """Five images at once, then one each 45 ms; 20 a second by their own times."""

        count, now_s = 0, 0.0

        def grab(self):
            self.count += 1
            self.now_s += 0.045 if self.count > 5 else 0.001
            return self.count <= 8

        def get(self, _):
            return 50.0 * self.count

        def retrieve(self):
            return True, picture(self.count)

    def taken(catch_up_s):
        capture = Capture()
        monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: capture.now_s))
        images = live.grabbed(capture, time.time_ns, threading.Event(), catch_up_s)
        return [number_of(image.image.values[..., ::-1]) for image in images]

    assert taken(0.0) == [1, 2, 3, 4, 5, 6, 7, 8] and taken(10.0) == [6, 7, 8]


def test_a_stream_that_is_silent_can_be_stopped_at_once(server):
    sequence = open_sequence(server.address())
    frames = iter(sequence)
    next(frames)
    server.silent.set()
    threading.Timer(0.3, sequence.stop).start()
    begin = time.monotonic()
    assert len(list(frames)) < 30 and time.monotonic() - begin < 3.0


def test_a_server_that_does_not_answer_is_not_asked_again_after_a_stop(monkeypatch):
    sequence = open_sequence("http://127.0.0.1:1/video")
    read, released, asked = threading.Event(), threading.Event(), []

    def open_stream(url):
        sequence.stop()  # the stop comes while OpenCV waits for the server
        assert read.wait(10.0)
        return SimpleNamespace(isOpened=lambda: False, release=released.set)

    monkeypatch.setattr(live, "open_stream", open_stream)
    monkeypatch.setattr(Address, "why_closed", lambda *_: asked.append("why") or "")
    assert list(sequence) == []
    read.set()
    assert released.wait(10.0)
    assert not asked


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("ftp://user:hunter2@host/video", r"'ftp://host/video' has the scheme 'ftp'; supported are rtsp"),
        ("rtsp://user:hunter2@host:port/x", "its host or port is wrong"),
        ("http:///video", "has no host"),
        ("rtsp://host/x?password=hunter2#patience=long", "must be patience=SECONDS"),
        ("rtsp://host/x#fps=3", "must be patience=SECONDS"),
    ],
)
def test_addresses_that_are_wrong_say_why(source, reason):
    with pytest.raises(InputError, match=reason) as raised:
        open_sequence(source)
    assert "hunter2" not in str(raised.value)


def test_an_address_is_shown_without_its_secrets():
    address = parse_address("rtsp://admin:p%40ss@cam.local:8554/ch1/main?token=s3cret#patience=5")
    assert address.shown == "rtsp://cam.local:8554/ch1/main?..." and address.patience == 5.0
    assert address.url == "rtsp://admin:p%40ss@cam.local:8554/ch1/main?token=s3cret" and "p%40ss" not in repr(address)
