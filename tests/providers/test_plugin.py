"""The plug-in examples/pixelmill: installed with pip, and its jobs brought to their outcomes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import orjson
import pytest
from click.testing import CliRunner

from examples.pixelmill.orchestrator_pixelmill import FAULTS, PixelMill
from orchestrator.cli import main
from orchestrator.jobs.model import Cost, ErrorCode, SettledBy, Status
from orchestrator.jobs.request import JobRequest
from orchestrator.jobs.validation import InvalidRequest
from orchestrator.jsonio import dump
from orchestrator.providers import BUILT_IN, PROVIDERS, Provider
from orchestrator.providers.listing import LIMITED, REFUSED
from orchestrator.providers.registry import GROUP
from orchestrator.settings.environment import ConfigError
from orchestrator.settings.settings import Settings
from orchestrator.steps.pause import ACCOUNT_ERRORS
from orchestrator.steps.poll import poll
from orchestrator.steps.submit import submit
from tests.providers.adapter import Cases
from tests.providers.contract import ProviderContract
from tests.support.fakes import API_KEY, Answer, FakeProvider, Harness, answer
from tests.webhooks.kit import Receiver

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "pixelmill"
PAGE = ROOT / "docs" / "adding-a-provider.md"
SECRET = "whsec_of_the_mill"
LINK = "https://pictures.pixelmill.example/1.png"

#: The documents that a built-in provider has as payload files.
DOCUMENTS: Mapping[str, Any] = {
    "request": {"model": "mill-1", "brief": {"words": "A windmill"}},
    "accepted": {"ticket": "t-1"},
    "milling": {"ticket": "t-1", "phase": "milling", "coins": None, "pictures": [], "fault": None},
    "done": {"ticket": "t-1", "phase": "done", "coins": 3, "pictures": [LINK], "fault": None},
    "broken": {
        "ticket": "t-1",
        "phase": "broken",
        "coins": 0,
        "pictures": [],
        "fault": {"code": "mill_broke", "message": "The wheel came off."},
    },
    "error": {"fault": {"code": "no_coins", "message": "Your purse is empty."}},
}
TICKET = answer(201, DOCUMENTS["accepted"])


# As a package --------------------------------------------------------------------------------


def wheel(folder: Path, name: str, entry_points: Mapping[str, str], *modules: Path) -> Path:
    """Return the wheel of a package with these modules. A real build would need a network."""
    path = folder / f"{name.replace('-', '_')}-0.1.0-py3-none-any.whl"
    about = f"{name.replace('-', '_')}-0.1.0.dist-info"
    files = {
        **{module.name: module.read_text("utf-8") for module in modules},
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[{GROUP}]\n"
        + "".join(f"{point} = {there}\n" for point, there in entry_points.items()),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
        record = "".join(f"{file},,\n" for file in [*files, f"{about}/RECORD"])
        archive.writestr(f"{about}/RECORD", record)
    return path


def install(package: Path, folder: Path) -> Path:
    """`pip install` into a folder of its own."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-index", "--no-deps", "--target", str(folder), str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def orchestrator(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [str(Path(sys.executable).parent / "orchestrator"), *arguments]
    env = {**os.environ, **variables}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed, as its own pyproject.toml describes it."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text("utf-8"))
    points = project["project"]["entry-points"][GROUP]
    modules = [PACKAGE / f"{name}.py" for name in project["tool"]["setuptools"]["py-modules"]]
    folder = tmp_path_factory.mktemp("pixelmill")
    made = wheel(folder, project["project"]["name"], points, *modules)
    return install(made, folder / "site")


def test_the_installed_package_is_listed_with_the_built_in_providers(installed: Path) -> None:
    result = orchestrator(
        "providers", "--json", PYTHONPATH=str(installed), PIXELMILL_API_KEY="sk-1"
    )

    assert result.returncode == 0, result.stderr
    listed = {view["name"]: view for view in orjson.loads(result.stdout)["providers"]}
    assert list(listed) == [*PROVIDERS, "pixelmill"]
    assert listed["pixelmill"]["on"]
    assert listed["pixelmill"]["title"] == "PixelMill"
    assert [model["name"] for model in listed["pixelmill"]["models"]] == ["mill-1", "mill-1-turbo"]


def test_its_settings_are_read_and_checked_like_those_of_the_others(mill: Harness) -> None:
    settings = {"PIXELMILL_POLL_SECONDS": "soon"}

    result = CliRunner().invoke(main, ["providers"], env=settings)

    assert result.exit_code == 2
    assert result.stderr.startswith(
        "Error: PIXELMILL_POLL_SECONDS must be a number from 0.1 to 3600; got soon"
    )


def test_the_page_of_the_built_in_providers_does_not_name_it(mill: Harness) -> None:
    result = CliRunner().invoke(main, ["providers", "--markdown"])

    assert "PixelMill" not in result.stdout
    assert "HiAPI" in result.stdout


@pytest.mark.server
def test_a_broken_plug_in_stops_every_command_with_one_line(tmp_path: Path) -> None:
    """test_registry has the other reasons."""
    (tmp_path / "broken.py").write_text("import no_such_module_at_all", "utf-8")
    made = wheel(tmp_path, "a-broken-one", {"oops": "broken:Broken"}, tmp_path / "broken.py")
    zipfile.ZipFile(made).extractall(tmp_path / "site")

    result = orchestrator("providers", PYTHONPATH=str(tmp_path / "site"))

    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    reason = "ModuleNotFoundError: No module named"
    assert line.startswith(f"Error: the provider plug-in 'oops' cannot be used ({reason}")
    assert line.endswith("Fix the plug-in or uninstall its package.")


def test_it_stays_short() -> None:
    assert len((PACKAGE / "orchestrator_pixelmill.py").read_text("utf-8").splitlines()) < 150


# Its jobs ------------------------------------------------------------------------------------


@pytest.fixture
def mill(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., Harness], fake_provider: FakeProvider
) -> Harness:
    """A process with PixelMill installed and on; the fake provider is PixelMill."""
    monkeypatch.setitem(cast("dict[str, Any]", PROVIDERS), "pixelmill", PixelMill())
    return start(
        PIXELMILL_API_KEY=API_KEY,
        PIXELMILL_BASE_URL=fake_provider.url,
        PIXELMILL_WEBHOOK_SECRET=SECRET,
    )


