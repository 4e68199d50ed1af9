# SPDX-License-Identifier: Apache-2.0
"""orb_slam3_driver.py LIST VOCABULARY SETTINGS TIMES POSES INTERVAL: runs in the environment of ORB-SLAM3, without this package.

LIST: lines of stamp and file. INTERVAL: seconds from image to image. Writes TIMES, the milliseconds of each image, and POSES,
those of the largest map in EuRoC's format; without a map ORB-SLAM3 crashes and there is no such file.
"""

import sys
import time
from pathlib import Path

import cv2
import pyorbslam3


def main(images: str, vocabulary: str, settings: str, times: str, poses: str, interval: str) -> None:
    """Feeds every image when its time has come."""
    slam = pyorbslam3.Slam(vocabulary, settings, pyorbslam3.Sensor.MONOCULAR)
    taken, due = [], time.monotonic()
    for stamp, file in (line.split() for line in Path(images).read_text().splitlines()):
        image = cv2.imread(str(Path(images).with_name(file)), cv2.IMREAD_GRAYSCALE)
        time.sleep(max(0.0, due - time.monotonic()))
        start = time.monotonic()
        slam.track_monocular(image, float(stamp))
        due = max(start, due) + float(interval)
        taken.append(f"{1e3 * (time.monotonic() - start):.3f}\n")
    Path(times).write_text("".join(taken))
    slam.shutdown()
    slam.save_trajectory_euroc(poses)


if __name__ == "__main__":
    main(*sys.argv[1:])
