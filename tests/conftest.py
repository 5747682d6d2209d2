"""Order of the tests: files that take minutes begin first, so that no process is left alone with one at the end."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the integration tests first; the order is otherwise kept."""
    items.sort(key=lambda item: "integration" not in item.path.parts)
