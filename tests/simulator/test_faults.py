import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given, strategies as st

from onetape.errors import InvalidRequest
from onetape.simulator.faults import (
    Answer,
    BodyKind,
    Close,
    Drop,
    Duplicate,
    FailureKind,
    Faults,
    FaultScript,
    Garbage,
    GarbageKind,
    Mute,
    Reset,
    RestActions,
    RestRule,
    Rule,
    Skew,
    Stage,
    StreamAction,
    StreamActions,
    StreamRule,
    TradierActions,
    TradierRule,
    TradierStreamActions,
    TradierStreamRule,
    parse_script,
)
from onetape.simulator.tradier.actions import STAGES


def faults(*rules: Rule, seed: int = 0) -> Faults:
    return Faults(FaultScript(seed=seed, rules=rules), now=0.0)


def strikes(rules: Faults, *, times: list[float]) -> list[bool]:
    return [rules.for_stream(Stage.LIVE, "options", now) is not None for now in times]


def test_nothing_goes_wrong_without_a_script() -> None:
    quiet = Faults()

    assert quiet.for_stream(Stage.DATA, "options", 1.0) is None
    assert quiet.for_rest("/v3/snapshot", 1.0) is None
    assert quiet.statistics() == ()


def test_a_rule_strikes_at_its_stage_and_cluster_only() -> None:
    rules = faults(StreamRule(action=Drop(), cluster="opt*", stage=Stage.ACKED))

    assert rules.for_stream(Stage.ACKED, "stocks", 0) is None
    assert rules.for_stream(Stage.LIVE, "options", 0) is None
    assert rules.for_stream(Stage.ACKED, "options", 0) == Drop()


def test_a_rule_without_a_stage_strikes_at_the_first_stage_of_its_action() -> None:
    rules = faults(StreamRule(action=Duplicate()), StreamRule(action=Drop()))

    assert rules.for_stream(Stage.DATA, "options", 0) == Duplicate()
    assert rules.for_stream(Stage.LIVE, "options", 0) == Drop()


def test_a_rule_strikes_between_its_times_and_no_more_often_than_its_count() -> None:
    rules = faults(StreamRule(action=Drop(), after_s=2, for_s=3, skip=1, count=2))

    struck = strikes(rules, times=[0, 1.9, 2, 2.5, 3, 4, 4.9, 5])

    assert struck == [False, False, False, True, True, False, False, False]


def test_the_first_rule_that_strikes_wins_and_the_next_keeps_its_count() -> None:
    rules = faults(
        StreamRule(action=Drop(), count=1),
        StreamRule(action=Close(), stage=Stage.LIVE, count=1),
    )

    first, second, third = (rules.for_stream(Stage.LIVE, "stocks", now) for now in (0, 1, 2))

    assert (first, second, third) == (Drop(), Close(), None)
    assert rules.statistics() == ((1, 1), (1, 1))


def test_a_rest_rule_strikes_at_its_path_and_page_only() -> None:
    rules = faults(RestRule(action=Reset(), path="/v3/trades/*", pages="next"))

    assert rules.for_rest("/v3/trades/SPY", 0) is None
    assert rules.for_rest("/v3/quotes/SPY", 0, cursor=True) is None
    assert rules.for_rest("/v3/trades/SPY", 0, cursor=True) == Reset()


def test_added_rules_come_after_the_others_whose_counts_go_on() -> None:
    rules = faults(StreamRule(action=Drop(), count=1))
    assert rules.for_stream(Stage.LIVE, "options", 9) == Drop()

    rules.add([StreamRule(action=Mute(), after_s=1), RestRule(action=Reset())], now=10)

    assert rules.for_stream(Stage.LIVE, "options", 10) is None
    assert rules.for_stream(Stage.LIVE, "options", 11) == Mute()
    assert [type(rule.action) for rule in rules.script.rules] == [Drop, Mute, Reset]


