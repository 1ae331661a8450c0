"""The schemas of our answers allow what the answers have."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.jobs.answer_schemas import ImageSchema
from orchestrator.jobs.model import Copy, Image
from orchestrator.jobs.views import job_view
from orchestrator.ledger import Ledger
from tests.ledger import kit
from tests.ledger.kit import NOW


def test_what_is_unknown_of_an_image_may_be_null_and_nothing_else(ledger: Ledger) -> None:
    whole = Copy("a.png", "5f", 9, 8, 7, "image/png", NOW, None, check_error="it is cut off")
    images = (Image(""), Image("https://cdn.example.com/0.png", NOW, whole, error="404"))
    job = replace(kit.job(ledger, kit.settled(ledger)), images=images)
    unknown, known = job_view(job, None)["images"]

    nullable = {name for name, field in ImageSchema().fields.items() if field.allow_none}

    assert nullable == {name for name, value in unknown.items() if value is None}
    assert None not in known.values()
