import pytest

pytest.register_assert_rewrite("tests.providers.answers", "tests.providers.contract")