def test_clearing_lets_nothing_go_wrong() -> None:
    rules = faults(StreamRule(action=Drop()), seed=4)

    rules.clear(now=11)

    assert rules.for_stream(Stage.LIVE, "options", 11) is None
    assert rules.script == FaultScript()


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"{", "not a fault script"),
        (b'{"rules":[{"where":"stream","action":{"do":"melt"}}]}', "melt"),
        (b'{"rules":[{"where":"stream","action":{"do":"drop"},"often":1}]}', "often"),
        (b'{"rules":[{"where":"stream","action":{"do":"drop"},"probability":2}]}', "probability"),
        (
            b'{"rules":[{"where":"stream","action":{"do":"cross"},"stage":"auth"}]}',
            "strikes at data",
        ),
        (b'{"rules":[{"where":"rest","action":{"do":"drop"}}]}', "drop"),
        (b'{"rules":[{"where":"rest","action":{"do":"answer","status":299}}]}', "299"),
        (b'{"rules":[{"where":"stream","action":{"do":"refuse","status":499}}]}', "499"),
        (b'{"seed":"\xff"}', "not a fault script"),
        (b'{"rules":[{"where":"tradier","action":{"do":"answer"}}]}', "answer"),
        (b'{"rules":[{"where":"tradier","action":{"do":"fail","status":299}}]}', "299"),
        (
            b'{"rules":[{"where":"tradier_stream","stage":"auth","action":{"do":"drop"}}]}',
            "strikes at accept",
        ),
    ],
)
def test_a_script_that_cannot_be_meant_is_refused_and_says_where(body: bytes, hint: str) -> None:
    with pytest.raises(InvalidRequest, match=hint):
        parse_script(body)


@pytest.mark.parametrize("action", get_args(StreamActions), ids=lambda cls: cls.__name__)
def test_every_stream_action_survives_the_wire_with_its_defaults(
    action: type[StreamAction],
) -> None:
    rule = StreamRule(action=action())  # pyright: ignore[reportArgumentType] - one of the union
    script = FaultScript(rules=(rule,))

    assert parse_script(msgspec.json.encode(script)) == script
    assert rule.at is action.stages[0]


@pytest.mark.parametrize("action", get_args(RestActions), ids=lambda cls: cls.__name__)
def test_every_rest_action_survives_the_wire_with_its_defaults(
    action: type[RestActions],
) -> None:
    script = FaultScript(rules=(RestRule(action=action()),))

    assert parse_script(msgspec.json.encode(script)) == script


@pytest.mark.parametrize("action", get_args(TradierActions), ids=lambda cls: cls.__name__)
def test_every_action_of_tradiers_rest_survives_the_wire_with_its_defaults(
    action: type[TradierActions],
) -> None:
    script = FaultScript(rules=(TradierRule(action=action()),))

    assert parse_script(msgspec.json.encode(script)) == script


@pytest.mark.parametrize("action", get_args(TradierStreamActions), ids=lambda cls: cls.__name__)
def test_every_action_of_tradiers_streams_survives_the_wire_and_has_a_stage_there(
    action: type[StreamAction],
) -> None:
    rule = TradierStreamRule(action=action())  # pyright: ignore[reportArgumentType] - one of the union
    script = FaultScript(rules=(rule,))

    assert parse_script(msgspec.json.encode(script)) == script
    assert rule.at in STAGES


def test_tradiers_rules_strike_at_their_paths_stages_and_transports_only() -> None:
    rules = faults(
        TradierRule(action=Reset(), path="/v1/markets/options/*"),
        TradierStreamRule(action=Drop(), transport="http", stage=Stage.SUBSCRIBE),
    )

    assert rules.for_tradier("/v1/markets/quotes", 0) is None
    assert rules.for_tradier("/v1/markets/options/chains", 0) == Reset()
    assert rules.for_tradier_stream(Stage.SUBSCRIBE, "websocket", 0) is None
    assert rules.for_tradier_stream(Stage.LIVE, "http", 0) is None
    assert rules.for_tradier_stream(Stage.SUBSCRIBE, "http", 0) == Drop()
    assert rules.for_rest("/v1/markets/options/chains", 0) is None


stream_rules = st.builds(
    StreamRule,
    action=st.sampled_from([Drop(), Mute(), Garbage(), Skew()]),
    after_s=st.sampled_from([0.0, 1.0, 5.0]),
    for_s=st.sampled_from([None, 0.5, 4.0]),
    skip=st.integers(0, 3),
    count=st.sampled_from([None, 1, 2]),
    probability=st.sampled_from([0.0, 0.3, 1.0]),
    cluster=st.sampled_from(["*", "options", "s*"]),
    stage=st.none(),
)
questions = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.sampled_from(["options", "stocks"]),
        st.sampled_from([Stage.LIVE, Stage.DATA]),
    ),
    max_size=30,
)
Questions = list[tuple[float, str, Stage]]


