"""The build of the full station takes one processor for minutes: it begins first, while others run the other tests."""

import pytest

FULL_BUILD_TEST = "test_full_build.py"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name != FULL_BUILD_TEST)
