#!/usr/bin/python3
"""Opens pages of `fairslice report` in Chromium, as a reader does: on a screen and a telephone, light and dark, and on paper.

browser.py DIRECTORY: every *.html in it, and every *.svg. Chromium is spoken to over two pipes, in its own protocol."""

import base64
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.dom.minidom
from pathlib import Path

# What no element may be, and what a page is asked. Nothing of it is in the page: its own policy allows no script.
PROBE = r"""
(() => {
  const wrong = [];
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) wrong.push(`${document.documentElement.scrollWidth} wide in ${width}`);
  const foreign = document.querySelectorAll('script, iframe, img, image, use, link, object, embed, form, input, base, a:not([href^="#"])');
  for (const element of foreign) wrong.push(`an element of somebody else's: ${element.outerHTML.slice(0, 80)}`);
  const visible = element => element.getClientRects().length > 0;
  for (const element of document.querySelectorAll('*')) {
    for (const {name} of element.attributes)
      if (/^on|^(src|srcset|action|formaction|xlink:href)$/.test(name)) wrong.push(`${element.localName} has ${name}`);
    const right = element.getBoundingClientRect().right;
    if (visible(element) && right > width + 1 && !element.closest('.scroll') && !element.ownerSVGElement)
      wrong.push(`${element.localName}.${element.getAttribute('class')} ends at ${right} of ${width}`);
  }
  for (const box of document.querySelectorAll('.scroll'))
    if (box.tabIndex < 0 || !box.getAttribute('aria-label')) wrong.push('a table that no keyboard can scroll');
  const channels = colour => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const opaque = colour => colour !== 'none' && (channels(colour)[3] ?? 1) > 0;
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const tile = at.localName === 'svg' && at !== element && [...at.children].find(child => child.classList.contains('tile'));
      if (tile && element.localName === 'text' && at.ownerSVGElement && opaque(getComputedStyle(tile).fill))
        return channels(getComputedStyle(tile).fill);
      const colour = getComputedStyle(at).backgroundColor;
      if (opaque(colour)) return channels(colour);
    }
    return [255, 255, 255];
  };
  let texts = 0, lowest = 99;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !visible(element) || ['title', 'desc', 'style'].includes(element.localName)) continue;
    const style = getComputedStyle(element);
    const colour = element.localName === 'text' ? style.fill : style.color;
    const contrast = ratio(channels(colour), behind(element));
    texts++;
    lowest = Math.min(lowest, contrast);
    if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(2)}: ${walker.currentNode.data.slice(0, 40)}`);
  }
  const figures = [...document.querySelectorAll('svg[role=img]')].filter(visible);
  for (const figure of figures)
    if (!figure.querySelector('title')?.textContent) wrong.push('a figure without words');
  const headings = document.querySelectorAll('main > section > h2').length;
  return {wrong: wrong.slice(0, 10), texts, lowest, figures: figures.length, headings, text: document.body.innerText};
})()
"""


class Browser:
    def __init__(self, directory):
        to_read, self.to = os.pipe()
        self.of, to_write = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
                   "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
                   f"--user-data-dir={directory}", "about:blank"]
        redirect = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(["bash", "-c", redirect, "bash", "chromium", *options],
                                        pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.numbers = itertools.count(1)
        self.unread = b""
        self.events = []
        self.session = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Network", "Log", "Runtime", "Accessibility"]:
            self.ask(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.unread:
            more = os.read(self.of, 1 << 20)
            if not more:
                sys.exit("chromium has ended")
            self.unread += more
        text, self.unread = self.unread.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **parameters):
        number = next(self.numbers)
        request = {"id": number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, url, width, scheme):
        """Gives what the page has asked the network for, and what the browser complains of."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())
        # What is fetched late is fetched after two frames.
        self.ask("Runtime.evaluate", awaitPromise=True,
                 expression="new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
        asked = [event["params"]["request"]["url"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        complaints = [event["params"]["entry"]["text"] for event in self.events if event.get("method") == "Log.entryAdded"]
        return asked, complaints

    def value(self, expression):
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            sys.exit(f"in the page: {answer['exceptionDetails']}")
        return answer["result"]["value"]

    def end(self):
        self.ask("Browser.close")
        self.process.wait(20)


def look(browser, page):
    """What is wrong with a page."""
    wrong = []
    for width, scheme in itertools.product([1280, 390], ["light", "dark"]):
        asked, complaints = browser.open(page.as_uri(), width, scheme)
        found = browser.value(PROBE)
        of = f"{page.name}, {width} px, {scheme}"
        others = [url for url in asked if url != page.as_uri()]
        wrong += [f"{of}: {what}" for what in found["wrong"] + [f"asks for {url}" for url in others] + complaints]
        if found["headings"] != 7 or found["texts"] < 50 or found["figures"] < 1 or asked != [page.as_uri()]:
            wrong.append(f"{of}: is no report: {found['headings']} headings, {found['texts']} texts, asked {asked}")
        if page.name == "hostile.html" and not all(text in found["text"] for text in ["<script>", "\\xff", "\\u{202e}", "\"'"]):
            wrong.append(f"{of}: names are missing")
        nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
        nameless = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img", "table", "region")
                    and not node.get("ignored") and not node.get("name", {}).get("value") and node["role"]["value"] != "table"]
        if nameless:
            wrong.append(f"{of}: {len(nameless)} figures or regions have no name for a screen reader")
        # A picture that is higher cannot be taken.
        height = min(browser.value("document.documentElement.scrollHeight"), 8000)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        picture = base64.b64decode(browser.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])
        (page.parent / f"{page.stem}-{width}-{scheme}.png").write_bytes(picture)
        print(f"{of}: {found['texts']} texts, contrast {found['lowest']:.1f} at least, {found['figures']} figures")
    paper = base64.b64decode(browser.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"])
    page.with_suffix(".pdf").write_bytes(paper)
    sizes = re.findall(rb"/MediaBox\s*\[0 0 (\d+)[.\d]* (\d+)[.\d]*\]", paper)
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", paper))
    print(f"{page.name}: {pages} pages of A4")
    if set(sizes) - {(b"594", b"841"), (b"595", b"841"), (b"595", b"842")} or not 1 <= pages <= 200:
        wrong.append(f"{page.name}: {pages} pages of {set(sizes)}")
    return wrong


def main():
    directory = Path(sys.argv[1]).resolve()
    wrong = []
    pages = sorted(directory.glob("*.html"))
    if not pages:
        sys.exit(f"no page in {directory}")
    with tempfile.TemporaryDirectory() as own:
        browser = Browser(own)
        for page in pages:
            wrong += look(browser, page)
        for picture in sorted(directory.glob("*.svg")):
            xml.dom.minidom.parse(str(picture))
            asked, complaints = browser.open(picture.as_uri(), 1280, "light")
            tiles = browser.value("document.querySelectorAll('svg > svg > rect.tile').length")
            print(f"{picture.name}: {tiles} tiles")
            if asked != [picture.as_uri()] or complaints or tiles < 5 or browser.value("document.scripts.length"):
                wrong.append(f"{picture.name}: {tiles} tiles, asked {asked}, {complaints}")
        browser.end()
    for what in wrong:
        print(f"WRONG {what}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
