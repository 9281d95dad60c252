"""Seconds of training until a score is reached."""

from toolbox import cache, settings
from toolbox.errors import InputError
from toolbox.machine import Place

import pytest
import reaching
from measuring import make_pairs

import train


class Counted:
    """Learns so much a turn."""

    def __init__(self, gain, length=10**9):
        self.gain, self.length, self.turns = gain, length, 0

    def is_over(self):
        return self.turns >= self.length

    def steps(self, count):
        assert count == reaching.TURN
        self.turns += 1

    def score(self):
        return self.gain * self.turns


def test_who_has_reached_the_score_stops_and_who_never_does_is_given_up():
    ways = {"fast": Counted(0.4), "slow": Counted(0.1), "never": Counted(0)}
    ways["short"] = Counted(0.1, length=3)
    found = reaching.seconds_to(ways, 0.75, limit=1e-2)
    assert found["fast"]["steps"] == 2 * reaching.TURN and found["fast"]["score"] == 0.8
    assert ways["fast"].turns == 2 and ways["slow"].turns == 8
    assert found["never"] is None and found["short"] is None and ways["short"].turns == 3


# The textbook's reading leaves its files open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_all_three_learn_from_the_same_pictures(tmp_path, monkeypatch):
    for name, value in settings.settings_of(vars(train)).items():
        monkeypatch.setattr(train, name, value)
    monkeypatch.setattr(cache, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(reaching, "TURN", 2)
    folder = str(make_pairs(tmp_path / "made", 64, 64, 3, (".png", ".png"), 12))
    goal = dict(score=0.02, split="test", lengths={"muon": 20, "adamw": 20})
    goal |= dict(arguments=["image_size=32,32", "features=4,8", "batch_size=2"])
    goal |= dict(size=(32, 32), features=(4, 8))
    monkeypatch.setitem(reaching.GOALS, folder, goal)
    found = reaching.measure_reaching(Place("cpu", "fp32"), folder, "", seeds=1, limit=60)
    assert found["seeds"][0].keys() == {"ours, muon", "ours, adamw", "textbook"}
    assert all(row["score"] >= 0.02 for row in found["seeds"][0].values())
    assert found["times as fast as"].keys() == {"ours, adamw", "textbook"}
    with pytest.raises(InputError, match="score_on is 'moon'; expected one of streets, camvid"):
        reaching.measure_reaching(Place("cpu", "fp32"), "moon", "", seeds=1)