def placed(harness: Harness, **options: Any) -> str:
    """A checked job in the ledger. The request's schema knows what was installed at its import."""
    unified = {"prompt": "A windmill", "aspect_ratio": "3:2", **options}
    request, now = JobRequest("pixelmill", "nano-banana-2", options=unified), harness.clock()
    PROVIDERS["pixelmill"].check(request)
    return harness.ledger.create(request, now=now, deadline_at=now + 3_600_000).job_id


def submitted(harness: Harness, *answers: Answer) -> str:
    harness.provider.answers(*answers)
    job_id = placed(harness)
    submit(harness.runtime, job_id)
    return job_id


def test_a_job_is_submitted_and_its_signed_callback_settles_it(mill: Harness) -> None:
    receiver = Receiver.on(mill)
    job_id = submitted(mill, TICKET)
    [sent] = mill.provider.requests
    body, path = dump(DOCUMENTS["done"]), receiver.path(job_id, "pixelmill")

    unsigned = receiver.send(path, body)
    settled = receiver.send(path, body, headers=sealed(body, mill.clock() // 1000))
    repeated = receiver.send(path, body, headers=sealed(body, mill.clock() // 1000))

    assert (sent.method, sent.path) == ("POST", "/jobs")
    assert sent.headers["authorization"] == f"Bearer {API_KEY}"
    assert sent.headers["pixelmill-once"] == f"{job_id}.1"
    assert sent.json == {
        "model": "mill-1",
        "brief": {"words": "A windmill", "shape": "3:2"},
        "notify": mill.runtime.settings.public_url + path,  # type: ignore[operator]
    }
    assert (unsigned.status_code, settled.json) == (401, {"result": "settled"})
    assert repeated.json == {"result": "duplicate"}
    job = mill.job(job_id)
    assert (job.status, job.settled_by) == (Status.SUCCEEDED, SettledBy.CALLBACK)
    assert [image.source_url for image in job.images] == [LINK]
    assert job.cost == Cost(3, "coins")


def test_a_job_whose_callback_is_lost_is_polled(mill: Harness) -> None:
    job_id = submitted(
        mill, TICKET, *(answer(200, DOCUMENTS[name]) for name in ("milling", "broken"))
    )

    for _ in range(2):
        mill.clock.forward(mill.seconds_until_due(job_id) or 0)
        poll(mill.runtime, job_id)

    assert [sent.path for sent in mill.provider.requests] == ["/jobs", "/jobs/t-1", "/jobs/t-1"]
    job = mill.job(job_id)
    assert (job.status, job.settled_by) == (Status.FAILED, SettledBy.POLL)
    assert job.error is not None
    assert (job.error.code, job.error.retryable) == (ErrorCode.GENERATION_FAILED, True)
    assert (job.error.message, job.error.provider_code) == ("The wheel came off.", "mill_broke")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_submission_is_final_or_waited_for_as_its_table_says(
    mill: Harness, fault: str
) -> None:
    code, retryable = FAULTS[fault]

    job = mill.job(submitted(mill, answer(418, {"fault": {"code": fault, "message": "No."}})))

    if retryable or code in ACCOUNT_ERRORS:
        assert job.status is Status.QUEUED
    else:
        assert job.error is not None
        assert (job.status, job.error.code) == (Status.FAILED, code)


def test_what_it_does_not_take_is_refused_by_name() -> None:
    request = JobRequest("pixelmill", "mill-1", options={"prompt": "x", "resolution": "2K"})

    with pytest.raises(InvalidRequest, match="PixelMill does not accept resolution"):
        PixelMill().check(request)


def test_its_prices_may_be_set_too(mill: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELMILL_PRICES", '{"unit": "coins", "prices": {"mill-2": 1}}')

    with pytest.raises(ConfigError, match="prices of the models mill-1, mill-1-turbo"):
        Settings.from_env()


def sealed(body: bytes, time: int) -> dict[str, str]:
    """PixelMill's headers."""
    seal = hmac.new(SECRET.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
    return {"PixelMill-Time": str(time), "PixelMill-Seal": seal}


# The contract of every adapter ---------------------------------------------------------------


class TestPixelMill(ProviderContract):
    """The suite that the built-in adapters inherit, on one that is not built in."""

    name = "pixelmill"
    model = "mill-1"
    unified: ClassVar[dict[str, Any]] = {
        "prompt": "A cat",
        "images": ["https://e.example/a.png", "http://e.example/b"],
        "aspect_ratio": "3:2",
        "output_format": "jpg",
    }
    body: ClassVar[dict[str, Any]] = {
        "model": "mill-1",
        "brief": {
            "words": "A cat",
            "sketches": ["https://e.example/a.png", "http://e.example/b"],
            "shape": "3:2",
        },
        "file_type": "jpeg",
    }
    families: ClassVar[dict[str, dict[str | None, str]]] = {"nano-banana-2": {None: "mill-1"}}
    callback_path = ("notify",)
    key_header = "PixelMill-Once"
    support: ClassVar[list[str]] = [LIMITED, LIMITED, LIMITED, REFUSED, LIMITED, REFUSED]
    submit_path = "/jobs"
    query_path = "/jobs/{}"
    documented = ("request",)
    refused: ClassVar[dict[str, dict[str, Cases]]] = {
        model: {
            "prompt": [("", "1 to 4000"), ("x" * 4001, "1 to 4000"), (7, "a string")],
            "images": [
                (["https://e.example/a.png"] * 5, "at most 4 URLs"),
                (["ftp://e.example/a.png"], "an http(s) URL"),
            ],
            "aspect_ratio": [("16:9", "one of 1:1, 3:2, 2:3"), (None, "not null")],
            "output_format": [("webp", "one of png, jpeg"), ([], "png, jpeg")],
        }
        for model in ("mill-1", "mill-1-turbo")
    }
    id_field = "ticket"
    state_field = "phase"
    success = "done"
    failure = "broken"

    @classmethod
    def rows(cls) -> dict[str, list[Any]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(cast("dict[str, Any]", BUILT_IN), cls.name, PixelMill())
            return {**super().rows(), "each_answer": sorted({*DOCUMENTS} - {"request"})}

    @property
    def provider(self) -> Provider:
        return PixelMill()

    def payload(self, name: str) -> bytes:
        return dump(DOCUMENTS[name])

    def smallest(self, model: str) -> dict[str, Any]:
        return {"model": model, "brief": {"words": "A cat"}}

    def failed_oddly(self, reason: Any) -> dict[str, Any]:
        return self.task(phase="broken", fault=reason)

    def with_links(self, *links: Any) -> dict[str, Any]:
        return self.task(pictures=list(links))

    def enveloped(self, task: Any) -> dict[str, Any]:
        return task if isinstance(task, dict) else {"data": task}


# Its page ------------------------------------------------------------------------------------


def test_the_pages_snippets_are_the_examples_own_lines() -> None:
    sources = [file.read_text("utf-8") for file in PACKAGE.iterdir() if file.is_file()]
    blocks = re.findall(r"(?ms)^```(?:python|toml)\n(.*?)^```", PAGE.read_text("utf-8"))

    assert len(blocks) > 3
    assert [block for block in blocks if not any(block in source for source in sources)] == []
