"""The report's pages in a real browser, headless Chromium, on a phone and a desk, without the
network: nothing sticks out sideways, fails, is missing or too pale to read."""
import shutil

import pytest

from attnlib.report.page import notebooks_dir, notebooks_in, report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs pip install -e .[browser]")
CONTRAST = 4.5              # WCAG 2.1 AA, of body text
OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"
STICKS_OUT = "document.documentElement.scrollWidth > innerWidth"
MISSING = """[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"""
PALE = """least => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const c = numbers(getComputedStyle(element).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || !element.getClientRects().length) continue;
    const a = light(numbers(getComputedStyle(element).color)), b = light(behind(element));
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < least) found.push(text);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    installed = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: python -m playwright install chromium ({error.name})")
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The stored notebooks, as the template renders them now."""
    return report(target=tmp_path_factory.mktemp("report") / "index.html").parent


def faults(browser, path, width: int) -> list[str]:
    """What is wrong with a page in a window of that width."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    page, found = context.new_page(), []
    page.on("console", lambda message: found.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: found.append(f"error: {error}"))
    page.on("request", lambda request: request.url.startswith(("file:", "data:"))
            or found.append(f"network: {request.url}"))
    page.goto(path.as_uri())
    page.evaluate(OPEN_ALL)
    if page.evaluate(STICKS_OUT):
        found.append("sticks out sideways")
    found += [f"picture missing: {alt}" for alt in page.evaluate(MISSING)]
    found += [f"too pale: {text[:60]}" for text in page.evaluate(PALE, CONTRAST)]
    context.close()
    return found


@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_can_be_read(browser, pages, width):
    files = sorted(pages.glob("*.html"))
    assert len(files) == len(notebooks_in(notebooks_dir()))
    assert {path.name: found for path in files if (found := faults(browser, path, width))} == {}


@pytest.mark.parametrize(("body", "says"), [
    ("<p style='width: 500px'>wide</p>", "sticks out sideways"),
    ("<script>console.error('oh')</script>", "console: oh"),
    ("<script>throw 'no'</script>", "error: no"),
    ("<img alt='gone' src='data:image/png;base64,AAAA'>", "picture missing: gone"),
    ("<script>fetch('https://example.org')</script>", "network: https://example.org/"),
    ("<details><p style='color: #888'>grey</p></details>", "too pale: grey"),
    ("<p style='color: #777; background: #eee'>grey</p>", "too pale: grey")])
def test_what_is_found(browser, tmp_path, body, says):
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><body>{body}</body>")
    assert says in faults(browser, path, 390)
