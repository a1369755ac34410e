from collections import Counter
from pathlib import Path

from tests.vattn.data.layouts.support import config, table, write


def test_lists_name_training_test_and_unused_clips(tmp_path: Path) -> None:
    lists = "testTrainMulti_7030_splits"
    films = [f"Film{number}_wave_u_nm_np1_fr_med_{clip}" for number in range(4) for clip in (0, 1)]
    lines = [f"{film}.avi {1 if film < 'Film3' else clip}" for clip, film in zip([0, 0, 0, 0, 0, 0, 2, 0], films)]  # noqa: B905
    write(
        tmp_path,
        {
            f"{lists}/wave_test_split2.txt": "".join(f"{line} \n" for line in lines),
            f"{lists}/wave_test_split1.txt": "other.avi 1\n",
            f"{lists}/brush_hair_test_split2.txt": "a_brush_hair_u_0.avi 2\n",
            "brush_hair/a_brush_hair_u_0.avi": "",
        }
        | {f"wave/{film}.avi": "" for film in films},
    )
    data = config("hmdb51", tmp_path, split=2)

    manifest = table(data)

    assert data.labels() == ("brush_hair", "wave")
    assert Counter(row["split"] for row in manifest) == {"train": 4, "val": 2, "test": 2}  # one of three films
    held_out = {row["path"][:10] for row in manifest if row["split"] == "val"}
    assert len(held_out) == 1
    assert not held_out & {row["path"][:10] for row in manifest if row["split"] == "train"}
