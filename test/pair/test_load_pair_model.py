# SPDX-License-Identifier: Apache-2.0
import pytest

from st3r_ros.errors import ConfigError
from st3r_ros.pair import PAIR_MODELS, load_pair_model


@pytest.mark.parametrize("name", PAIR_MODELS)
def test_every_model_on_the_list_loads_and_knows_its_name(name):
    assert load_pair_model(name).name == name


def test_an_unknown_model_is_named_together_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'nonsense'.*opencv"):
        load_pair_model("nonsense")


@pytest.mark.parametrize("name", PAIR_MODELS)
def test_a_checkpoint_that_does_not_exist_is_named(name, tmp_path):
    with pytest.raises(ConfigError, match=r"weights\.pth.*does not exist"):
        load_pair_model(name, checkpoint=str(tmp_path / "weights.pth"))


def test_a_model_without_weights_takes_no_checkpoint(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"weights")
    with pytest.raises(ConfigError, match="no weights"):
        load_pair_model("opencv", checkpoint=str(tmp_path / "weights.pth"))
