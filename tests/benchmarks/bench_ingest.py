"""Rate of the ingest beside that of another checkout, in pairs: clips of videos and of folders of images.

    python tests/benchmarks/bench_ingest.py OTHER [--pairs 10]

Both decode the same files on one core, in turn; the order changes from pair to pair. Times are CPU times of the process
and of its workers, so that other processes on the machine change them little. The last column is the median over the
pairs of the rate of this checkout divided by that of OTHER, with the quartiles.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles

HERE = Path(__file__).parents[2]

#: Written for the interface that both checkouts have.
INGEST = """
import json, resource, sys, tempfile
from pathlib import Path
from pydantic import TypeAdapter
import vattn.data.ingest
from vattn.config import AnyData
from vattn.data.config import StoreConfig
assert vattn.data.ingest.__file__.startswith(sys.argv[3])
def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
root, data = Path(sys.argv[1]), TypeAdapter(AnyData).validate_json(sys.argv[2])
before = cpu()
with tempfile.TemporaryDirectory() as cache:
    vattn.data.ingest.ingest(data.manifest(root), root, Path(cache), StoreConfig(size=128), jobs=1)
    print(json.dumps(cpu() - before))
"""


def seconds(checkout: Path, root: Path, kind: str) -> float:
    """Return the CPU time in which a checkout ingests a list."""
    data = json.dumps({"kind": "list", "root": str(root), "train": f"{kind}.txt", "val": "none"})
    command = [sys.executable, "-c", INGEST, str(root), data, str(checkout)]
    environment = {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PATH": ""}
    ended = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout)


def write(root: Path, clips: int) -> None:
    """Write videos and folders of images of 320 x 240 pixels, and their lists with and without numbers of frames."""
    import av
    from PIL import Image

    from tests.benchmarks.bench_data import LENGTH, footage

    for number in range(clips):
        footage(root / f"{number}.mp4", number)
        (root / str(number)).mkdir()
        with av.open(str(root / f"{number}.mp4")) as container:
            for t, frame in zip(range(LENGTH // 5), container.decode(video=0), strict=False):
                Image.fromarray(frame.to_ndarray(format="rgb24")).save(root / f"{number}/img_{t + 1:05}.jpg")
    (root / "videos.txt").write_text("".join(f"{number}.mp4 {LENGTH} {number}\n" for number in range(clips)))
    (root / "folders.txt").write_text("".join(f"{number} {LENGTH // 5} {number}\n" for number in range(clips)))


def main() -> None:
    """Print a line for each kind of clips."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("other", type=Path, help="folder of another checkout")
    parser.add_argument("--pairs", type=int, default=10, help="runs of each checkout")
    parser.add_argument("--clips", type=int, default=20, help="clips of one run")
    arguments = parser.parse_args()
    checkouts = [HERE, arguments.other.resolve()]
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), arguments.clips)
        for kind in ("videos", "folders"):
            ratios, rates = [], []
            for pair in range(arguments.pairs):
                order = checkouts if pair % 2 else checkouts[::-1]
                took = {checkout: seconds(checkout, Path(scratch), kind) for checkout in order}
                here, other = (took[checkout] for checkout in checkouts)
                ratios.append(other / here)
                rates.append(arguments.clips / here)
            low, _, high = quantiles(ratios, n=4)
            print(f"{kind}: {median(rates):.2f} clips/s, ratio {median(ratios):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
