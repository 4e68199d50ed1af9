# SPDX-License-Identifier: Apache-2.0
"""`python -m st3r_ros` is the command `st3r`."""

from st3r_ros.cli import main

if __name__ == "__main__":
    main()
