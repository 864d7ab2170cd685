"""Takes the pictures of the documentation: ``python -m demo.screenshots``, or ``make screenshots``.

Fills a database with an incident, serves it, and takes a picture of each page in Chromium. A page
that no other names here is found by its first link. Needs Debian's ``chromium`` and
``chromium-driver``, and ``pngquant``, which makes the pictures small.
"""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import django
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By

from demo.processes import DemoFailed, Processes, free_port

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PROGRAMS = "chromium", "chromedriver", "pngquant"
SCREEN, PHONE = 1280, 390
#: The longest part of a page that a picture shows, in pixels, and the most bytes of a picture.
LONGEST, MOST = 1400, 150_000


def main(language="en-us", folder=IMAGES):
    """Take all pictures; return the exit status."""
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        print(f"Not installed: {', '.join(missing)}.")
        return 1
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as run:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="demo.settings", DEMO_FOLDER=run, DEMO_LANGUAGE=language
        )
        django.setup()
        from demo import database
        from demo.incident import Incident

        database.prepare(Path(run))
        incident = Incident()
        incident.fill()
        port = free_port()
        web = f"http://127.0.0.1:{port}"
        try:
            with Processes(Path(run)) as processes:
                processes.start("web server", "manage.py", "runserver", "--noreload", str(port))
                browser = chromium()
                try:
                    processes.wait_for(lambda: reaches(browser, web), 60, "the web server")
                    log_in(browser, web)
                    for path in pages(browser, web, incident):
                        print(path)
                        take(browser, folder / f"{path}.png")
                finally:
                    browser.quit()
        except DemoFailed as err:
            print(err)
            return 1
    return 0


def chromium():
    """Return a browser without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def reaches(browser, web):
    """Return whether the web server shows its page for logging in."""
    try:
        browser.get(f"{web}/accounts/login/")
        return bool(browser.find_elements(By.NAME, "username"))
    except WebDriverException:
        return False


def log_in(browser, web):
    """Log in as the user of the demo."""
    from demo.database import LOGIN

    browser.find_element(By.NAME, "username").send_keys(LOGIN)
    password = browser.find_element(By.NAME, "password")
    password.send_keys(LOGIN)
    password.submit()
    browser.get(f"{web}/operations/")


def pages(browser, web, incident):
    """Open each page, and yield the name of its picture: first the best examples, then all others.

    Operations is opened in the width of a phone, too.
    """
    from django.urls import resolve, reverse

    queue = [
        reverse("router-operations"),
        reverse("router-messages"),
        reverse("router-broadcast", args=[incident.message.pk]),
        reverse("router-conversation", args=[incident.others[0].pk]),
        reverse("router-backend", args=[incident.failing.pk]),
        reverse("router-waiting-group", args=[incident.failing.pk, "held"]),
        reverse("router-draft", args=[incident.draft.pk]),
        reverse("router-action", args=[incident.action.pk]),
        reverse("router-write"),
    ]
    root, seen = reverse("router-operations"), set()
    while queue:
        path = queue.pop(0)
        name = resolve(urlsplit(path).path).url_name.removeprefix("router-")
        if name in seen:
            continue
        seen.add(name)
        browser.set_window_size(SCREEN, 900)
        browser.get(web + path)
        links = [
            urlsplit(link.get_attribute("href") or "")
            for link in browser.find_elements(By.CSS_SELECTOR, ".router-pages a")
        ]
        queue += [
            link.path
            for link in links
            if link.path.startswith(root) and not link.path.endswith((".csv", ".jsonl"))
        ]
        yield name
        if name == "operations":
            # Chromium's window is no narrower than 500 pixels
            size = {"width": PHONE, "height": 844, "deviceScaleFactor": 1, "mobile": True}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get(web + path)
            yield f"{name}-phone"
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def take(browser, file):
    """Take a picture of the page that is open, down to its end but not too long."""
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {
        "x": 0, "y": 0, "width": size["width"], "height": min(size["height"], LONGEST), "scale": 1,
    }  # fmt: skip
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
    )
    file.write_bytes(base64.b64decode(shot["data"]))
    command = ["pngquant", "--force", "--skip-if-larger", "--strip", "--ext=.png", "64", str(file)]
    subprocess.run(command, check=False)  # it ends with 98 if the picture would get larger
    if file.stat().st_size > MOST:
        raise DemoFailed(f"{file} has {file.stat().st_size} bytes, and may have {MOST}.")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
