"""What a decision says of itself, and what is read of it."""

import pytest
import yaml
from small_stores import CLASSES

from cloudseg.ensemble.deciding import decide
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.masking import ImageRule
from cloudseg.ensemble.surface import read_surface
from cloudseg.errors import DamagedFileError
from cloudseg.postprocess import Cut


def test_a_sharpened_decision_says_its_level_as_the_blend_has_it_and_as_a_probability(surface):
    options = {"how": "fixed", "thresholds": [0.7, 0.5], "min_sizes": [0, 0], "tune_min_sizes": [0], "sharpen": 0.5}
    decision, _ = decide(*read_surface(surface[2]), classes=CLASSES, rule=DecisionRule(**options))
    assert decision.plain()["sharpen"] == 0.5
    assert decision.plain()["classes"]["Fish"] == {"level": 179, "threshold": 0.4927, "sharpened": 0.702, "min_size": 0}


@pytest.mark.parametrize("how", ["fixed", "tune"])
@pytest.mark.parametrize("sharpen", [None, 0.5])
def test_a_decision_reads_back(surface, tmp_path, how, sharpen):
    options = {
        "how": how,
        "thresholds": [0.7, 0.5],
        "min_sizes": [0, 10],
        "tune_min_sizes": [0, 60],
        "sharpen": sharpen,
    }
    decision, _ = decide(*read_surface(surface[2]), classes=CLASSES, rule=DecisionRule(**options))
    (tmp_path / "decision.yaml").write_text(yaml.safe_dump(decision.plain(), sort_keys=False))
    assert Decision.read(tmp_path / "decision.yaml", CLASSES) == decision
    assert decision.has_honest_score
    with pytest.raises(DamagedFileError, match="expected a decision on each of Fish, Sugar, got Fish, Flower"):
        Decision.read(tmp_path / "decision.yaml", ["Fish", "Sugar"])


@pytest.mark.parametrize("level", [256, -1, 1.5, "128", None])
def test_a_level_that_no_pixel_has_is_a_damaged_decision(tmp_path, level):
    plain = Decision("fixed", 1, ImageRule.of_cuts({"Fish": Cut(1, 0)})).plain()
    plain["classes"]["Fish"]["level"] = level
    (tmp_path / "decision.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(DamagedFileError, match="not a whole decision"):
        Decision.read(tmp_path / "decision.yaml", ["Fish"])


def test_a_decision_on_no_number_of_images_is_damaged(tmp_path):
    plain = Decision("fixed", 1, ImageRule.of_cuts({"Fish": Cut(1, 0)})).plain() | {"images": "1"}
    (tmp_path / "decision.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(DamagedFileError, match="not a whole decision"):
        Decision.read(tmp_path / "decision.yaml", ["Fish"])
