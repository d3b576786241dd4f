import pytest

from qrelay.config import RunConfig, parse_config
from qrelay.demo_config import demo_text
from qrelay.model import RunModel


def config(phase_offset, *, invert=False, stations="twin") -> RunConfig:
    wanted = f"invert = {str(invert).lower()}\nphase_offset = {phase_offset} "
    made = parse_config(demo_text().replace("phase_offset = 0 ", wanted))
    names = dict.fromkeys(("alice", "bob", "source", "receiver"), stations)
    return made.model_copy(update={"stations": made.stations.model_copy(update=names)})


@pytest.mark.parametrize("invert", [False, True])
def test_a_wrong_offset_shows_on_the_twin_and_a_found_one_is_right_on_boards(invert):
    """Boards have a phase that the run file does not know; a found offset corrects it."""
    right = RunModel(config('"auto"', invert=invert)).pair(2, 2).qber
    assert right == pytest.approx(0.0666, abs=2e-4)
    found = 3 + 8 * invert
    turned = RunModel.of_run(config('"auto"', invert=invert), {}, found).pair(2, 2).qber
    assert turned > right + 0.2
    boards = RunModel.of_run(config('"auto"', invert=invert, stations="/dev/null"), {}, found).pair(2, 2).qber
    assert boards == right
