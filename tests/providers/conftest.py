import pytest

pytest.register_assert_rewrite(
    "tests.providers.adapter", "tests.providers.answers", "tests.providers.contract"
)
