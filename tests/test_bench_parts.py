"""What `make bench` measures with: numbered pictures, their ages, what is compared with a peer."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge.bench.rig import BenchError
from edge.bench.rows import BARS, MEASUREMENTS
from tests import bench
from tests.bench import CAMERAS, MORE_BARS, RATE, age_slope, ages_of, seconds_where_equal, share_of_frames
from tests.parts import tool
from tests.parts.clocked import BITS, Seen, number_of, number_picture, numbered_clip, watch_slowly
from tests.parts.rtp_clock import RtpClock
from tests.parts.samples import portrait
from tests.scenes import read_clip

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("number", [0, 1, 4095, (1 << BITS) - 1])
def test_a_drawn_number_is_read(number):
    assert number_of(number_picture(cv2.resize(portrait(), (1280, 720)), number)) == number


def test_numbers_survive_the_encoder_and_frames_that_are_sent_twice(tmp_path):
    numbered_clip(tmp_path / "clip.mp4", RATE, 6.5)
    assert [number_of(picture) for picture in read_clip(tmp_path / "clip.mp4")] == list(range(65))
    plain = tmp_path / "clip.h264"
    command = [tool("ffmpeg", "ffmpeg"), "-v", "error", "-i", tmp_path / "clip.mp4", "-c", "copy", plain]
    subprocess.run(command, check=True)
    delimiter, begin = b"\0\0\0\1\x09\xf0", b"\0\0\0\1\x41"
    first, *others = plain.read_bytes().split(begin)
    plain.write_bytes(first + b"".join(2 * (delimiter + begin + other) for other in others))
    assert [number_of(picture) for picture in read_clip(plain)] == [0, *(n for n in range(1, 65) for _ in range(2))]


def test_ages_count_from_when_a_frame_was_sent():
    began = 1000.0
    frames = [
        Seen(50, began + 5.0, began + 5.1, 0.0),
        Seen(52, began + 5.4, began + 5.6, 0.2),
        Seen(60, began + 6.03, began + 6.23, None),
    ]
    sent = {number: began + number / RATE - 0.5 for number in range(100)}
    ages, apart = ages_of(frames, sent)
    assert [age for _, age in ages] == pytest.approx([0.6, 0.9, 0.73]), "what is late by as much always is late too"
    assert [moment for moment, _ in ages] == [frame.done for frame in frames]
    assert apart == pytest.approx([0.0, 0.0], abs=1e-9)
    assert max(ages_of([*frames, Seen(61, began + 6.6, began + 6.7, 0.1)], sent)[1]) == pytest.approx(0.4)


@pytest.mark.parametrize("grows", [0.0, 0.006, -0.3])
def test_slope_of_ages_that_go_up_and_down_and_have_peaks(grows):
    rng = np.random.default_rng(1)
    moments = np.arange(0, 300, 0.05)
    ages = 0.1 + grows * moments / 60 + 0.1 * (moments / 9.3 % 1) + rng.normal(0, 0.002, len(moments))
    ages[rng.choice(len(ages), 20)] += 1.0
    assert age_slope(list(zip(1e6 + moments, ages, strict=True))) == pytest.approx(1000 * grows, abs=2)


def test_more_frames_than_were_sent_are_no_figure():
    assert share_of_frames(60 * RATE * CAMERAS, 60.0) == 1.0
    assert share_of_frames(5 * RATE * CAMERAS + CAMERAS, 5.0) == pytest.approx(1.02)
    with pytest.raises(BenchError, match=r"four_cameras_share is 1\.05, which cannot be"):
        share_of_frames(1.05 * 60 * RATE * CAMERAS, 60.0)


def test_frames_are_watched_slowly_and_the_newest_is_taken(clips, rtsp_server):
    numbered_clip(clips / "clip.mp4", RATE, 14)
    each = 0.2
    with RtpClock(rtsp_server.port, RATE) as clock:
        (frames,) = watch_slowly([rtsp_server.url("clip.mp4", clock.port, loop=False)], 8.0, 1, each)
    numbers = [frame.number for frame in frames]
    assert len(frames) >= 5
    assert numbers == sorted(numbers)
    assert all(clock.sent[frame.number] < frame.captured for frame in frames)
    sent = [clock.sent[number] for number in range(numbers[-1])]
    assert np.median(np.diff(sent)) == pytest.approx(1 / RATE, rel=0.3)
    assert numbers[-1] - numbers[0] > len(numbers) - 1, "frames that nobody had time for are skipped"
    assert all(frame.done - frame.captured >= each for frame in frames)


def test_only_frames_with_as_many_faces_are_compared():
    assert seconds_where_equal([(1.0, 1), (9.0, 2), (3.0, 0)], [1, 1, 0]) == 2.0
    with pytest.raises(AssertionError, match="in 1 of 3 frames only"):
        seconds_where_equal([(1.0, 1), (9.0, 2), (3.0, 1)], [1, 1, 0])


def test_a_row_by_its_name_as_json():
    command = [sys.executable, "-m", "tests.bench", "--short", "--json", "reconnects"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    document = json.loads(done.stdout)
    assert document.keys() == {"reconnect_bytes", "reconnect_fds", "reconnect_threads"}
    assert (document["reconnect_fds"], document["reconnect_threads"]) == (0, 0)
    assert done.returncode == (document["reconnect_bytes"] > MORE_BARS["reconnect_bytes"].value)


def test_a_row_that_cannot_be_measured_leaves_the_others(monkeypatch):
    def broken(_folder, _short):
        raise AssertionError("no such server")

    def whole(_folder, _short):
        return {"reconnect_fds": 0.0}

    monkeypatch.setattr(bench, "ROWS", (broken, whole))
    done = CliRunner().invoke(bench.main, ["--json", "broken", "whole"])
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"reconnect_fds": 0.0}
    assert done.stderr == "FAILED broken: no such server\n"
    done = CliRunner().invoke(bench.main, ["whole"])
    assert done.exit_code == 0
    assert done.stdout == "held   reconnect_fds 0 (bar ≤ 0): descriptors left by them\n"
    done = CliRunner().invoke(bench.main, ["hole"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no hole; there are work, " in done.stderr


def test_four_cameras_are_counted_against_what_was_sent(tmp_path):
    figures = bench.four_cameras(tmp_path, True)
    assert 0.05 < figures["four_cameras_share"] < 1.1
    assert CAMERAS == 4


def test_every_row_has_a_bar_and_no_two_rows_a_name():
    names = [measure.__name__ for _, measure, _ in MEASUREMENTS] + [row.__name__ for row in bench.ROWS]
    assert len(names) == len(set(names))
    assert not BARS.keys() & MORE_BARS.keys()
