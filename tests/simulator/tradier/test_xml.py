from xml.etree import ElementTree

from onetape.simulator.tradier.xml import to_xml


def test_lists_repeat_and_nothing_is_an_empty_element() -> None:
    tree = {"quotes": {"quote": [{"symbol": "A&B", "last": None, "ok": True}, {"symbol": "C"}]}}

    root = ElementTree.fromstring(to_xml(tree))

    assert root.tag == "quotes"
    assert [one.findtext("symbol") for one in root] == ["A&B", "C"]
    assert root[0].findtext("ok") == "true"
    assert root[0].findtext("last") == ""


def test_an_empty_answer_is_one_element() -> None:
    assert to_xml({"expirations": None}).endswith("\n<expirations/>")
