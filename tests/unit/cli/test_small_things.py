"""Messages of the command line that name the fix."""

import pytest
import yaml
from typer.testing import CliRunner

from neural_sparse.cli.main import app
from neural_sparse.errors import InputError, check_seed
from neural_sparse.mining.miner import MiningOptions
from neural_sparse.opensearch.guards import check_ids


def test_a_recipe_that_leaves_the_data_to_the_user_can_be_shown() -> None:
    done = CliRunner().invoke(app, ["recipes", "tiny-cpu"])
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.output)["train"] == []


def test_a_query_that_begins_with_a_dash() -> None:
    done = CliRunner().invoke(app, ["search", "index", "-5 degrees"], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert "goes behind --" in done.output


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_are_checked_before_the_work(seed: int) -> None:
    with pytest.raises(InputError, match="seed must be from 0 to 4294967295"):
        check_seed(seed)
    with pytest.raises(InputError, match="seed"):
        MiningOptions(seed=seed)


def test_ids_that_opensearch_refuses() -> None:
    check_ids(["é" * 256])
    with pytest.raises(
        InputError, match=r"id 'a\\ud800' of document 1 is no text: it holds half a surrogate pair"
    ):
        check_ids(["a", "a\ud800"])
    with pytest.raises(InputError, match="document 2 has no id"):
        check_ids(["a", "b", ""])
    with pytest.raises(InputError, match=r"1 document ids are longer than the 512 bytes .* of 514 bytes"):
        check_ids(["a", "é" * 257])
