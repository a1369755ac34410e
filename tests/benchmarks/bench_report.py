"""The page of a search: its size, and the seconds until it is written and drawn, by the number of trials.

    PYTHONPATH=. .venv/bin/python tests/benchmarks/bench_report.py

"written" and "drawn" are seconds of the processor: of this process, and of the main thread of the browser.
"""

import tempfile
import time
from pathlib import Path

from search.ledger.file import NAME
from search.report.page.files import read_content, write_page
from tests.search.constructed import write_ledger
from tests.search.report.page.browser import address, chromium


def main() -> None:
    print(f"{'trials':>6} {'MB':>6} {'written':>8} {'drawn':>6} {'opened':>7}")
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        for trials in (16, 200, 2000):
            folder = Path(name) / str(trials)
            write_ledger(folder / NAME, trials, stopped=0.5, epochs=30)
            began = time.process_time()
            write_page(read_content(folder, str(folder)), folder / "report.html")
            written = time.process_time() - began
            page = browser.new_page()
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            began = time.perf_counter()
            page.goto(address(folder / "report.html"))
            page.wait_for_selector("html[data-ready=yes]", state="attached")
            opened = time.perf_counter() - began
            metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
            size = (folder / "report.html").stat().st_size / 1e6
            print(f"{trials:6} {size:6.2f} {written:8.2f} {metrics['TaskDuration']:6.2f} {opened:7.2f}")


if __name__ == "__main__":
    main()
