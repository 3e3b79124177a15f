import typing

import msgspec
import pytest

from onetape.massive import notices


@pytest.mark.parametrize("notice", typing.get_args(notices.Notice))
def test_every_notice_has_a_tag_of_its_own_and_is_frozen(notice: type[msgspec.Struct]) -> None:
    config = notice.__struct_config__
    tags = [other.__struct_config__.tag for other in typing.get_args(notices.Notice)]

    assert config.frozen
    assert tags.count(config.tag) == 1


def test_a_frame_to_send_is_not_shown_because_it_may_be_the_login() -> None:
    assert "hunter2" not in repr(notices.SendText(b'{"action":"auth","params":"hunter2"}'))


@pytest.mark.parametrize("field", notices.FeedPolicy.__struct_fields__)
def test_a_policy_refuses_what_cannot_be(field: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({field: -1}, notices.FeedPolicy)
