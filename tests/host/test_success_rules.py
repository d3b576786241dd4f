import pytest

from qrelay.errors import ConfigError
from qrelay.success_rules import OPPOSITE_SIGN, SAME_SIGN, success_rule

NAMES = ["m1_plus", "m1_minus", "m2_plus", "m2_minus"]


def clicks(pattern):
    return {i for i in range(8) if pattern >> i & 1}


def test_one_per_node_is_exactly_one_at_each_node():
    rule = success_rule("one-per-node", NAMES)
    assert len(rule.table) == 256
    for pattern, outcome in enumerate(rule.table):
        at_m1, at_m2 = clicks(pattern) & {0, 1}, clicks(pattern) & {2, 3}
        success = len(at_m1) == 1 and len(at_m2) == 1 and not clicks(pattern) - {0, 1, 2, 3}
        assert (outcome != 0) == success
        if success:
            same = (0 in at_m1) == (2 in at_m2)
            assert (outcome in SAME_SIGN) == same
            assert (outcome in OPPOSITE_SIGN) == (not same)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_n_fold(count):
    rule = success_rule(f"{count}-fold", NAMES)
    for pattern, outcome in enumerate(rule.table):
        assert (outcome != 0) == (pattern < 16 and len(clicks(pattern)) == count)
    assert len({outcome for outcome in rule.table if outcome}) == len(rule.outcomes)


def test_single_any_and_bell():
    assert success_rule("single", NAMES).table[:9] == (0, 1, 2, 0, 3, 0, 0, 0, 4)
    assert success_rule("any", NAMES).table[0b1011] == 3
    bell = success_rule("time-bin-bell", NAMES)
    assert bell.windows
    assert bell.table[0b1001] == bell.table[0b0110] == 1
    assert bell.table[0b0011] == bell.table[0b1100] == 2
    assert sum(outcome > 0 for outcome in bell.table) == 4


def test_patterns_by_name_and_number():
    rule = success_rule({"m1_plus m2_plus": 5, "1 3": 6}, NAMES)
    assert rule.table[0b0101] == 5
    assert rule.table[0b1010] == 6
    assert sum(outcome > 0 for outcome in rule.table) == 2


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("one-per-nod", "receiver.success_rule: no rule 'one-per-nod'; there are one-per-node, single"),
        ({"m1_plus m3": 1}, "receiver.success_rule: no detector 'm3' in 'm1_plus m3'; there are m1_plus"),
        ({"m1_plus": 1, "0": 2}, "receiver.success_rule: pattern '0' is empty or given twice"),
    ],
)
def test_wrong_rules_are_explained(rule, message):
    with pytest.raises(ConfigError) as caught:
        success_rule(rule, NAMES)
    assert str(caught.value).startswith(message)
