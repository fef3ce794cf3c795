"""Takes docs/images/data-manager.png: Label Studio's Data Manager with predictions made by Prelabel.

    LABEL_STUDIO_BIN=.venv/label-studio/bin/label-studio .venv/dev/bin/python -m tests.e2e.screenshots

`make screenshots` runs it. It starts a real Label Studio and a real `prelabel serve`, imports
docs/examples/reviews.csv, runs `prelabel connect` and `prelabel annotate`, and photographs the result in
headless Chromium. The file is replaced only after every step has succeeded. CHROMIUM and CHROMEDRIVER name
the programs where they are not on the PATH.
"""

import argparse
import csv
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from tests.e2e.conftest import ROOT, USER, label_studio, serving

REVIEWS = ROOT / "docs" / "examples" / "reviews.csv"
PICTURE = ROOT / "docs" / "images" / "data-manager.png"
CONFIG = """<View>
  <Text name="text" value="$review"/>
  <Choices name="sentiment" toName="text" choice="single">
    <Choice value="Positive"/>
    <Choice value="Negative"/>
  </Choices>
</View>"""
SIZE = {"width": 1500, "height": 722, "deviceScaleFactor": 1.25, "mobile": False}
"""Of the page, in CSS pixels: ten whole rows. The scale keeps text sharp on a dense screen."""
WAIT_SECONDS = 60
ROWS = 10
"""Rows in the picture, at least."""

SHOWN = {
    "tasks:id": 70,
    "tasks:data.review": 620,
    "tasks:predictions_results": 420,
    "tasks:predictions_score": 150,
    "tasks:predictions_model_versions": 230,
}
"""Visible columns and their widths."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURE)
    out: Path = parser.parse_args().out
    if not os.environ.get("LABEL_STUDIO_BIN"):
        sys.exit(
            "LABEL_STUDIO_BIN is not set: it names Label Studio's executable (make screenshots sets it)."
        )
    chromium, driver = program("CHROMIUM", "chromium"), program("CHROMEDRIVER", "chromedriver")
    key, password = secrets.token_hex(20), secrets.token_hex(20)
    # without it Label Studio rejects a backend on 127.0.0.1
    unblocked = {"LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "False"}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with (
            label_studio(folder, key, unblocked, password=password) as studio,
            serving(ROOT / "artifacts" / "imdb-cnn", folder / "prelabel.log") as backend,
        ):
            project = create_project(studio)
            target = [
                "--label-studio",
                url_of(studio),
                "--project",
                str(project),
                "--backend",
                url_of(backend),
            ]
            prelabel("connect", *target, key=key)
            prelabel("annotate", *target, key=key)
            view = create_view(studio, project)
            with browser(chromium, driver) as chrome:
                sign_in(chrome, url_of(studio), password)
                chrome.execute_script("localStorage.setItem('dm:table:density', 'compact')")
                chrome.get(f"{url_of(studio)}/projects/{project}/data?tab={view}")
                wait_for_predictions(chrome)
                picture = chrome.get_screenshot_as_png()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(picture)
    print(f"{out}: {len(picture) / 1000:.0f} kB")


def program(variable: str, name: str) -> str:
    found = os.environ.get(variable) or shutil.which(name)
    if not found:
        sys.exit(
            f"{name} is not installed: on Debian, apt install chromium chromium-driver; or set {variable}."
        )
    return found


def create_project(studio: httpx.Client) -> int:
    """A project with the reviews as tasks; their labels stay out of it."""
    with REVIEWS.open(encoding="utf-8", newline="") as file:
        tasks = [{"review": row["review"]} for row in csv.DictReader(file)]
    project: int = ok(studio.post("/api/projects", json={"title": "Film reviews", "label_config": CONFIG}))[
        "id"
    ]
    ok(studio.post(f"/api/projects/{project}/import", json=tasks))
    return project


def create_view(studio: httpx.Client, project: int) -> int:
    """A tab with the columns of interest, least certain predictions first."""
    columns = ok(studio.get("/api/dm/columns", params={"project": project}))["columns"]
    names = [
        f"{each['target']}:{'data.' if each.get('parent') == 'data' else ''}{each['id']}" for each in columns
    ]
    hidden = [name for name in names if name not in SHOWN]
    data = {
        "title": "Least certain first",
        "type": "list",
        "target": "tasks",
        "hiddenColumns": {"explore": hidden, "labeling": hidden},
        "columnsWidth": SHOWN,
        "columnsDisplayType": {},
        "ordering": ["tasks:predictions_score"],
        "gridWidth": 4,
        "filters": {"conjunction": "and", "items": []},
    }
    view: int = ok(studio.post("/api/dm/views", json={"project": project, "data": data}))["id"]
    return view


@contextmanager
def browser(chromium: str, driver: str) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--no-proxy-server",
        "--hide-scrollbars",
    ):
        options.add_argument(option)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SIZE)
        yield chrome
    finally:
        chrome.quit()


def sign_in(chrome: WebDriver, studio: str, password: str) -> None:
    chrome.get(f"{studio}/user/login/")
    chrome.find_element(By.NAME, "email").send_keys(USER)
    field = chrome.find_element(By.NAME, "password")
    field.send_keys(password)
    field.submit()
    WebDriverWait(chrome, WAIT_SECONDS).until(lambda page: "/user/login" not in page.current_url)


def wait_for_predictions(chrome: WebDriver) -> None:
    """Wait until the visible rows show scores in ascending order, and a label each."""

    def filled(page: WebDriver) -> bool:
        text = page.find_element(By.TAG_NAME, "body").text
        scores = [float(each) for each in re.findall(r"^[01]\.\d{3}$", text, re.MULTILINE)]
        labels = re.findall(r"choices: \[(?:Positive|Negative)\]", text)
        return len(scores) >= ROWS and len(labels) >= ROWS and scores == sorted(scores)

    WebDriverWait(chrome, WAIT_SECONDS).until(filled)


def prelabel(command: str, *options: str, key: str) -> None:
    """Run a command of Prelabel as a user does."""
    environment = os.environ | {"LABEL_STUDIO_API_KEY": key, "NO_PROXY": "*", "no_proxy": "*"}
    subprocess.run(
        [sys.executable, "prelabel.py", command, *options], cwd=ROOT, env=environment, check=True, timeout=300
    )


def url_of(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def ok(response: httpx.Response) -> Any:
    if not response.is_success:
        sys.exit(
            f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:2000]}"
        )
    return response.json()


if __name__ == "__main__":
    main()
