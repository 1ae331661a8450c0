"""`/v1/providers`: what each provider takes."""

from __future__ import annotations

from typing import Any

from orchestrator.providers import PROVIDERS
from tests.api.conftest import Api, Open


def listed(api: Api) -> dict[str, Any]:
    response = api.get("/v1/providers")
    assert response.status_code == 200
    assert response.json is not None
    return {provider["name"]: provider for provider in response.json["providers"]}


def test_every_provider_is_listed_and_whether_it_is_on(open_api: Open) -> None:
    found = listed(open_api(EVOLINK_API_KEY=None))

    assert {name: provider["on"] for name, provider in found.items()} == {
        name: name != "evolink" for name in PROVIDERS
    }


def test_a_model_says_its_limits(api: Api) -> None:
    found = listed(api)

    [model] = found["hiapi"]["models"]
    assert model["name"] == "Nano-Banana-2"
    assert model["options"]["resolution"] == {"one_of": ["1K", "2K", "4K"], "default": "1K"}
    assert found["hiapi"]["support"]["n"] == "refused"
    assert found["evolink"]["models"][0]["options"]["prompt"]["max_length"] == 2000


def test_a_caller_without_a_key_is_told_nothing(api: Api) -> None:
    api.headers = {}

    assert api.get("/v1/providers").status_code == 401


def test_no_key_of_ours_is_in_the_answer(api: Api) -> None:
    assert "sk-provider" not in api.get("/v1/providers").text


def test_a_price_table_shows_in_the_list(open_api: Open) -> None:
    table = '{"unit": "USD", "prices": {"*": {"1K": 0.04, "*": 0.1}}}'

    found = listed(open_api(HIAPI_PRICES=table))

    assert found["hiapi"]["models"][0]["price"] == {"amount": 0.04, "unit": "USD"}
    assert found["evolink"]["models"][0]["price"] is None