def answers(rules: list[StreamRule], asked: Questions, seed: int) -> list[StreamActions | None]:
    engine, now, out = faults(*rules, seed=seed), 0.0, list[StreamActions | None]()
    for elapsed, cluster, stage in asked:
        now += elapsed
        out.append(engine.for_stream(stage, cluster, now))
    return out


@given(rules=st.lists(stream_rules, max_size=4), asked=questions, seed=st.integers(0, 9))
def test_the_same_seed_and_questions_give_the_same_answers(
    rules: list[StreamRule], asked: Questions, seed: int
) -> None:
    assert answers(rules, asked, seed) == answers(rules, asked, seed)


@given(rule=stream_rules, asked=questions, seed=st.integers(0, 9))
def test_no_rule_strikes_outside_its_occasion(
    rule: StreamRule, asked: Questions, seed: int
) -> None:
    engine, now, struck, chances = faults(rule, seed=seed), 0.0, 0, 0
    end = None if rule.for_s is None else rule.after_s + rule.for_s

    for elapsed, cluster, stage in asked:
        now += elapsed
        spent = rule.count is not None and struck >= rule.count
        due = now >= rule.after_s and (end is None or now < end) and not spent
        matches = stage is rule.at and (
            rule.cluster in {"*", cluster} or (cluster == "stocks" and rule.cluster == "s*")
        )
        hit = engine.for_stream(stage, cluster, now) is not None
        chances += due and matches
        struck += hit
        assert not hit or (due and matches), "struck when it may not"
        assert not hit or chances > rule.skip, "struck a chance it should have skipped"
        if due and matches and chances > rule.skip and rule.probability in {0.0, 1.0}:
            assert hit == (rule.probability == 1.0), "the dice are loaded"
    assert engine.statistics() == ((chances, struck),)


@given(rule=stream_rules, other=stream_rules, asked=questions)
def test_adding_a_rule_behind_changes_nothing_about_those_before(
    rule: StreamRule, other: StreamRule, asked: Questions
) -> None:
    alone, both = answers([rule], asked, 0), answers([rule, other], asked, 0)

    assert [b for a, b in zip(alone, both, strict=True) if a is not None] == [
        a for a in alone if a is not None
    ]


def test_dice_fall_about_as_often_as_they_should() -> None:
    rules = faults(StreamRule(action=Drop(), probability=0.25), seed=3)

    struck = sum(strikes(rules, times=[0.0] * 2000))

    assert 400 < struck < 600


def test_two_rules_of_one_probability_do_not_share_their_dice() -> None:
    rule = RestRule(action=Answer(), probability=0.5)
    one, two = faults(rule), faults(RestRule(action=Reset(), count=1), rule)
    two.for_rest("/", 0)

    assert [one.for_rest("/", 0) for _ in range(30)] != [two.for_rest("/", 0) for _ in range(30)]


# docs/simulator.md

DOCS = (Path(__file__).parents[2] / "docs/simulator.md").read_text("utf-8")
EXAMPLES: list[str] = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
ACTIONS = tuple(
    dict.fromkeys(
        action
        for union in (StreamActions, RestActions, TradierActions, TradierStreamActions)
        for action in get_args(union)
    )
)
NAMES = sorted({action.__struct_config__.tag for action in ACTIONS})


@pytest.mark.parametrize("name", [*NAMES, *Stage, *GarbageKind, *BodyKind, *FailureKind])
def test_every_word_of_a_script_is_documented(name: str) -> None:
    assert f"`{name}`" in DOCS


@pytest.mark.parametrize("struct", [StreamRule, RestRule, TradierRule, TradierStreamRule, *ACTIONS])
def test_every_field_of_a_script_is_documented(struct: type[msgspec.Struct]) -> None:
    for name in struct.__struct_fields__:
        assert name == "action" or re.search(rf"`{name}\b", DOCS), name


def test_the_examples_of_the_documentation_are_scripts_and_show_every_action() -> None:
    rules = [rule for block in EXAMPLES for rule in parse_script(block.encode()).rules]

    shown = {type(rule.action) for rule in rules}
    assert shown == set(ACTIONS)
