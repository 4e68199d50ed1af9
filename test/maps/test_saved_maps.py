# SPDX-License-Identifier: Apache-2.0
import pytest
from map_samples import random_map

from st3r_ros.errors import MapFileError
from st3r_ros.maps.open import check_model
from st3r_ros.maps.save import save_map

SHA = "ab" * 32


def test_a_map_fits_the_model_it_was_made_with(tmp_path):
    info = save_map(tmp_path / "map", random_map(), pair_model="mast3r", checkpoint_sha256=SHA)
    check_model(info, "mast3r", SHA)
    for arguments, sentence in (
        (("opencv", ""), "pair model 'mast3r', but this run uses 'opencv'"),
        (("mast3r", "cd" * 32), r"other weights \(SHA-256 abababababab\.\.\.\).*cdcdcdcdcdcd"),
        (("mast3r", ""), "none"),
    ):
        with pytest.raises(MapFileError, match=sentence):
            check_model(info, *arguments)
