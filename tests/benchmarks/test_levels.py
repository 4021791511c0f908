import csv
from pathlib import Path

import pytest
from torchvision.transforms.v2.functional import gaussian_blur

from tests.benchmarks.conftest import save, tissue
from torchmetrics_rl2 import RL2Error


def blurred(images, level):
    return images if level == 0 else gaussian_blur(images, [13, 13], [abs(level) * 0.8])


def rows_of(result, key="rl2"):
    return {row["level"]: row[key] for row in result["rows"]}


@pytest.mark.parametrize("pattern", ["{}", "z{}", "level_{}"])
def test_levels_are_the_signed_numbers_that_folders_end_in(run, tmp_path, pattern):
    # A sign taken for a hyphen would make z-2 and z2 one level.
    for level in (-2, -1, 0, 1, 2):
        save(blurred(tissue(4), level), tmp_path / "stack" / pattern.format(level))
    real = save(tissue(6, seed=5), tmp_path / "real")
    result = run("blur_by_z_level", tmp_path / "stack", "--real", real)
    values = rows_of(result)
    assert list(values) == [-2, -1, 0, 1, 2]
    assert values[0] < values[1] < values[2]
    assert values[-2] == values[2]
    assert result["rho"] == pytest.approx(1)
    assert result["rho_patches"] > 0


def test_the_level_in_focus_need_not_be_zero(run, tmp_path):
    # Slices of FocusPath are numbered from 1; with the wrong origin the lower half of the stack anticorrelates.
    for level in (1, 2, 3, 4, 5):
        save(blurred(tissue(3), level - 3), tmp_path / "stack" / f"Slice{level:02}")
    real = save(tissue(6, seed=5), tmp_path / "real")
    right = run("blur_by_z_level", tmp_path / "stack", "--real", real, "--focus", 3)
    wrong = run("blur_by_z_level", tmp_path / "stack", "--real", real)
    assert right["rho"] == pytest.approx(1)
    assert wrong["rho"] < 0.5
    assert right["rho_patches"] > wrong["rho_patches"] + 0.3


def focuspath(folder):
    """Miniature of FocusPath Full: a flat folder of PNG and FocusLiteNN's list, which says .tif."""
    lines = []
    for level in (0, 1, 2):
        name = f"Slide01_Strip00_Slice{level:02}_Position{{:02}}.png"
        save(blurred(tissue(3), level), folder / "FocusPath_full", name)
        lines += [f"{name.format(i)[:-4]}.tif,1,0,{level},{i},88.{i},{-level}" for i in range(3)]
    (folder / "FocusPath_full_split1.txt").write_text("\n".join(lines) + "\n")
    return folder / "FocusPath_full", folder / "FocusPath_full_split1.txt"


def test_a_list_of_focuslitenn_gives_the_levels_of_focuspath(run, tmp_path):
    # Its last column is the level; the one before it, a score, would be taken for it by a reader of two columns.
    stack, levels = focuspath(tmp_path)
    result = run("blur_by_z_level", stack, "--levels", levels, "--real", save(tissue(6, seed=5), tmp_path / "real"))
    assert [(row["level"], row["n"]) for row in result["rows"]] == [(-2, 3), (-1, 3), (0, 3)]
    assert result["rho"] == pytest.approx(1)


def test_a_csv_with_a_header_gives_the_same_levels(run, tmp_path):
    stack, levels = focuspath(tmp_path)
    with (tmp_path / "levels.csv").open("w", newline="") as file:
        rows = [(line.split(",")[-1], line.split(",")[0]) for line in levels.read_text().split()]
        csv.writer(file).writerows([("level", "path"), *rows])
    first, second = (
        run("blur_by_z_level", stack, "--levels", file, "--real", stack) for file in (levels, tmp_path / "levels.csv")
    )
    assert first["rows"] == second["rows"]


def test_a_simulated_stack_is_as_blurred_on_one_side_as_asked(run, tmp_path):
    clean = save(tissue(3), tmp_path / "clean")
    even = rows_of(run("blur_by_z_level", clean, "--simulate", "--real", clean))
    uneven = rows_of(run("blur_by_z_level", clean, "--simulate", "--real", clean, "--asymmetry", 1.25))
    assert list(even) == list(range(-8, 8))
    assert even[-5] == even[5] == uneven[5]
    assert uneven[-4] == even[5]
    assert even[0] == 0 < even[3] < even[7]


def test_a_list_may_have_spaces_for_commas(run, tmp_path):
    stack, levels = focuspath(tmp_path)
    rows = [line.split(",") for line in levels.read_text().split()]
    (tmp_path / "spaces.txt").write_text("\n".join(f"{row[0][:-4]} {row[-1]}" for row in rows))
    first, second = (
        run("blur_by_z_level", stack, "--levels", file, "--real", stack) for file in (levels, tmp_path / "spaces.txt")
    )
    assert first["rows"] == second["rows"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stack",), "ends in no z-level"),
        (("stack/blurred",), "--simulate"),
        (("stack", "--levels", "unknown.csv"), "no image of that name"),
        (("stack", "--levels", "wrong.csv"), "level last"),
        (("stack/blurred", "--simulate", "--radius", "2"), "at most 6 px"),
    ],
)
def test_what_is_no_stack_is_said_to_be_none(run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    save(tissue(2), tmp_path / "stack" / "blurred")
    Path("unknown.csv").write_text("path,level\nelsewhere.png,1\n")
    Path("wrong.csv").write_text("patch 0.png,one\n")
    with pytest.raises(RL2Error, match=said):
        run("blur_by_z_level", *arguments)
